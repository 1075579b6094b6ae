"""Ends an attempt from within: no later call of a model or a tool is made.

Frameworks hand the text of any exception to the model as the result of a tool. Where the exception is one of Omium's,
the model would answer to it, and that answer would be recorded and read. So the attempt is closed before the exception
is raised: in this process, in the other processes of the attempt by a file, and at the gate.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import sys
import threading
from pathlib import Path

from omium import settings
from omium.errors import Fenced
from omium.settings import Settings, redacted

# Names a file that `omium exec` looks for when the program has ended. It does not exist as long as all is well.
FILE = "OMIUM_FENCE"
_TELL_S = 5.0
_LONGEST = 2000

# By gate, for one process may speak to several one after the other.
_closed: dict[str, str] = {}
_telling: list[threading.Thread] = []


def close(now: Settings, why: object) -> None:
    """Closes the attempt; the first reason stays."""
    if now.gate in _closed:
        return
    reason = _closed[now.gate] = redacted(str(why))[:_LONGEST]
    settings.tell(f"this attempt ends here, no further call is made: {reason}")
    _note(reason)
    # The gate may be what is gone, so nobody waits for it now.
    teller = threading.Thread(target=_tell_gate, args=(now, reason), daemon=True)
    _telling.append(teller)
    teller.start()


def check() -> None:
    """Raises where the attempt is closed."""
    now = settings.current()
    reason = _reason(now) if now is not None else None
    if reason is not None:
        raise Fenced(f"this attempt is over, and no call of a model or tool is made: {reason}")


def _reason(now: Settings) -> str | None:
    known = _closed.get(now.gate)
    if known is None:
        known = _noted()
        if known is not None:
            _closed[now.gate] = known
    return known


def _note(reason: str) -> None:
    file = os.environ.get(FILE)
    if file:
        # What is closed here stays closed, whether or not others can be told.
        with contextlib.suppress(OSError):
            Path(file).write_text(reason, encoding="utf-8")


def _noted() -> str | None:
    file = os.environ.get(FILE)
    if not file or not os.path.exists(file):
        return None
    try:
        return Path(file).read_text(encoding="utf-8") or "another process of it was cut off"
    except OSError:
        return "another process of it was cut off"


def _tell_gate(now: Settings, reason: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        url = now.parts
        connection = now.connection(_TELL_S)
        try:
            headers = {"authorization": f"Bearer {now.token}", "content-type": "application/json"}
            connection.request("POST", f"{url.path}/fence", json.dumps({"reason": reason}).encode(), headers)
            connection.getresponse().read()
        finally:
            connection.close()


def watch_exit() -> None:
    """Sees to it that a process whose attempt is closed does not end as if all were well, whatever it caught.

    Registered before anything else is imported, it runs after all other functions of this kind.
    """
    atexit.register(_at_exit)


def _at_exit() -> None:
    now = settings.current()
    if now is None or _reason(now) is None:
        return
    for teller in _telling:
        teller.join(_TELL_S)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    # The code of an exit cannot be changed any more in another way.
    os._exit(1)
