"""Runs a tool at most once per recorded call, and gives what an earlier attempt recorded instead of running it again.

A tool that is reached through several layers, such as one of LangChain within one of CrewAI, is one call: only the
outermost layer is recorded. What another agent does within a tool is a call of its own.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from omium import caller, settings
from omium.errors import GateUnreachable, Unrecordable
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


def run(call: Described, work: Callable[[], Any]) -> Any:
    """Runs `work`, or gives what is recorded of it; of work that turns out asynchronous, what is to be awaited."""
    agent = _recorded_for(call)
    if agent is None:
        return work()
    begun = _begin(call)
    if isinstance(begun, _Known):
        return begun.give()
    with _within(agent):
        try:
            result = work()
        except Exception as error:
            _fail(begun, error)
            raise
    if inspect.isawaitable(result):
        return _awaited(begun, agent, result)
    _end(begun, result)
    return result


async def arun(call: Described, work: Callable[[], Awaitable[Any]]) -> Any:
    """The same for asynchronous work; the loop goes on while the gate is asked."""
    agent = _recorded_for(call)
    if agent is None:
        return await work()
    begun = await asyncio.to_thread(_begin, call)
    if isinstance(begun, _Known):
        return begun.give()
    return await _awaited(begun, agent, work())


async def _awaited(begun: _Open | None, agent: str, work: Awaitable[Any]) -> Any:
    with _within(agent):
        try:
            result = await work
        except Exception as error:
            await asyncio.to_thread(_fail, begun, error)
            raise
    await asyncio.to_thread(_end, begun, result)
    return result


def _recorded_for(call: Described) -> str | None:
    """The agent whose call this is; None where the call is not to be recorded here."""
    if settings.current() is None or call.effect is Effect.LOCAL:
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


def _begin(call: Described) -> _Open | _Known | None:
    """What is to be done: report to an open call, give what is known, or, with None, run and tell nobody."""
    now = settings.current()
    if now is None:
        return None
    known = caller.current()
    said = {
        "caller": known.text if known is not None else f"{NOBODY}#0",
        "tool": agent_name(call.name) or "unnamed",
        "effect": call.effect.value,
        "arguments": values.readable(call.arguments),
    }
    answer = gate.begin(now, said)
    if "call" in answer:
        return _Open(now, answer["call"], call)
    if "recorded" in answer:
        return _Known(values.decode(answer["recorded"].get("result")))
    if "failed" in answer:
        return _failed_before(call, str(answer["failed"].get("reason", "")))
    raise GateUnreachable(
        f"the gate answers what this release does not know: {sorted(answer)}; `{call.name}` was not run"
    )


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


def _end(begun: _Open | None, result: Any) -> None:
    if begun is None:
        return
    try:
        outcome = {"result": values.encode(result)}
    except values.NotExact as error:
        # The program gets its result all the same; only a later attempt cannot have it.
        outcome = {"failed": f"{failures.UNRECORDABLE}: {error}"}
    gate.report(begun.settings, begun.number, begun.call.name, outcome)


def _fail(begun: _Open | None, error: Exception) -> None:
    if begun is None or failures.is_of_the_gate(error):
        return
    reason = failures.PAUSED if failures.is_pause(error) else failures.reason(error)
    gate.report(begun.settings, begun.number, begun.call.name, {"failed": reason})
