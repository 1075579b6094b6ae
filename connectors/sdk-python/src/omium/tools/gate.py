"""Speaks to the gate about tools: before one runs, and after it has run."""

from __future__ import annotations

import http.client
import json
import uuid
from typing import Any
from urllib.parse import urlsplit

from omium.errors import GateUnreachable, Refused
from omium.settings import Settings

# Every call has a deadline; a gate that says nothing for so long is as good as gone.
DEADLINE_S = 60.0


def begin(settings: Settings, call: dict[str, Any]) -> dict[str, Any]:
    """Asks what is to be done about a call: run it, or take what an earlier attempt recorded."""
    return _post(settings, "/tools", call, f"the tool `{call['tool']}` was not run")


def report(settings: Settings, number: object, name: str, outcome: dict[str, Any]) -> None:
    """Tells how a call ended."""
    known = f"the tool `{name}` has run, and its result is not recorded"
    _post(settings, f"/tools/{number}", outcome, known)


def _post(settings: Settings, path: str, body: dict[str, Any], known: str) -> dict[str, Any]:
    try:
        status, answer = _exchange(settings, path, json.dumps(body, ensure_ascii=False, allow_nan=False).encode())
    except (OSError, http.client.HTTPException) as error:
        raise GateUnreachable(_gone(settings, f"does not answer ({type(error).__name__}: {error})", known)) from error
    read = _read(answer)
    if status >= 500 or read is None:
        raise GateUnreachable(_gone(settings, f"answers {status} and nothing of use", known))
    if status >= 400:
        raise Refused(
            status,
            str(read.get("code") or "refused"),
            str(read.get("detail") or f"the gate answers {status}; {known}"),
            str(read.get("hint") or ""),
        )
    return read


def _gone(settings: Settings, what: str, known: str) -> str:
    again = f"omium exec --resume {settings.execution or 'EXECUTION'} -- …"
    return f"the gate at {settings.gate} {what}; {known}. Start the server, then go on with: {again}"


def _exchange(settings: Settings, path: str, body: bytes) -> tuple[int, bytes]:
    # A connection of its own for each call: on one that was kept, a lost reply and a request that never arrived look
    # the same, and a call that is counted twice would be another call.
    url = urlsplit(settings.gate)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=DEADLINE_S)
    headers = {
        "authorization": f"Bearer {settings.token}",
        "content-type": "application/json",
        "idempotency-key": uuid.uuid4().hex,
        "connection": "close",
    }
    try:
        connection.request("POST", f"{url.path}{path}", body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _read(answer: bytes) -> dict[str, Any] | None:
    try:
        read = json.loads(answer or b"{}")
    except ValueError:
        return None
    return read if isinstance(read, dict) else None
