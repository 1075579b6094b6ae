"""Objects of classes with fields as what they hold, and back, without running any code of their classes.

Constructors and validators are not called: they may count, send, refuse their own names of fields, or fill in what was
left out. An object is made as `copy` makes it, by what it held.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import Any

_MISSING = object()
# What a model of pydantic holds beside its fields.
_BESIDE = {
    "set": "__pydantic_fields_set__",
    "extra": "__pydantic_extra__",
    "private": "__pydantic_private__",
}


class NotExact(Exception):
    """The value cannot be written so that exactly the same comes back, or what was written cannot be read here."""


def path(kind: type) -> str:
    """The name by which `found` finds a class again."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    if _find(name) is not kind:
        raise NotExact(f"{kind.__module__}.{kind.__qualname__} cannot be found again by its name")
    return name


def found(name: str) -> Any:
    """The class of that name. What is recorded never has a module imported."""
    kind = _find(name)
    if kind is _MISSING:
        raise NotExact(f"the class {name} is not there")
    if not isinstance(kind, type):
        raise NotExact(f"{name} is no class")
    return kind


def _find(name: str) -> Any:
    module, _, inner = name.partition(":")
    target: Any = sys.modules.get(module, _MISSING)
    for part in inner.split("."):
        # Not by `getattr`, which may run what a module or a class does about names that it lacks.
        target = getattr(target, "__dict__", {}).get(part, _MISSING)
    return target


def state(value: Any) -> dict[str, Any]:
    """What an object holds: its attributes, and of a model of pydantic what it knows about them."""
    kind = type(value)
    if _is_model(kind):
        _check_names(kind, _attributes(value))
        beside = {name: _held(value, place) for name, place in _BESIDE.items()}
        return {"fields": _attributes(value), **{name: held for name, held in beside.items() if held is not None}}
    if not _is_dataclass(kind):
        raise NotExact(f"{kind.__module__}.{kind.__qualname__} has no form in JSON")
    fields = {**_attributes(value), **_slots(value)}
    _check_names(kind, fields)
    return {"fields": fields}


def given(value: Any) -> dict[str, Any] | None:
    """What an object was made of, without what its class has added by itself; None for one without fields."""
    kind = type(value)
    if _is_model(kind):
        extra = _held(value, _BESIDE["extra"]) or {}
        chosen = _held(value, _BESIDE["set"]) or ()
        return {**{name: held for name, held in _attributes(value).items() if name in chosen}, **extra}
    if not _is_dataclass(kind):
        return None
    return {name: _held(value, name) for name, field in kind.__dataclass_fields__.items() if field.init}


def is_unchanging(value: Any) -> bool:
    """Whether nobody can tell two such values from one that stands in two places."""
    kind = type(value)
    frozen = _is_dataclass(kind) and kind.__dataclass_params__.frozen
    return isinstance(value, (Enum, type)) or frozen


def made(name: str, known: dict[str, Any]) -> Any:
    """The object that held this."""
    kind = found(name)
    fields = known.get("fields")
    if not isinstance(fields, dict) or not (_is_model(kind) or _is_dataclass(kind)):
        raise NotExact(f"{name} is no class of fields any more")
    _check_names(kind, fields)
    value = object.__new__(kind)
    if _is_model(kind):
        object.__setattr__(value, "__dict__", fields)
        for part, place in _BESIDE.items():
            object.__setattr__(value, place, known.get(part))
        if known.get("set") is None:
            raise NotExact(f"{name} was written by another release of this package")
        return value
    for field, held in fields.items():
        object.__setattr__(value, field, held)
    return value


def _check_names(kind: Any, held: dict[str, Any]) -> None:
    """A class that has got a field since then would lack it."""
    names = kind.__pydantic_fields__ if _is_model(kind) else _fields_of(kind)
    lacking = [name for name in names if name not in held]
    if lacking:
        raise NotExact(f"{kind.__qualname__} lacks its field `{lacking[0]}`")


def _fields_of(kind: Any) -> list[str]:
    return [name for name, field in kind.__dataclass_fields__.items() if field._field_type.name == "_FIELD"]


def _is_model(kind: type) -> bool:
    own = type.__getattribute__(kind, "__mro__")
    return any("__pydantic_core_schema__" in vars(each) for each in own) and not _is_dataclass(kind)


def _is_dataclass(kind: type) -> bool:
    # Of the class itself: one that inherits from a dataclass may hold anything, which its attributes would show.
    return any("__dataclass_fields__" in vars(each) for each in type.__getattribute__(kind, "__mro__"))


def _attributes(value: Any) -> dict[str, Any]:
    return dict(_held(value, "__dict__") or {})


def _slots(value: Any) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for each in type(value).__mro__:
        names = vars(each).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else tuple(names):
            if name in ("__dict__", "__weakref__"):
                continue
            if name.startswith("__"):
                raise NotExact(f"{type(value).__qualname__} has slots of its own kind")
            part = _held(value, name, _MISSING)
            if part is not _MISSING:
                held[name] = part
    return held


def _held(value: Any, name: str, missing: Any = None) -> Any:
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return missing


def member_name(value: Enum) -> str:
    name = value._name_
    if not isinstance(name, str) or type(value)._member_map_.get(name) is not value:
        raise NotExact(f"a value of {type(value).__qualname__} without a name")
    return name


def member(name: str, which: str) -> Any:
    kind = found(name)
    known = kind._member_map_.get(which) if issubclass(kind, Enum) else None
    if known is None:
        raise NotExact(f"{name} has no {which}")
    return known


def is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and kind.__base__ is tuple and "_fields" in vars(kind)


def named_tuple(name: str, items: list[Any]) -> Any:
    kind = found(name)
    if not is_named_tuple(kind) or len(kind._fields) != len(items):
        raise NotExact(f"{name} has other fields than it had")
    return tuple.__new__(kind, items)
