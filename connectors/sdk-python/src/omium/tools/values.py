"""Values of Python as JSON and back, exactly or not at all.

JSON that another program has read keeps neither the order of keys, nor large integers, nor all digits of a fraction.
What would suffer is therefore written with a tag: `{"$omium": "map", "items": [["b", 1], ["a", 2]]}`. What is plain
stays plain, so that whoever looks at a recorded result can read it.
"""

from __future__ import annotations

import base64
import collections
import hashlib
import json
import math
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from pathlib import PosixPath, PurePosixPath
from typing import Any
from uuid import UUID

from omium.tools import objects, times
from omium.tools.given import Given
from omium.tools.objects import NotExact

__all__ = ["TAG", "Given", "NotExact", "arguments", "decode", "encode", "readable"]

TAG = "$omium"
_LARGEST = 2**53
# Readers of JSON give up at some hundred levels, and each level here may be two of theirs.
_DEEPEST = 48
# The most that the arguments of a call are written out for.
_LONGEST = 1 << 20

# Kinds whose text says all about them.
_TEXTS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    **times.TEXTS,
    "decimal": (Decimal, str, Decimal),
    "uuid": (UUID, str, UUID),
    "complex": (complex, repr, complex),
    "path": (PosixPath, str, PosixPath),
    "pure path": (PurePosixPath, str, PurePosixPath),
    "bytes": (bytes, lambda value: base64.b64encode(value).decode(), base64.b64decode),
    "bytearray": (
        bytearray,
        lambda value: base64.b64encode(value).decode(),
        lambda text: bytearray(base64.b64decode(text)),
    ),
}
_LISTS: dict[str, type] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_MAPS: dict[str, type] = {"ordered map": collections.OrderedDict, "counter": collections.Counter}
_UNCHANGING = (tuple, frozenset)


def encode(value: Any, given: Given | None = None) -> Any:
    """JSON that `decode` makes the same value of. Whatever the classes of others raise means that there is none."""
    known = given or Given({})
    try:
        written = _Writer(known).write(value, 0)
        again = _Writer(known).write(decode(written, known), 0)
    except (NotExact, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise NotExact(f"{_name_of(value)} does not come back: {type(error).__name__}") from error
    if _text(again) != _text(written):
        raise NotExact(f"{_name_of(value)} comes back as something else")
    return written


def _text(written: Any) -> str:
    return json.dumps(written, ensure_ascii=False, allow_nan=False)


def _name_of(value: Any) -> str:
    return str(type.__getattribute__(type(value), "__qualname__"))


class _Writer:
    """Writes one value. What it has come across may not be met again: two names of one list would become two lists."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._seen: dict[int, Any] = {}

    def write(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if depth > _DEEPEST:
            raise NotExact("the value is too deep")
        if value is None or kind is bool:
            return value
        if kind in (int, float, str):
            return _scalar(value)
        for name, (known, text, _) in _TEXTS.items():
            if kind is known:
                if kind is bytearray:
                    self._meet(value)
                return {TAG: name, "text": text(value)}
        if not (isinstance(value, _UNCHANGING) or objects.is_unchanging(value)):
            self._meet(value)
        return self._container(value, kind, depth)

    def _meet(self, value: Any) -> None:
        if id(value) in self._seen:
            raise NotExact(f"{_name_of(value)} stands in it more than once, or contains itself")
        self._seen[id(value)] = value

    def _container(self, value: Any, kind: type, depth: int) -> Any:
        if kind is list:
            return [self.write(item, depth + 1) for item in value]
        if kind is dict:
            return self._map(value, depth)
        for name, known in _LISTS.items():
            if kind is known:
                return {TAG: name, "items": self._items(value, depth)}
        for name, known in _MAPS.items():
            if kind is known and not vars(value):
                return {TAG: name, "items": self._pairs(value, depth)}
        return self._object(value, depth)

    def _items(self, value: Any, depth: int) -> list[Any]:
        items = [self.write(item, depth + 1) for item in value]
        return items if isinstance(value, tuple) else sorted(items, key=_text)

    def _pairs(self, value: dict[Any, Any], depth: int) -> list[Any]:
        return [[self.write(key, depth + 1), self.write(item, depth + 1)] for key, item in value.items()]

    def _map(self, value: dict[Any, Any], depth: int) -> Any:
        keys = list(value)
        plain = all(type(key) is str for key in keys) and TAG not in value
        if plain and keys == sorted(keys):
            return {_key(key): self.write(item, depth + 1) for key, item in value.items()}
        return {TAG: "map", "items": self._pairs(value, depth)}

    def _object(self, value: Any, depth: int) -> Any:
        place = self._given.place(value)
        if place is None:
            return self._fields(value, depth)
        return {TAG: "given", "place": place, "else": self._fields(value, depth)}

    def _fields(self, value: Any, depth: int) -> Any:
        if isinstance(value, Enum):
            return {TAG: "enum", "type": objects.path(type(value)), "name": objects.member_name(value)}
        if objects.is_named_tuple(type(value)):
            return {TAG: "named tuple", "type": objects.path(type(value)), "items": self._items(value, depth)}
        state = objects.state(value)
        kept = {name: self.write(part, depth + 1) for name, part in state.items()}
        return {TAG: "object", "type": objects.path(type(value)), **kept}


def _scalar(value: Any) -> Any:
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return {TAG: "int", "text": hex(value)}
    # Fifteen digits survive every reader of JSON.
    if isinstance(value, float) and (not math.isfinite(value) or float(f"{value:.15g}") != value):
        return {TAG: "float", "text": repr(value)}
    if isinstance(value, str) and _is_half(value):
        return {TAG: "str", "text": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    return value


def _key(key: str) -> str:
    if _is_half(key):
        raise NotExact("a key is no valid text")
    return key


def _is_half(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def decode(written: Any, given: Given | None = None) -> Any:
    """The value that `encode` wrote."""
    return _Reader(given or Given({})).read(written)


class _Reader:
    """Reads one value."""

    def __init__(self, given: Given) -> None:
        self._given = given

    def read(self, written: Any) -> Any:
        if isinstance(written, list):
            return [self.read(item) for item in written]
        if not isinstance(written, dict):
            return written
        if TAG not in written:
            return {key: self.read(item) for key, item in written.items()}
        return self._tagged(written, written[TAG])

    def _tagged(self, written: dict[str, Any], tag: str) -> Any:
        if tag in _TEXTS:
            return _TEXTS[tag][2](written["text"])
        if tag in _LISTS:
            return _LISTS[tag](self.read(item) for item in written["items"])
        if tag == "map":
            return {self.read(key): self.read(item) for key, item in written["items"]}
        if tag in _MAPS:
            return _MAPS[tag]({self.read(key): self.read(item) for key, item in written["items"]})
        if tag == "int":
            return int(written["text"], 0)
        if tag == "float":
            return float(written["text"])
        if tag == "str":
            return base64.b64decode(written["text"]).decode("utf-8", "surrogatepass")
        return self._object(written, tag)

    def _object(self, written: dict[str, Any], tag: str) -> Any:
        if tag == "enum":
            return objects.member(written["type"], written["name"])
        if tag == "named tuple":
            return objects.named_tuple(written["type"], [self.read(item) for item in written["items"]])
        if tag == "given":
            passed = self._given.at(written["place"])
            own = self.read(written["else"])
            return passed if passed is not None and type(passed) is type(own) else own
        if tag == "object":
            state = {name: self.read(part) for name, part in written.items() if name not in (TAG, "type")}
            return objects.made(written["type"], state)
        raise NotExact(f"`{tag}` is a tag of another release of this package")


def arguments(given: dict[str, Any]) -> Any:
    """The arguments of a call. Too many or too deep for the gate, they are still told apart from others."""
    written = readable(given)
    text = json.dumps(written, sort_keys=True)
    if len(text) <= _LONGEST and _depth(text) <= 2 * _DEEPEST:
        return written
    return {TAG: "digest", "sha256": hashlib.sha256(text.encode()).hexdigest(), "length": len(text)}


def _depth(text: str) -> int:
    """How deep a JSON text is at most: what looks like a bracket within a text of it counts as well."""
    deepest = depth = 0
    for letter in text:
        if letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest


def readable(value: Any, depth: int = 0) -> Any:
    """JSON for people and for comparison, of arguments: nothing needs to come back, and nothing may fail."""
    try:
        return _readable(value, depth)
    except Exception:
        # Its text would often hold an address in memory, which is another one in each run.
        return {TAG: "opaque", "type": f"{_home_of(value)}:{_name_of(value)}"}


def _home_of(value: Any) -> str:
    home = type.__getattribute__(type(value), "__dict__").get("__module__")
    return home if isinstance(home, str) else str(getattr(type(value), "__module__", ""))


def _readable(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, int, float)) and not isinstance(value, Enum):
        return _scalar(_plain(value))
    if depth < 4 * _DEEPEST and isinstance(value, dict):
        return {str(key): readable(item, depth + 1) for key, item in dict.items(value)}
    if depth < 4 * _DEEPEST and isinstance(value, (list, tuple)):
        return [readable(item, depth + 1) for item in value]
    if depth < 4 * _DEEPEST and isinstance(value, (set, frozenset)):
        return sorted((readable(item, depth + 1) for item in value), key=_text)
    fields = objects.given(value)
    if depth < 4 * _DEEPEST and fields is not None:
        return {TAG: "object", "type": objects.path(type(value)), "fields": readable(fields, depth + 1)}
    return _Writer(Given({})).write(value, 0)


def _plain(value: Any) -> Any:
    """Without what a class of its own makes of it."""
    if isinstance(value, str):
        return str.__str__(value)
    return int.__pos__(value) if isinstance(value, int) else float.__pos__(value)
