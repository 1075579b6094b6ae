"""Fixtures: a scripted model for all tests of a run, and a gate of its own for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import gate_double
import programs

# Before anything imports httpx or a framework: tests run in one process with all of them.
for name, value in {"OMIUM_GATE": "http://127.0.0.1:9/x/none", "OMIUM_TOKEN": gate_double.TOKEN}.items():
    os.environ[name] = value

import omium  # noqa: E402 - the environment decides whether this does anything
from omium import fence, patience  # noqa: E402

omium.instrument()
del os.environ["OMIUM_GATE"], os.environ["OMIUM_TOKEN"]


@pytest.fixture(scope="session")
def story_model() -> Iterator[int]:
    with programs.scripted_model(programs.STORY) as port:
        yield port


@pytest.fixture(scope="session")
def parrot() -> Iterator[int]:
    """A model that calls a tool where the question names one, and else repeats the question."""
    with programs.scripted_model(Path(__file__).parent / "parrot.yaml") as port:
        yield port


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A gate that is away is not waited for long, and what one test has closed is open for the next one."""
    monkeypatch.setattr(patience, "TOTAL_S", 0.5)
    monkeypatch.setattr(patience, "_FIRST_S", 0.02)
    yield
    fence._closed.clear()


@pytest.fixture
def gate(parrot: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[gate_double.Gate]:
    """A gate, and this process under it."""
    with gate_double.serving(parrot) as served:
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)
        yield served
