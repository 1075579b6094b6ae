"""LangGraph goes on from its own checkpoints: what is recorded belongs to its step, not to a count of the process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import desk as desks
import programs
from ahead import ahead
from desk import Desk

SCRIPT = Path(__file__).parent / "rounds.py"
WAYS = ["plain", "nested", "sent", "function"]
KILLS = 4


@dataclass(frozen=True)
class Outcome:
    ended: programs.Ended
    deaths: int
    asked: int
    payments: list[str]
    shown: str


def killed_again_and_again(desk: Desk, way: str) -> Outcome:
    """Each attempt dies at a random place, until one is let live."""
    dice = random.Random(way)
    numbers = iter(range(1, 100))
    desk.vendor.script = lambda _: str(next(numbers))
    checkpoints = str(desk.folder / "checkpoints.db")
    execution: str | None = None
    for _ in range(KILLS):
        running = desk.exec(SCRIPT, resume=execution, WAY=way, CHECKPOINTS=checkpoints, DIES_AT=str(dice.randint(1, 6)))
        ended = running.end()
        execution = desk.execution()
        if ended.code == 0:
            break
        assert ended.code == 137, ended.err
    ended = desk.exec(SCRIPT, resume=execution, WAY=way, CHECKPOINTS=checkpoints).end()
    shown = desk.omium("show", desk.execution())
    return Outcome(ended, KILLS, len(desk.vendor.asked), desk.counter.read_text().splitlines(), shown)


@pytest.fixture(scope="module")
def outcome(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, story_model: int
) -> Iterator[Callable[[str], Outcome]]:
    def tell(way: str) -> Outcome:
        with desks.desk(tmp_path_factory.mktemp("desk"), story_model) as desk:
            return killed_again_and_again(desk, way)

    with ahead(request, "way", tell) as told:
        yield told


@pytest.mark.parametrize("way", WAYS)
def test_no_draw_is_served_twice_or_paid_twice_and_no_payment_is_made_twice(
    way: str, outcome: Callable[[str], Outcome]
) -> None:
    seen: Any = outcome(way)
    assert (seen.ended.code, seen.ended.result) == (0, "1,2,3,4,5"), seen.ended.err
    assert seen.asked == 5
    assert seen.payments == ["pay 0"] * 5
