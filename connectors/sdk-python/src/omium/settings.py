"""What `omium exec` tells the program by its environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

# CrewAI sends telemetry and draws traces unless it is told not to, and a program under test has no use for either.
QUIET = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
}


@dataclass(frozen=True)
class Settings:
    """Where the gate is, and as whom this process speaks to it."""

    gate: str
    token: str
    execution: str


def current() -> Settings | None:
    """The settings, or None where the program runs without Omium and everything here keeps still."""
    gate = os.environ.get("OMIUM_GATE", "").rstrip("/")
    if not gate:
        return None
    return Settings(gate, os.environ.get("OMIUM_TOKEN", ""), os.environ.get("OMIUM_EXECUTION", ""))


def keep_quiet() -> None:
    """Sets the variables that keep frameworks quiet, where the program has not set them itself."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


_told: set[str] = set()


def tell(text: str) -> None:
    """Says a thing once on stderr, where it disturbs no output of the program."""
    if text not in _told:
        _told.add(text)
        print(f"omium: {text}", file=sys.stderr, flush=True)
