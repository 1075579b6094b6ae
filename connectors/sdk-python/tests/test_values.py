"""Results come back exactly as they were, or it is said that they do not."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

import misfits
from omium.tools import objects, values


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: int
    y: list[Any] = field(default_factory=list)


class Model(BaseModel):
    name: str
    inner: Point | None = None
    left_out: int = 3


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


@pytest.mark.parametrize("make", misfits.KEPT)
def test_objects_come_back_by_what_they_hold_and_none_of_their_code_runs(make: Callable[[], Any]) -> None:
    value = make()
    misfits.RAN.clear()
    again = values.decode(through_a_server(values.encode(value)))
    assert type(again) is type(value)
    assert again == value
    assert held(again) == held(value)
    assert not misfits.RAN


def held(value: Any) -> Any:
    """All that pickle would keep of it, beside its class."""
    return value.__reduce_ex__(2)[1:3] if hasattr(value, "__dict__") else value


@pytest.mark.parametrize("make", misfits.LEFT)
def test_what_does_not_come_back_is_refused_whatever_its_class_raises(make: Callable[[], Any]) -> None:
    for value in (make(), [make()], {"key": make()}, misfits.Holder(make())):
        with pytest.raises(values.NotExact):
            values.encode(value)


def test_a_class_that_compares_as_it_likes_is_not_asked() -> None:
    again = values.decode(values.encode(misfits.Unequal("u")))
    assert vars(again) == {"name": "u"}


@pytest.mark.parametrize("make", [*misfits.KEPT, *misfits.LEFT])
def test_arguments_of_any_class_are_written_and_are_the_same_in_each_run(make: Callable[[], Any]) -> None:
    def written() -> str:
        return json.dumps(values.arguments({"a": make(), "b": [make()]}), allow_nan=False)

    assert written() == written()
    assert " at 0x" not in written()
    assert len(written()) < 1 << 20


def test_what_is_too_large_or_deep_for_the_gate_is_still_told_apart() -> None:
    one, other = values.arguments({"t": "a" * (1 << 21)}), values.arguments({"t": "b" * (1 << 21)})
    assert one != other
    assert one[values.TAG] == other[values.TAG] == "digest"
    nested: Any = 1
    for _ in range(150):
        nested = [nested]
    assert values.arguments({"n": nested})[values.TAG] == "digest"


def test_what_is_recorded_has_nothing_imported() -> None:
    sys.modules.pop("this", None)
    for kind in ("this:s", "os:path.join", "misfits:Loud.missing", "no.such:Class", ":", ""):
        for tag in ("object", "enum", "named tuple"):
            with pytest.raises(values.NotExact):
                values.decode({values.TAG: tag, "type": kind, "fields": {}, "name": "x", "items": []})
    assert "this" not in sys.modules


def test_a_class_that_has_changed_does_not_come_back_with_a_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    written = values.encode(misfits.Growing(1))

    @dataclass
    class Growing:
        x: int
        y: int

    monkeypatch.setattr(misfits, "Growing", Growing)
    with pytest.raises(values.NotExact, match="lacks its field `y`"):
        values.decode(written)
    monkeypatch.delattr(misfits, "Growing")
    with pytest.raises(values.NotExact, match="the class misfits:Growing is not there"):
        values.decode(written)


def test_what_another_release_wrote_or_no_class_is_named() -> None:
    with pytest.raises(values.NotExact, match="another release"):
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
