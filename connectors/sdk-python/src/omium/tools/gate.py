"""Speaks to the gate about tools: before one runs, and after it has run.

A gate that is away for a moment is waited for. Each question keeps its idempotency key through all tries, so that one
whose reply was lost is not counted as another call.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from omium.errors import GateUnreachable, Refused
from omium.patience import Patience
from omium.settings import Settings, redacted

# What passes by itself: a proxy without a server, one that starts or is full, a disk that is full.
_PASSING = (502, 503, 504, 507)
# The body is what the gate does not take: larger or deeper than it keeps.
_TOO_MUCH = (400, 413, 422)


class TooMuch(Exception):
    """The gate does not take this body, now or later."""


@dataclass(frozen=True)
class Ask:
    """One thing that is said to the gate, the same in each try."""

    settings: Settings
    path: str
    body: bytes
    # What is true while it has not been answered.
    known: str
    key: str


def begin(settings: Settings, call: dict[str, Any]) -> Ask:
    """Asks what is to be done about a call: run it, or take what an earlier attempt recorded."""
    return Ask(settings, "/tools", _written(call), f"the tool `{call['tool']}` was not run", uuid.uuid4().hex)


def report(settings: Settings, number: object, name: str, outcome: dict[str, Any]) -> Ask:
    """Tells how a call ended."""
    known = f"the tool `{name}` has run, and its result is not recorded"
    return Ask(settings, f"/tools/{number}", _written(outcome), known, uuid.uuid4().hex)


def _written(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


def send(ask: Ask) -> dict[str, Any]:
    """The gate's answer."""
    tries = _Tries(ask)
    while True:
        answer = tries.go()
        if isinstance(answer, dict):
            return answer
        time.sleep(answer)


async def asend(ask: Ask) -> dict[str, Any]:
    """The same; the loop goes on meanwhile, and whoever stops waiting is not held."""
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
        self._number = 0

    def go(self) -> dict[str, Any] | float:
        """One try: an answer, or how long to wait before the next one."""
        self._number += 1
        try:
            status, again, body = _exchange(self._ask, max(1.0, self._patience.left))
        except (OSError, http.client.HTTPException) as error:
            return self._pause(f"does not answer ({type(error).__name__}: {error})", error)
        read = _read(body)
        if status in _PASSING or again == "true" or (read is None and status not in _TOO_MUCH):
            return self._pause(f"answers {status} and nothing of use", None)
        return self._answer(status, read or {})

    def _answer(self, status: int, read: dict[str, Any]) -> dict[str, Any]:
        code, detail = str(read.get("code") or "refused"), str(read.get("detail") or "")
        if status < 300:
            return read
        if code == "no-open-call" and self._number > 1:
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


_kept = threading.local()


def _exchange(ask: Ask, deadline: float) -> tuple[int, str, bytes]:
    """Each thread keeps its connection; one that the server has closed meanwhile is made anew, under the same key."""
    connection = _connection(ask, deadline)
    if connection is not None:
        try:
            return _sent(connection, ask)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            pass
    connection = ask.settings.connection(deadline)
    _kept.connection, _kept.of = connection, (ask.settings.place, os.getpid())
    return _sent(connection, ask)


def _connection(ask: Ask, deadline: float) -> http.client.HTTPConnection | None:
    connection: http.client.HTTPConnection | None = getattr(_kept, "connection", None)
    # What was forked shares the connection with its parent.
    if connection is None or connection.sock is None or _kept.of != (ask.settings.place, os.getpid()):
        return None
    connection.sock.settimeout(deadline)
    return connection


def _sent(connection: http.client.HTTPConnection, ask: Ask) -> tuple[int, str, bytes]:
    headers = {
        "authorization": f"Bearer {ask.settings.token}",
        "content-type": "application/json",
        "idempotency-key": ask.key,
    }
    try:
        connection.request("POST", f"{ask.settings.parts.path}{ask.path}", ask.body, headers)
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
