"""Points in time as texts that say all about them: the zone by its name where it has one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from omium.tools.objects import NotExact

_FOLD = "|fold"


def _zone(zone: tzinfo | None) -> str | None:
    """The name of a zone; None where the offset, which the text has anyway, is all there is to it."""
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key:
        return zone.key
    # Pydantic reads offsets into a class of its own, which is nothing but an offset either.
    is_offset = type(zone) is timezone and repr(zone) in (repr(timezone(_offset(zone))), repr(timezone.utc))
    if is_offset or type(zone).__name__ == "TzInfo":
        return None
    raise NotExact(f"a time in a zone of class {type(zone).__qualname__}")


def _offset(zone: tzinfo) -> timedelta:
    return zone.utcoffset(None) or timedelta(0)


def _write(value: Any) -> str:
    zone = _zone(value.tzinfo)
    text = value.isoformat() if zone is None else f"{value.replace(tzinfo=None).isoformat()}[{zone}]"
    return f"{text}{_FOLD}" if value.fold else text


def _read(kind: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        plain = text.removesuffix(_FOLD)
        plain, named, zone = plain.removesuffix("]").partition("[")
        value = kind.fromisoformat(plain)
        if named:
            value = value.replace(tzinfo=ZoneInfo(zone))
        return value.replace(fold=1) if text.endswith(_FOLD) else value

    return read


def _write_delta(value: timedelta) -> str:
    return f"{value.days} {value.seconds} {value.microseconds}"


def _read_delta(text: str) -> timedelta:
    days, seconds, micros = map(int, text.split())
    return timedelta(days, seconds, micros)


TEXTS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "datetime": (datetime, _write, _read(datetime)),
    "date": (date, date.isoformat, date.fromisoformat),
    "time": (time, _write, _read(time)),
    "timedelta": (timedelta, _write_delta, _read_delta),
}
