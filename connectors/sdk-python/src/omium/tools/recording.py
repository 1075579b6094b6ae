"""Runs a tool at most once per recorded call, and gives what an earlier attempt recorded instead of running it again.

A tool that is reached through several layers, such as one of LangChain within one of CrewAI, is one call: only the
outermost layer is recorded. What another agent does within a tool is a call of its own.

An error of Omium's is never the result of a tool: frameworks would hand its text to the model. What cannot be asked or
told ends the attempt (see `fence.py`), and a result that cannot be kept is the program's all the same: its call stays
open, so that a later attempt runs the tool again where that does no harm, and else asks a person.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from omium import caller, fence, settings
from omium.carried import carry
from omium.errors import GateUnreachable, OmiumError, ToolFailed, Unrecordable
from omium.labels import agent_name
from omium.tools import failures, gate, values
from omium.tools.effects import Effect

# The name under which calls stand that no agent makes.
NOBODY = "program"


@dataclass(frozen=True)
class Described:
    """A call of a tool: which one, what it does to the world, and with what it is called."""

    name: str
    effect: Effect
    arguments: dict[str, Any]
    # What a framework has added to them by itself.
    given: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Open:
    """A call that the gate has let through, and whose end it waits to hear."""

    settings: settings.Settings
    number: object
    call: Described


@dataclass(frozen=True)
class _Known:
    """What an earlier attempt recorded."""

    value: Any = None
    error: Exception | None = None

    def give(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


_inside: ContextVar[str | None] = ContextVar("omium_inside_tool_of", default=None)
carry(_inside)


def run(call: Described, work: Callable[[], Any]) -> Any:
    """Runs `work`, or gives what is recorded of it; of work that turns out asynchronous, what is to be awaited."""
    now = settings.current()
    agent = _recorded_for(now, call)
    if now is None or agent is None:
        return work()
    with _closing(now):
        fence.check()
        begun = _begun(now, call, gate.send(_question(now, call)))
    if isinstance(begun, _Known):
        return begun.give()
    with _within(agent):
        try:
            result = work()
        except BaseException as error:
            _send(begun, _failure(begun, error))
            raise
    if _is_awaitable(result):
        return _awaited(begun, agent, result)
    _send(begun, _outcome(begun, result))
    return result


def _is_awaitable(result: Any) -> bool:
    try:
        return inspect.isawaitable(result)
    except Exception:
        # A class may raise whoever looks at it, and the result is the program's all the same.
        return False


async def arun(call: Described, work: Callable[[], Awaitable[Any]]) -> Any:
    """The same for asynchronous work; the loop goes on while the gate is asked."""
    now = settings.current()
    agent = _recorded_for(now, call)
    if now is None or agent is None:
        return await work()
    with _closing(now):
        fence.check()
        begun = _begun(now, call, await gate.asend(_question(now, call)))
    if isinstance(begun, _Known):
        return begun.give()
    return await _awaited(begun, agent, work())


async def _awaited(begun: _Open | None, agent: str, work: Awaitable[Any]) -> Any:
    with _within(agent):
        try:
            result = await work
        except BaseException as error:
            await _asend(begun, _failure(begun, error))
            raise
    await _asend(begun, _outcome(begun, result))
    return result


def _recorded_for(now: settings.Settings | None, call: Described) -> str | None:
    """The agent whose call this is; None where the call is not to be recorded here."""
    if now is None or call.effect is Effect.LOCAL:
        return None
    known = caller.current()
    agent = known.agent if known is not None else NOBODY
    return None if _inside.get() == agent else agent


@contextmanager
def _within(agent: str) -> Iterator[None]:
    token = _inside.set(agent)
    try:
        yield
    finally:
        _inside.reset(token)


@contextmanager
def _closing(now: settings.Settings) -> Iterator[None]:
    """What Omium raises in here, whoever catches it, is the end of this attempt."""
    try:
        yield
    except ToolFailed:
        raise
    except OmiumError as error:
        fence.close(now, error)
        raise
    except gate.TooMuch as error:
        fence.close(now, error)
        raise OmiumError(f"the gate does not take a call of a tool: {error}") from error


def _question(now: settings.Settings, call: Described) -> gate.Ask:
    known, place = caller.current(), caller.position()
    said = {
        "caller": known.text if known is not None else f"{NOBODY}#0",
        "tool": agent_name(call.name) or "unnamed",
        "effect": call.effect.value,
        "arguments": values.arguments(call.arguments),
    }
    return gate.begin(now, said if place is None else {**said, "position": place})


def _begun(now: settings.Settings, call: Described, answer: dict[str, Any]) -> _Open | _Known | None:
    """What is to be done: report to an open call, give what is known, or, with None, run and tell nobody."""
    if "call" in answer:
        return _Open(now, answer["call"], call)
    if "recorded" in answer:
        return _recorded(call, answer["recorded"].get("result"))
    if "failed" in answer:
        return _failed_before(call, str(answer["failed"].get("reason", "")))
    raise GateUnreachable(
        f"the gate answers what this release does not know: {sorted(answer)}; `{call.name}` was not run"
    )


def _recorded(call: Described, written: Any) -> _Known | None:
    try:
        return _Known(values.decode(written, values.Given(call.given)))
    except Exception as error:
        if call.effect.repeatable:
            return None
        raise Unrecordable(
            f"the recorded result of the tool `{call.name}` cannot be read in this program: {error}. "
            f"It is declared as {call.effect.value}, so it is not repeated; let the program have that class again and "
            f"import its module before the tool is called, or declare it: OMIUM_TOOL_EFFECTS={call.name}=idempotent"
        ) from error


def _failed_before(call: Described, reason: str) -> _Known | None:
    if reason.startswith(failures.PAUSED):
        return None
    if not reason.startswith(failures.UNRECORDABLE):
        return _Known(error=failures.again(reason))
    if call.effect.repeatable:
        return None
    raise Unrecordable(
        f"the tool `{call.name}` ran in an earlier attempt, and its result could not be kept ({reason}). "
        f"It is declared as {call.effect.value}, so it is not repeated; let it return plain data, "
        f"or declare it: OMIUM_TOOL_EFFECTS={call.name}=idempotent"
    )


def _outcome(begun: _Open | None, result: Any) -> gate.Ask | None:
    """What is reported of a tool that has run; None where that is nothing, and the call stays open."""
    if begun is None:
        return None
    try:
        written = values.encode(result, values.Given(begun.call.given))
    except values.NotExact as error:
        _tell_open(begun.call, f"its result cannot be kept exactly ({error})")
        return None
    return gate.report(begun.settings, begun.number, begun.call.name, {"result": written})


def _failure(begun: _Open | None, error: BaseException) -> gate.Ask | None:
    if begun is None:
        return None
    if failures.is_of_the_gate(error):
        # A framework would hand the refusal to the model as what the tool has said.
        if failures.is_refusal(error):
            fence.close(begun.settings, error)
        return None
    if not isinstance(error, Exception):
        # Cut off by the program or with it. How far it came nobody knows, and whether the program lives to deal with
        # that is not known yet either.
        _tell_open(begun.call, f"it was cut off ({type(error).__name__})")
        return None
    reason = failures.PAUSED if failures.is_pause(error) else failures.reason(error)
    return gate.report(begun.settings, begun.number, begun.call.name, {"failed": reason})


def _tell_open(call: Described, why: str) -> None:
    later = "runs it again" if call.effect.repeatable else "asks a person before it goes on"
    settings.tell(f"the tool `{call.name}` ran, and how it ended is not recorded: {why}; an attempt after this {later}")


def _send(begun: _Open | None, report: gate.Ask | None) -> None:
    if begun is not None and report is not None:
        with _closing(begun.settings):
            try:
                gate.send(report)
            except gate.TooMuch as error:
                _tell_open(begun.call, f"its result is not taken ({error})")


async def _asend(begun: _Open | None, report: gate.Ask | None) -> None:
    if begun is not None and report is not None:
        with _closing(begun.settings):
            try:
                await gate.asend(report)
            except gate.TooMuch as error:
                _tell_open(begun.call, f"its result is not taken ({error})")
