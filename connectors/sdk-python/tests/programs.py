"""Starts programs and servers of their own process, and ends them by their id."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SOURCES = ROOT / "src"
STORY = EXAMPLES / "story.yaml"
# The longest that a program may take; nothing waits for it to pass.
DEADLINE_S = 300


def binary() -> str | None:
    """The `omium` binary that the tests run against."""
    return os.environ.get("OMIUM_BIN") or None


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> str:
        """The last line of its output."""
        lines = self.out.strip().splitlines()
        return lines[-1] if lines else ""


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a program that runs without Omium: nothing that this process was told about it."""
    told = ("OMIUM_", "OPENAI_", "PYTHONPATH", "COV_", "COVERAGE_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    quiet = {"PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    crew = {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_DISABLE_TRACKING": "true", "CREWAI_TRACING_ENABLED": "false"}
    return {**plain, **quiet, **crew, **(more or {})}


def seen_by_omium(more: dict[str, str]) -> dict[str, str]:
    """The same under `omium exec`: both folders of the package stand on the path."""
    return environment({"PYTHONPATH": f"{SOURCES}{os.pathsep}{SOURCES / 'omium' / '_site'}", **more})


def run(program: Path, env: dict[str, str], cwd: Path | None = None) -> Ended:
    """Runs a Python program to its end."""
    done = subprocess.run(
        [sys.executable, str(program)],
        env=env,
        cwd=cwd or program.parent,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def scripted_model(script: Path) -> Iterator[int]:
    """`omium mock-llm` on a free port."""
    omium = binary()
    assert omium, "OMIUM_BIN names the omium binary"
    process = subprocess.Popen(
        [omium, "mock-llm", str(script), "--port", "0"], stderr=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1", line)
        assert found, f"omium mock-llm says: {line}{process.stderr.read()}"
        yield int(found.group(1))
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
