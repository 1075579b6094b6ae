"""The four programs, one after the other and in parallel, plain and streamed: who calls, and what comes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import gate_double
import programs
from ahead import ahead

SEQUENTIAL = ["crew", "graph", "team", "kernel"]
PARALLEL = [f"{name}_parallel" for name in SEQUENTIAL]
# Who calls, in this order where nothing is parallel.
ORDER = ["Researcher#0", "Researcher#0", "Writer#0", "Reviewer#0"]
RESULT = "REVIEWED: APR: 0%"


@dataclass(frozen=True)
class Way:
    """One way to run a program."""

    program: str
    streamed: bool = False

    def __str__(self) -> str:
        return f"{self.program}{' streamed' if self.streamed else ''}"


WAYS = [
    *[Way(name) for name in SEQUENTIAL],
    *[Way(name, streamed=True) for name in SEQUENTIAL],
    *[Way(name) for name in PARALLEL],
]


@dataclass(frozen=True)
class Seen:
    """A run under the gate."""

    ended: programs.Ended
    calls: list[gate_double.Call]
    tools: list[dict[str, object]]
    tool_runs: list[str]


def observe(way: Way, model: int, folder: Path) -> Seen:
    program = programs.EXAMPLES / f"{way.program}.py"
    counter = folder / f"{way.program}-{way.streamed}"
    own = {"STREAM": "1" if way.streamed else "0", "TOOL_COUNTER": str(counter)}
    with gate_double.serving(model) as gate:
        ended = programs.run(program, programs.seen_by_omium({**gate.environment, **own}))
        return Seen(ended, gate.calls, gate.tools, counter.read_text().splitlines())


@pytest.fixture(scope="module")
def seen(
    request: pytest.FixtureRequest, story_model: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Way], Seen]]:
    folder = tmp_path_factory.mktemp("counters")
    with ahead(request, "way", lambda way: observe(way, story_model, folder)) as observed:
        yield observed


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_call_bears_the_name_of_its_agent(way: Way, seen: Callable[[Way], Seen]) -> None:
    run = seen(way)
    assert (run.ended.code, run.ended.result) == (0, RESULT), run.ended.err
    callers = [call.caller for call in run.calls]
    assert Counter(callers) == Counter(ORDER)
    if way.program in SEQUENTIAL:
        assert callers == ORDER
    assert "omium:" not in run.ended.err


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_tool_is_recorded_and_runs_once(way: Way, seen: Callable[[Way], Seen]) -> None:
    run = seen(way)
    assert [(call["caller"], call["tool"], call["arguments"]) for call in run.tools] == [
        ("Researcher#0", "market_rate", {"currency": "EUR"})
    ]
    assert run.tool_runs == ["market_rate EUR"]


@pytest.mark.parametrize("way", [way for way in WAYS if way.streamed], ids=str)
def test_streamed_means_streamed(way: Way, seen: Callable[[Way], Seen]) -> None:
    assert {call.body.get("stream") for call in seen(way).calls} == {True}
