"""How a tool failed, as a text that a person can read and that the same exception can be made of again."""

from __future__ import annotations

import json
from typing import Any

from omium.errors import OmiumError, ToolFailed
from omium.tools import values

_LONGEST = 32 * 1024
_MACHINE = " [omium "
# What OpenAI's client raises where the gate refuses or is gone.
_NO_ANSWER = ("APIConnectionError", "APITimeoutError", "ConflictError")

# Said in place of a failure that was none: the tool stopped to ask a human, and is to be run again.
PAUSED = "omium:paused"
# The tool ran, and what it gave could not be kept.
UNRECORDABLE = "omium:unrecordable"


def reason(error: BaseException) -> str:
    """What is told to the gate."""
    text = f"{type(error).__name__}: {error}"[:_LONGEST]
    try:
        exact = {"args": values.encode(_arguments(error)), "type": values.path(type(error))}
    except Exception:
        return text
    made = json.dumps(exact, ensure_ascii=True)
    return f"{text}{_MACHINE}{made}]" if len(made) < _LONGEST else text


def _arguments(error: BaseException) -> list[Any]:
    """What the exception can be made of again: of errors of the operating system more than their `args` say."""
    made = error.__reduce__()
    return list(made[1]) if isinstance(made, tuple) and made[0] is type(error) else list(error.args)


def again(text: str) -> Exception:
    """The exception that was told, as near as it can be made."""
    plain, mark, rest = text.rpartition(_MACHINE)
    if not mark or not rest.endswith("]"):
        return ToolFailed(text)
    try:
        exact = json.loads(rest[:-1])
        return _made(values.found(exact["type"]), values.decode(exact["args"]), plain)
    except Exception:
        return ToolFailed(plain)


def _made(kind: Any, args: list[Any], plain: str) -> Exception:
    if not issubclass(kind, Exception):
        return ToolFailed(plain)
    error: Exception = kind(*args)
    # A class may make its text out of more than its arguments.
    return error if f"{kind.__name__}: {error}"[:_LONGEST] == plain else ToolFailed(plain)


def is_pause(error: BaseException) -> bool:
    """LangGraph interrupts a node, to ask a human or to go to another one, by an exception that is no failure."""
    return any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__)


def is_of_the_gate(error: BaseException | None) -> bool:
    """A model call within the tool that the gate refused or did not answer says nothing about the tool."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OmiumError):
            return not isinstance(error, ToolFailed)
        if type(error).__module__.startswith("openai") and type(error).__name__ in _NO_ANSWER:
            return True
        error = error.__cause__ or error.__context__
    return False
