"""What a tool does to the world decides whether it may be repeated when nobody knows how it ended."""

from __future__ import annotations

import os
from enum import Enum
from typing import Any

from omium import settings


class Effect(str, Enum):
    """The classes that the gate knows, and one that it never sees."""

    READ = "read"
    IDEMPOTENT = "idempotent"
    WRITE = "write"
    IRREVERSIBLE = "irreversible"
    # Runs in each attempt and is not recorded: it works on the program's own memory, or only makes calls that are
    # recorded themselves, such as a tool that runs another agent.
    LOCAL = "local"

    @property
    def repeatable(self) -> bool:
        return self in (Effect.READ, Effect.IDEMPOTENT)


DECLARED = "__omium_effect__"
# Where frameworks keep the function that a tool was made of.
_INNER = ("func", "coroutine", "_func", "method", "_method", "__func__")
_by_name: dict[str, Effect] = {}


def of(name: str, tool: Any, framework_says: Effect | None = None) -> Effect:
    """The environment's word first, then the program's, then the framework's; else a write, never repeated silently."""
    return _from_environment().get(name) or declared(tool) or _by_name.get(name) or framework_says or Effect.WRITE


def declared(tool: Any) -> Effect | None:
    """What was declared for a tool, on itself or on the function that it is made of."""
    for place in [tool, *(_attribute(tool, name) for name in _INNER)]:
        effect = _attribute(place, DECLARED)
        if isinstance(effect, Effect):
            return effect
    return None


def declare(tool: Any, effect: Effect) -> None:
    """Declares the class of a tool that a framework has made."""
    inner = [each for each in (_attribute(tool, name) for name in _INNER) if each is not None]
    marked = [each for each in inner if _mark(each, effect)]
    name = _attribute(tool, "name")
    if not marked and not _mark(tool, effect):
        if not isinstance(name, str):
            raise TypeError(f"{tool!r} is neither a function nor a tool with a name; declare it in OMIUM_TOOL_EFFECTS")
        _by_name[name] = effect


def _mark(target: Any, effect: Effect) -> bool:
    try:
        setattr(target, DECLARED, effect)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def home(target: Any) -> str:
    """The module that a function or a class comes from."""
    return str(_attribute(target, "__module__") or "")


def _attribute(target: Any, name: str) -> Any:
    try:
        return getattr(target, name, None)
    except Exception:
        # Properties of other people's classes may raise what they like.
        return None


def _from_environment() -> dict[str, Effect]:
    """`OMIUM_TOOL_EFFECTS="search=read,lookup=idempotent"`."""
    found: dict[str, Effect] = {}
    for entry in os.environ.get("OMIUM_TOOL_EFFECTS", "").split(","):
        name, _, word = entry.strip().rpartition("=")
        if not entry.strip():
            continue
        try:
            found[name.strip()] = Effect(word.strip())
        except ValueError:
            known = ", ".join(effect.value for effect in Effect)
            settings.tell(f"OMIUM_TOOL_EFFECTS: `{entry.strip()}` is left out; write NAME=CLASS, with one of: {known}")
    return found
