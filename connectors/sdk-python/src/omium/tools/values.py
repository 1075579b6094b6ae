"""Values of Python as JSON and back, exactly or not at all.

JSON that another program has read keeps neither the order of keys, nor large integers, nor all digits of a fraction.
What would suffer is therefore written with a tag: `{"$omium": "map", "items": [["b", 1], ["a", 2]]}`. What is plain
stays plain, so that whoever looks at a recorded result can read it.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

TAG = "$omium"
_LARGEST = 2**53
_DEEPEST = 200

# Kinds whose text says all about them.
_TEXTS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "decimal": (Decimal, str, Decimal),
    "uuid": (UUID, str, UUID),
    "bytes": (bytes, lambda value: base64.b64encode(value).decode(), base64.b64decode),
}
_LISTS: dict[str, type] = {"tuple": tuple, "set": set, "frozenset": frozenset}


class NotExact(Exception):
    """The value cannot be written so that exactly the same comes back."""


def encode(value: Any) -> Any:
    """JSON that `decode` makes the same value of."""
    written = _write(value, 0)
    try:
        again = decode(written)
        same = type(again) is type(value) and _write(again, 0) == written
    except Exception as error:
        raise NotExact(f"{type(value).__name__} does not come back: {error}") from error
    if not same:
        raise NotExact(f"{type(value).__name__} comes back as something else")
    return written


def _write(value: Any, depth: int) -> Any:
    kind = type(value)
    if depth > _DEEPEST:
        raise NotExact("the value is too deep, or contains itself")
    if value is None or kind is bool:
        return value
    if kind in (int, float, str):
        return _write_scalar(value)
    if kind is list:
        return [_write(item, depth + 1) for item in value]
    if kind is dict:
        return _write_map(value, depth)
    for name, (known, text, _) in _TEXTS.items():
        if kind is known:
            return {TAG: name, "text": text(value)}
    for name, known in _LISTS.items():
        if kind is known:
            return {TAG: name, "items": _items(value, depth)}
    return _write_object(value, depth)


def _items(value: Any, depth: int) -> list[Any]:
    items = [_write(item, depth + 1) for item in value]
    return items if isinstance(value, tuple) else sorted(items, key=repr)


def _write_scalar(value: Any) -> Any:
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return {TAG: "int", "text": str(value)}
    # Fifteen digits survive every reader of JSON.
    if isinstance(value, float) and (not math.isfinite(value) or float(f"{value:.15g}") != value):
        return {TAG: "float", "text": repr(value)}
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        return {TAG: "str", "text": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    return value


def _write_map(value: dict[Any, Any], depth: int) -> Any:
    keys = list(value)
    plain = all(type(key) is str for key in keys) and TAG not in value
    if plain and keys == sorted(keys):
        return {_write_key(key): _write(item, depth + 1) for key, item in value.items()}
    return {TAG: "map", "items": [[_write(key, depth + 1), _write(item, depth + 1)] for key, item in value.items()]}


def _write_key(key: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in key):
        raise NotExact("a key is no valid text")
    return key


def _write_object(value: Any, depth: int) -> Any:
    if isinstance(value, Enum):
        return {TAG: "enum", "type": path(type(value)), "name": value.name}
    fields = _fields(value)
    if fields is None:
        raise NotExact(f"{type(value).__module__}.{type(value).__qualname__} has no form in JSON")
    written = {TAG: "object", "type": path(type(value)), "fields": _write(fields, depth + 1)}
    # What an object keeps beside its fields would be lost in silence.
    if _read_object(written) != value:
        raise NotExact(f"{type(value).__qualname__} does not come back equal")
    return written


def _fields(value: Any) -> dict[str, Any] | None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    model = getattr(type(value), "model_fields", None)
    if isinstance(model, dict) and hasattr(type(value), "model_validate"):
        extra = getattr(value, "model_extra", None) or {}
        given = value.model_fields_set
        return {name: getattr(value, name) for name in [*model, *extra] if name in given or name in extra}
    return None


def path(kind: type) -> str:
    """The name by which `found` finds a class again."""
    if "<locals>" in kind.__qualname__:
        raise NotExact(f"{kind.__qualname__} cannot be found again by its name")
    return f"{kind.__module__}:{kind.__qualname__}"


def decode(written: Any) -> Any:
    """The value that `encode` wrote."""
    if isinstance(written, list):
        return [decode(item) for item in written]
    if not isinstance(written, dict):
        return written
    if TAG not in written:
        return {key: decode(item) for key, item in written.items()}
    return _read_tagged(written, written[TAG])


def _read_tagged(written: dict[str, Any], tag: str) -> Any:
    if tag in _TEXTS:
        return _TEXTS[tag][2](written["text"])
    if tag in _LISTS:
        return _LISTS[tag](decode(item) for item in written["items"])
    if tag == "map":
        return {decode(key): decode(item) for key, item in written["items"]}
    if tag == "int":
        return int(written["text"])
    if tag == "float":
        return float(written["text"])
    if tag == "str":
        return base64.b64decode(written["text"]).decode("utf-8", "surrogatepass")
    if tag == "enum":
        return found(written["type"])[written["name"]]
    if tag == "object":
        return _read_object(written)
    raise NotExact(f"`{tag}` is a tag of a newer release of this package")


def _read_object(written: dict[str, Any]) -> Any:
    kind = found(written["type"])
    fields = decode(written["fields"])
    if "__dataclass_fields__" in vars(kind):
        return kind(**fields)
    if hasattr(kind, "model_validate"):
        return kind.model_validate(fields)
    raise NotExact(f"{written['type']} is no class of fields any more")


def found(name: str) -> Any:
    """The class of that name."""
    module, _, inner = name.partition(":")
    target: Any = importlib.import_module(module)
    for part in inner.split("."):
        target = getattr(target, part)
    if not isinstance(target, type):
        raise NotExact(f"{name} is no class")
    return target


def readable(value: Any, depth: int = 0) -> Any:
    """JSON for people and for comparison, of arguments: nothing needs to come back, and nothing may fail."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, int, float)) and not isinstance(value, Enum):
        return _write_scalar(str(value) if isinstance(value, str) else value)
    if depth < _DEEPEST and isinstance(value, dict):
        return {str(key): readable(item, depth + 1) for key, item in value.items()}
    if depth < _DEEPEST and isinstance(value, (list, tuple)):
        return [readable(item, depth + 1) for item in value]
    if depth < _DEEPEST and isinstance(value, (set, frozenset)):
        return sorted((readable(item, depth + 1) for item in value), key=repr)
    try:
        return _write(value, depth)
    except Exception:
        # Its text would often hold an address in memory, which is another one in each run.
        return {TAG: "opaque", "type": f"{type(value).__module__}:{type(value).__qualname__}"}
