"""What a tool is given by its framework and may pass on."""

from __future__ import annotations

import json
from typing import Any


class Given:
    """Messages that a tool is given by its framework. Where it passes one on, this run's is the one that is meant.

    A graph knows its messages by ids, which are others in each attempt.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._places: dict[int, list[Any]] = {}
        self._messages: dict[str, Any] = {}
        self._find(arguments, [])

    def _find(self, value: Any, place: list[Any]) -> None:
        if len(place) > 4:
            return
        if _is_message(value):
            self._places.setdefault(id(value), place)
            self._messages[json.dumps(place)] = value
        elif isinstance(value, dict):
            for key, item in dict.items(value):
                self._find(item, [*place, str(key)])
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self._find(item, [*place, index])

    def place(self, value: Any) -> list[Any] | None:
        return self._places.get(id(value))

    def at(self, place: Any) -> Any:
        return self._messages.get(json.dumps(place))


def _is_message(value: Any) -> bool:
    kinds = type.__getattribute__(type(value), "__mro__")
    return any(kind.__name__ == "BaseMessage" and kind.__module__.startswith("langchain_core") for kind in kinds)
