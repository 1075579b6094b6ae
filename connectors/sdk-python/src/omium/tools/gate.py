"""Speaks to the gate about tools: before one runs, and after it has run.

A gate that is away for a moment is waited for. A question that is asked again says so, and the gate gives the last call
that is equal to it. Whether that is this very one, or an earlier one because the first try never arrived, shows by the
numbers of the calls that were answered already. Equal questions are therefore asked one after the other.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from omium.errors import GateUnreachable, Refused
from omium.patience import Patience
from omium.settings import Settings, redacted

# What passes by itself: a proxy without a server, one that starts or is full, a disk that is full.
_PASSING = (502, 503, 504, 507)
# How often a task looks whether it is its turn.
_TURN_S = 0.005
# The body is what the gate does not take: larger or deeper than it keeps.
_TOO_MUCH = (400, 413, 422)


class TooMuch(Exception):
    """The gate does not take this body, now or later."""


@dataclass
class _Equal:
    """The questions of one text that this process asks: one at a time, and the calls that they were given."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    calls: set[object] = field(default_factory=set)


_equal: dict[tuple[str, bytes], _Equal] = {}


@dataclass(frozen=True)
class Ask:
    """One thing that is said to the gate."""

    settings: Settings
    path: str
    body: bytes
    # What is said in place of it once it was said before.
    again: bytes
    # What is true while it has not been answered.
    known: str
    # None for what may be said any number of times.
    equal: _Equal | None = None


def begin(settings: Settings, call: dict[str, Any]) -> Ask:
    """Asks what is to be done about a call: run it, or take what an earlier attempt recorded."""
    body = _written(call)
    # One operation of a dictionary, so that threads that ask at once get the same.
    equal = _equal.setdefault((settings.gate, hashlib.sha256(body).digest()), _Equal())
    known = f"the tool `{call['tool']}` was not run"
    return Ask(settings, "/tools", body, _written({**call, "repeats": True}), known, equal)


def report(settings: Settings, number: object, name: str, outcome: dict[str, Any]) -> Ask:
    """Tells how a call ended."""
    known = f"the tool `{name}` has run, and its result is not recorded"
    body = _written(outcome)
    return Ask(settings, f"/tools/{number}", body, body, known)


def _written(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


def send(ask: Ask) -> dict[str, Any]:
    """The gate's answer."""
    if ask.equal is None:
        return _send(ask)
    with ask.equal.lock:
        return _send(ask)


def _send(ask: Ask) -> dict[str, Any]:
    tries = _Tries(ask)
    while True:
        answer = tries.go()
        if isinstance(answer, dict):
            return answer
        time.sleep(answer)


async def asend(ask: Ask) -> dict[str, Any]:
    """The same; the loop goes on meanwhile, and whoever stops waiting is not held."""
    if ask.equal is None:
        return await _asend(ask)
    # A loop may not stand still until its own other task lets go.
    while not ask.equal.lock.acquire(blocking=False):
        await asyncio.sleep(_TURN_S)
    try:
        return await _asend(ask)
    finally:
        ask.equal.lock.release()


async def _asend(ask: Ask) -> dict[str, Any]:
    tries = _Tries(ask)
    while True:
        answer = await asyncio.to_thread(tries.go)
        if isinstance(answer, dict):
            return answer
        await asyncio.sleep(answer)


class _Tries:
    """Tries until there is an answer, or no patience left."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._patience = Patience()
        self._said_before = False
        self._is_new = True

    def go(self) -> dict[str, Any] | float:
        """One try: an answer, or how long to wait before the next one."""
        try:
            status, again, body = self._exchange()
        except (OSError, http.client.HTTPException) as error:
            return self._pause(f"does not answer ({type(error).__name__}: {error})", error)
        read = _read(body)
        if status in _PASSING or again == "true" or (read is None and status not in _TOO_MUCH):
            return self._pause(f"answers {status} and nothing of use", None)
        return self._mine(self._answer(status, read or {}))

    def _mine(self, answer: dict[str, Any]) -> dict[str, Any] | float:
        """The answer, where it is about this very question."""
        equal, number = self._ask.equal, _number_of(answer)
        if equal is None or number is None:
            return answer
        if not self._is_new and number in equal.calls:
            # The tries before this one never arrived: the call is one that was asked about earlier.
            self._said_before = False
            return 0.0
        equal.calls.add(number)
        return answer

    def _exchange(self) -> tuple[int, str, bytes]:
        """Each thread keeps its connection. One that the server has closed meanwhile is no try of its own."""
        deadline = max(1.0, self._patience.left)
        kept = _kept_connection(self._ask, deadline)
        if kept is not None:
            try:
                return _sent(kept, self._ask, self._next())
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                # Whether it has arrived nobody knows.
                pass
        return _sent(_new_connection(self._ask, deadline), self._ask, self._next())

    def _next(self) -> bytes:
        self._is_new = not self._said_before
        self._said_before = True
        return self._ask.body if self._is_new else self._ask.again

    def _answer(self, status: int, read: dict[str, Any]) -> dict[str, Any]:
        code, detail = str(read.get("code") or "refused"), str(read.get("detail") or "")
        if status < 300:
            return read
        if code == "no-open-call" and not self._is_new:
            # The try before this one has ended the call, and only its reply was lost.
            return {}
        if status in _TOO_MUCH:
            raise TooMuch(redacted(detail or f"the gate answers {status}"))
        if status >= 500:
            raise GateUnreachable(_gone(self._ask, f"answers {status}: {detail}"))
        detail = detail or f"the gate answers {status}; {self._ask.known}"
        raise Refused(status, code, redacted(detail), redacted(str(read.get("hint") or "")))

    def _pause(self, what: str, error: Exception | None) -> float:
        pause = self._patience.pause()
        if pause is None:
            raise GateUnreachable(_gone(self._ask, what)) from error
        return pause


def _gone(ask: Ask, what: str) -> str:
    now = ask.settings
    return redacted(f"the gate at {now.place} {what}; {ask.known}. Start the server, then go on with: {now.go_on}")


def _number_of(answer: dict[str, Any]) -> object:
    """The call that an answer is about."""
    for told in (answer, answer.get("recorded"), answer.get("failed")):
        if isinstance(told, dict) and "call" in told:
            return told["call"]
    return None


_kept = threading.local()


def _new_connection(ask: Ask, deadline: float) -> http.client.HTTPConnection:
    connection = ask.settings.connection(deadline)
    _kept.connection, _kept.of = connection, (ask.settings.place, os.getpid())
    return connection


def _kept_connection(ask: Ask, deadline: float) -> http.client.HTTPConnection | None:
    connection: http.client.HTTPConnection | None = getattr(_kept, "connection", None)
    # What was forked shares the connection with its parent.
    if connection is None or connection.sock is None or _kept.of != (ask.settings.place, os.getpid()):
        return None
    connection.sock.settimeout(deadline)
    return connection


def _sent(connection: http.client.HTTPConnection, ask: Ask, said: bytes) -> tuple[int, str, bytes]:
    headers = {"authorization": f"Bearer {ask.settings.token}", "content-type": "application/json"}
    try:
        connection.request("POST", f"{ask.settings.parts.path}{ask.path}", said, headers)
        response = connection.getresponse()
        return response.status, response.headers.get("x-should-retry", ""), response.read()
    except BaseException:
        # Half an answer may be under way on it.
        connection.close()
        raise


def _read(answer: bytes) -> dict[str, Any] | None:
    try:
        read = json.loads(answer or b"{}")
    except ValueError:
        return None
    return read if isinstance(read, dict) else None
