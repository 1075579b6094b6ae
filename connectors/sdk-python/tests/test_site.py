"""What happens at the start of a program under `omium exec`, and what it costs a program that it cannot see."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import programs

SITE = programs.SOURCES / "omium" / "_site"
GATE = {"OMIUM_GATE": "http://127.0.0.1:9/x/ex_test"}


def python(code: str, path: list[Path], more: dict[str, str]) -> programs.Ended:
    env = programs.environment({"PYTHONPATH": os.pathsep.join(map(str, path)), **more})
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    return programs.Ended(done.returncode, done.stdout, done.stderr)


def other_site(folder: Path, code: str) -> Path:
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return folder


def test_a_program_is_instrumented_before_its_first_line_and_loads_no_framework_for_it() -> None:
    code = "import sys, omium.instrumentation as i; print(i._done, {'openai', 'httpx', 'pydantic'} & set(sys.modules))"
    ended = python(code, [programs.SOURCES, SITE], GATE)
    assert (ended.result, ended.err) == ("True set()", "")


def test_without_a_gate_the_package_is_not_even_loaded() -> None:
    ended = python("import sys; print('omium' in sys.modules)", [programs.SOURCES, SITE], {})
    assert (ended.result, ended.err) == ("False", "")


def test_a_sitecustomize_of_somebody_else_has_its_turn(tmp_path: Path) -> None:
    other = other_site(tmp_path / "other", "import os; os.environ['OTHER'] = 'ran'; mark = 1\n")
    code = "import os, sitecustomize; print(os.environ.get('OTHER'), sitecustomize.mark)"
    ended = python(code, [programs.SOURCES, SITE, other], GATE)
    assert (ended.result, ended.err) == ("ran 1", "")


def test_a_sitecustomize_of_somebody_else_that_fails_fails_as_without_omium(tmp_path: Path) -> None:
    other = other_site(tmp_path / "other", "raise ValueError('theirs')\n")
    ended = python("print('goes on')", [programs.SOURCES, SITE, other], GATE)
    assert ended.result == "goes on"
    assert "ValueError: theirs" in ended.err


def test_unpacked_twice_it_does_not_chain_to_itself(tmp_path: Path) -> None:
    copy = tmp_path / "again"
    shutil.copytree(programs.SOURCES / "omium", copy / "omium")
    path = [programs.SOURCES, SITE, copy, copy / "omium" / "_site"]
    ended = python("print('goes on')", path, GATE)
    assert (ended.result, ended.err) == ("goes on", "")


def test_a_package_that_is_broken_costs_the_program_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(programs.SOURCES / "omium", broken / "omium")
    (broken / "omium" / "errors.py").write_text("raise ImportError('half unpacked')\n")
    ended = python("print('goes on')", [broken, broken / "omium" / "_site"], GATE)
    assert ended.result == "goes on"
    assert ended.err == (
        "omium: this program cannot be seen, neither its agents nor its tools: ImportError: half unpacked\n"
    )


def test_it_can_be_read_in_this_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(SITE), *sys.path])
    monkeypatch.setenv("OMIUM_GATE", GATE["OMIUM_GATE"])
    assert "_hidden" in runpy.run_path(str(SITE / "sitecustomize.py"))


def test_the_package_is_installed_from_its_folder_and_needs_nothing(tmp_path: Path) -> None:
    copy = tmp_path / "folder"
    ignored = shutil.ignore_patterns("*.egg-info", "build", "__pycache__", "tests", "examples")
    shutil.copytree(programs.ROOT, copy, ignore=ignored)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--target"]
    subprocess.run([*install, str(tmp_path / "there"), str(copy)], check=True, env=programs.environment())
    code = "import omium, importlib.metadata as m; print(omium.__version__, m.requires('omium-runtime'))"
    ended = python(code, [tmp_path / "there"], {})
    assert (ended.result, ended.err) == ("0.1.0 None", "")
    assert (tmp_path / "there" / "omium" / "_site" / "sitecustomize.py").exists()
    assert (tmp_path / "there" / "omium" / "py.typed").exists()
