"""Results come back exactly as they were, or it is said that they do not."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, PrivateAttr

from omium.tools import objects, values


class Colour(Enum):
    RED = "red"


class Word(str):
    """A text of a class of its own."""


@dataclass(frozen=True)
class Point:
    x: int
    y: list[Any] = field(default_factory=list)


class Model(BaseModel):
    name: str
    inner: Point | None = None
    left_out: int = 3


class Secretive(BaseModel):
    _hidden: int = PrivateAttr(default=1)
    shown: int = 2


def through_a_server(written: Any) -> Any:
    """As a server keeps it: keys in order, numbers as far as most readers of JSON have them."""

    def number(text: str) -> float:
        return float(f"{float(text):.15g}")

    return json.loads(json.dumps(written, sort_keys=True, allow_nan=False), parse_float=number)


def check(value: Any) -> None:
    again = values.decode(through_a_server(values.encode(value)))
    assert type(again) is type(value)
    assert repr(again) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1.5,
        0.1 + 0.2,
        5e-324,
        -0.0,
        math.inf,
        2**70,
        2**53,
        "",
        "ü\n\u2028 審",
        "half \ud800",
        [],
        [1, [2, {"a": None}]],
        {"b": 1, "a": {"z": (1, 2), "y": b"\x00\xff"}},
        {1: "one", None: "none", (1, 2): "pair"},
        {values.TAG: "not ours"},
        (),
        frozenset({1}),
        {"x"},
        datetime(2024, 2, 29, 1, 2, 3, 4, timezone.utc),
        date(2024, 2, 29),
        Decimal("1.10"),
        UUID(int=7),
        Colour.RED,
        Point(1, [Point(2)]),
        Model(name="m", inner=Point(3)),
        [Model(name="all", left_out=3), {"second": Point(1), "first": Colour.RED}],
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_value_comes_back_exactly(value: Any) -> None:
    check(value)


def test_values_at_random_come_back_exactly() -> None:
    dice = random.Random(7)

    def leaf() -> Any:
        kinds: list[Callable[[], Any]] = [
            lambda: dice.randint(-(2**80), 2**80),
            lambda: dice.uniform(-1e9, 1e9),
            lambda: "".join(chr(dice.randrange(1, 0x2FFF)) for _ in range(dice.randrange(5))),
            lambda: dice.choice([None, True, False, b"x", Colour.RED, Point(1)]),
        ]
        return dice.choice(kinds)()

    def tree(depth: int) -> Any:
        if depth == 0 or dice.random() < 0.3:
            return leaf()
        items = [tree(depth - 1) for _ in range(dice.randrange(4))]
        return dice.choice([items, tuple(items), {str(leaf()): item for item in items}])

    for _ in range(500):
        check(tree(4))


def test_what_is_plain_is_written_plainly() -> None:
    plain = {"a": [1, 2.5, "text", None], "b": {"c": True}}
    assert values.encode(plain) == plain


def test_what_does_not_come_back_is_refused() -> None:
    class Local(BaseModel):
        name: str = "x"

    changed = Secretive()
    changed._hidden = 5
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), Local(), changed, endless, len, Word("w"), {"k": iter([])}, {"half \ud800": 1}, 1j):
        with pytest.raises(values.NotExact):
            values.encode(value)


def test_what_a_newer_release_wrote_or_no_class_is_named() -> None:
    with pytest.raises(values.NotExact, match="newer release"):
        values.decode({values.TAG: "future"})
    with pytest.raises(values.NotExact, match="no class"):
        objects.found("json:dumps")
    with pytest.raises(values.NotExact, match="no class of fields"):
        values.decode({values.TAG: "object", "type": "builtins:int", "fields": {}})


def test_arguments_are_always_written_and_hold_no_addresses() -> None:
    written = values.readable(
        {1: {"b", "a"}, "o": object(), "n": math.nan, "m": [Model(name="m")], "t": (1, Colour.RED)}
    )
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert written["o"] == {values.TAG: "opaque", "type": "builtins:object"}
    assert written["1"] == ["a", "b"]
    assert " at 0x" not in json.dumps(written)
