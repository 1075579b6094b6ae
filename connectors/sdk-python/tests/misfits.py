"""Classes that misbehave when somebody looks at them, copies them, compares them or makes them again."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from datetime import datetime, time, timedelta, timezone, tzinfo
from enum import Flag
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

# How often a constructor or a validator of these classes has run.
RAN: collections.Counter[str] = collections.Counter()


class Order(BaseModel):
    order_id: int = Field(alias="orderId")
    lines: list[str] = []


class Choosy(BaseModel):
    """Takes from outside another form than it holds."""

    amount: int

    @field_validator("amount", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> int:
        RAN["validator"] += 1
        if not isinstance(value, str):
            raise TypeError("an amount is given as text")
        return int(value.removesuffix(" EUR"))

    @model_validator(mode="after")
    def _count(self) -> Choosy:
        RAN["validator"] += 1
        return self


class Secretive(BaseModel):
    _hidden: int = PrivateAttr(default=1)
    shown: int = 2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


@dataclass
class Once:
    """Cannot be made from what it holds, and counts how often it is made."""

    total: int = field(init=False)
    first: InitVar[int]
    note: str = field(default="", init=False, compare=False)

    def __post_init__(self, first: int) -> None:
        RAN["post_init"] += 1
        if first > 10:
            raise ValueError("too much")
        self.total = first + 1


@dataclass
class Checked:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("upside down")


@dataclass(eq=False)
class Unequal:
    name: str

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __hash__(self) -> int:
        raise RuntimeError("not hashable")


@dataclass(frozen=True)
class Slotted:
    __slots__ = ("x", "y")
    x: int
    y: str


@dataclass
class Growing:
    x: int


class Pair(NamedTuple):
    left: int
    right: str


class Way(Flag):
    A = 1
    B = 2


class Loud:
    """Raises whatever is done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise SystemExit("compared")

    def __hash__(self) -> int:
        raise KeyError("hashed")


class Meta(type):
    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError(f"no {name} of a class")


class Strange(metaclass=Meta):
    pass


class Text(str):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Number(int):
    def __repr__(self) -> str:
        raise RuntimeError("no number")


class Own(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise RuntimeError("no items")


class Zone(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        raise RuntimeError("no offset")

    dst = tzname = utcoffset  # type: ignore[assignment]


class Array:
    """Compares element by element, as numpy's does."""

    def __eq__(self, other: object) -> Any:
        return Array()

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    def __hash__(self) -> int:
        return 1


@dataclass
class Holder:
    what: Any


def grown() -> Growing:
    value = Growing(1)
    value.more = [2]  # type: ignore[attr-defined]
    return value


def turned() -> Checked:
    value = Checked(1, 2)
    value.low = 3
    return value


def hidden() -> Secretive:
    value = Secretive()
    value._hidden = 5
    return value


def twice() -> Any:
    inner = [1]
    return {"a": inner, "b": inner}


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> Any:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    return value


def once(first: int) -> Once:
    value = Once(first)
    value.note = "kept"
    return value


# What comes back exactly.
KEPT: list[Callable[[], Any]] = [
    lambda: Order(orderId=42, lines=["a"]),
    lambda: Choosy(amount="5 EUR"),
    hidden,
    lambda: Open(name="n", more=[1]),
    lambda: once(3),
    turned,
    lambda: Slotted(1, "y"),
    grown,
    lambda: Pair(1, "r"),
    lambda: Way.A,
    lambda: timedelta(days=-1, microseconds=3),
    lambda: time(1, 2, 3, fold=1),
    lambda: datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    lambda: datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    lambda: Path("/tmp/x"),
    lambda: collections.OrderedDict(b=1, a=2),
    lambda: collections.Counter("abba"),
    lambda: bytearray(b"\x00\xff"),
    lambda: 1 - 2j,
    lambda: -(2**20000),
    lambda: [Holder(Pair(1, "x")), {"deep": [Holder(None)]}],
]

# What does not, and is never to be taken for something else.
LEFT: list[Callable[[], Any]] = [
    lambda: object(),
    Loud,
    Strange,
    lambda: Text("t"),
    lambda: Number(3),
    Own,
    Array,
    lambda: Holder(Array()),
    lambda: Holder(Loud()),
    lambda: Holder([Loud()]),
    lambda: [Loud()],
    lambda: {"k": Loud()},
    lambda: (each for each in "abc"),
    lambda: iter([]),
    lambda: threading.Lock(),
    lambda: datetime(2026, 1, 1, tzinfo=Zone()),
    lambda: datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "own")),
    lambda: collections.defaultdict(list),
    lambda: Way.A | Way.B,
    lambda: Order.model_construct(),
    lambda: Way,
    lambda: len,
    twice,
    endless,
    deep,
]
