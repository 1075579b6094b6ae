"""Read by Python at the start of every program under `omium exec`: instruments it, then lets others have their turn."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder


def _instrument() -> None:
    if not os.environ.get("OMIUM_GATE"):
        return
    try:
        import omium

        omium.instrument()
    except Exception as error:
        # A program that runs unseen is better than one that does not run; but its user must know.
        print(
            f"omium: this program cannot be seen, neither its agents nor its tools: {type(error).__name__}: {error}",
            file=sys.stderr,
        )


def _hidden() -> ModuleSpec | None:
    """The `sitecustomize` that this one hides, further down the path."""
    for entry in sys.path:
        spec = PathFinder.find_spec("sitecustomize", [entry])
        origin = getattr(spec, "origin", None)
        if spec is not None and origin and not _is_this(origin):
            return spec
    return None


def _is_this(origin: str) -> bool:
    # A program that starts another one with Omium's folders unpacked twice would chain for ever by name alone.
    parts = os.path.normpath(origin).split(os.sep)
    return os.path.realpath(origin) == os.path.realpath(__file__) or parts[-3:] == [
        "omium",
        "_site",
        "sitecustomize.py",
    ]


def _chain() -> None:
    spec = _hidden()
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    ours = sys.modules.get("sitecustomize")
    sys.modules["sitecustomize"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        # Python reports what goes wrong in a sitecustomize by itself, as it would have without this one.
        if ours is not None:
            sys.modules["sitecustomize"] = ours
        raise


_instrument()
_chain()
