"""How a tool failed, as a text that a person can read and that the same exception can be made of again."""

from __future__ import annotations

import json
from typing import Any

from omium import fence, settings
from omium.errors import OmiumError, ToolFailed, Unrecordable
from omium.settings import redacted
from omium.tools import objects, values

_LONGEST = 32 * 1024
_MARK = "[omium"
_MACHINE = f" {_MARK} "
# What OpenAI's client raises where the gate refuses or is gone.
_NO_ANSWER = ("APIConnectionError", "APITimeoutError", "ConflictError")

# Said in place of a failure that was none: the tool stopped to ask a human, and is to be run again.
PAUSED = "omium:paused"
# What releases before this one said of a tool whose result could not be kept.
UNRECORDABLE = "omium:unrecordable"


def reason(error: BaseException) -> str:
    """What is told to the gate."""
    text = _words(error)
    try:
        made = json.dumps(_exact(error), ensure_ascii=True, allow_nan=False)
    except Exception:
        return text
    # Within the machine's part, too, the mark stands nowhere but in front: no text that a server sent is taken for it.
    made = made.replace(_MARK, "[\\u006fmium")
    return f"{text}{_MACHINE}{made}]" if len(made) < _LONGEST and redacted(made) == made else text


def _words(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:
        # The text of an exception is made by its class.
        said = ""
    said = said.encode("utf-8", "replace").decode()
    return redacted(f"{type(error).__name__}: {said}").replace(_MARK, "[ omium")[:_LONGEST]


def _exact(error: BaseException) -> dict[str, Any]:
    exact = {"args": values.encode(_arguments(error)), "type": objects.path(type(error))}
    kept: dict[str, Any] = {}
    lost: list[str] = []
    for name, held in vars(error).items():
        if name == "__notes__":
            continue
        try:
            kept[name] = values.encode(held)
        except values.NotExact:
            lost.append(name)
    return {**exact, **({"state": kept} if kept else {}), **({"lost": lost} if lost else {})}


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
        return _made(exact, plain)
    except Exception:
        return ToolFailed(plain)


def _made(exact: dict[str, Any], plain: str) -> Exception:
    kind = objects.found(exact["type"])
    if not issubclass(kind, Exception):
        return ToolFailed(plain)
    args = values.decode(exact["args"])
    state = {name: values.decode(held) for name, held in exact.get("state", {}).items()}
    for name in exact.get("lost", []):
        state[name] = Lost(f"`{name}` of the {kind.__name__} that a tool raised in an earlier attempt was not kept")
    # Constructors of the program's own may want other arguments, and count or send; builtin ones set what they show.
    error = kind(*args) if kind.__module__ == "builtins" else kind.__new__(kind, *args)
    error.__dict__.update(state)
    if _words(error) == plain:
        return error  # type: ignore[no-any-return]
    built = kind(*args)
    # A class may make its text out of more than its arguments.
    return built if _words(built) == plain and not exact.get("lost") else ToolFailed(plain)


class Lost:
    """Stands for what could not be kept of an exception: not quietly nothing, for the program may look at it."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._end()

    def __bool__(self) -> bool:
        self._end()
        return False

    def __repr__(self) -> str:
        return f"<{self._what}>"

    def _end(self) -> None:
        error = Unrecordable(
            f"{self._what}; declare the tool as idempotent, or let it raise an exception of plain data"
        )
        now = settings.current()
        if now is not None:
            fence.close(now, error)
        raise error


def is_pause(error: BaseException) -> bool:
    """LangGraph interrupts a node, to ask a human or to go to another one, by an exception that is no failure."""
    return any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__)


def is_of_the_gate(error: BaseException | None) -> bool:
    """A model call within the tool that the gate refused or did not answer says nothing about the tool."""
    return any(_is_ours(each) or _is_no_answer(each) for each in _chain(error))


def is_refusal(error: BaseException | None) -> bool:
    """The same where the gate has said so, or Omium in its place."""
    return any(_is_ours(each) or (_is_no_answer(each) and _says_omium(each)) for each in _chain(error))


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and all(error is not each for each in chain):
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, OmiumError) and not isinstance(error, ToolFailed)


def _is_no_answer(error: BaseException) -> bool:
    return type(error).__module__.startswith("openai") and type(error).__name__ in _NO_ANSWER


def _says_omium(error: BaseException) -> bool:
    body = getattr(error, "body", None)
    return isinstance(body, dict) and body.get("type") == "omium"
