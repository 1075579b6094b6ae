"""What is done to a module once it is there: before, during and after its import; and when it is not as expected."""

from __future__ import annotations

import importlib
import importlib.resources
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from omium import instrumentation, settings
from omium.imports import when_imported
from omium.wrapping import scoped, wrap_in_subclasses, wrap_method


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of its own, `sample`, with a module `sample.part`."""
    folder = tmp_path / "sample"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "part.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "sample"]:
        del sys.modules[name]


def test_a_module_is_met_directly_after_its_code_has_run(package: Path) -> None:
    met: list[int] = []
    when_imported("sample.part", lambda module: met.append(module.value))
    assert met == []
    part = importlib.import_module("sample.part")
    importlib.import_module("sample.part")
    assert met == [1]
    loaders = {type(part.__loader__).__name__, type(getattr(part.__spec__, "loader", None)).__name__}
    assert loaders == {"SourceFileLoader"}, "no trace is left"
    assert importlib.resources.files("sample").joinpath("part.py").read_text() == "value = 1\n"
    del package


def test_a_module_that_is_there_is_met_at_once(package: Path) -> None:
    importlib.import_module("sample.part")
    met: list[str] = []
    when_imported("sample.part", lambda module: met.append(module.__name__))
    assert met == ["sample.part"]
    del package


def test_a_module_that_does_not_exist_is_still_missing(package: Path) -> None:
    when_imported("sample.absent", lambda _: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("sample.absent")
    del package


def test_a_patch_that_fails_is_told_and_the_import_goes_on(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(module: ModuleType) -> None:
        raise AttributeError(f"{module.__name__} has changed")

    patches: list[tuple[str, Any, str]] = [
        ("sample.part", broken, "its parts"),
        ("sample.moved", broken, "what has moved"),
    ]
    monkeypatch.setattr(instrumentation, "PATCHES", patches)
    monkeypatch.setattr(instrumentation, "_done", False)
    monkeypatch.setenv("OMIUM_GATE", "http://127.0.0.1:9/x/none")
    monkeypatch.setattr(settings, "_told", set())
    instrumentation.instrument()
    importlib.import_module("sample.part")
    err = capsys.readouterr().err
    assert "cannot see its parts: AttributeError: sample.part has changed" in err
    assert "cannot see what has moved: there is no sample.moved in this release" in err
    del package


def test_without_a_gate_nothing_is_instrumented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMIUM_GATE", raising=False)
    monkeypatch.setattr(instrumentation, "_done", False)
    before = list(sys.meta_path)
    instrumentation.instrument()
    assert instrumentation._done is False
    assert sys.meta_path == before


def test_every_module_that_is_looked_out_for_exists_in_the_releases_that_are_tested() -> None:
    missing = [name for name, _, _ in instrumentation.PATCHES if importlib.util.find_spec(name) is None]
    # The MCP client of AutoGen is an extra that the tests do without; its file is there all the same.
    assert missing == []


def test_methods_are_wrapped_in_classes_of_the_past_and_of_the_future_once() -> None:
    entered: list[str] = []

    class Base:
        def work(self) -> str:
            return "base"

        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            entered.append(f"born {cls.__name__}")

    class Past(Base):
        def work(self) -> str:
            return "past"

    def scoping(each: Any) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def scope() -> Iterator[None]:
            entered.append(type(each).__name__)
            yield

        return scope

    wrap_in_subclasses(Base, {"work": scoped(scoping)})

    class Future(Past):
        def work(self) -> str:
            return "future"

    wrap_method(Future, "work", scoped(scoping))
    assert [Base().work(), Past().work(), Future().work()] == ["base", "past", "future"]
    assert entered == ["born Past", "born Future", "Base", "Past", "Future"]
