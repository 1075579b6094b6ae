"""A gate for tests: records who calls with what, passes calls on to the scripted model, and keeps results of tools."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from omium.tools import gate as said

TOKEN = "attempt-token"
PATH = "/x/ex_test"

Answer = tuple[int, str, bytes]
# The connection is closed before the message is read, or after it has been dealt with.
LOST, REPLY_LOST = 0, -1
FINE = 200


@dataclass(frozen=True)
class Call:
    """One call of a model as it came."""

    label: str | None
    path: str
    body: Any
    position: str | None = None

    @property
    def caller(self) -> str:
        return unquote(self.label or "nobody")


@dataclass
class Gate:
    """What the gate has seen. Results of tools outlive an attempt; how often each was asked for does not."""

    model_port: int
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    refusal: tuple[int, dict[str, str]] | None = None
    # What happens to the next messages about tools: a status that is answered, or one of the two below.
    mishaps: Iterator[int] = field(default_factory=lambda: iter(()))
    fences: list[str] = field(default_factory=list)
    connections: int = 0
    _taken: dict[str, dict[str, Any]] = field(default_factory=dict)
    _attempt: int = 1
    _recorded: dict[str, dict[str, Any]] = field(default_factory=dict)
    _asked: Counter[str] = field(default_factory=Counter)
    _open: dict[int, str] = field(default_factory=dict)
    _begun: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    @property
    def environment(self) -> dict[str, str]:
        """What `omium exec` gives to the program."""
        return {
            "OMIUM_GATE": self.url,
            "OMIUM_TOKEN": TOKEN,
            "OMIUM_EXECUTION": "ex_test",
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "OPENAI_API_KEY": TOKEN,
        }

    @property
    def callers(self) -> list[str]:
        return [call.caller for call in self.calls]

    def new_attempt(self) -> None:
        """The program starts again: what is recorded stays, and is given again in its order."""
        # What a process remembers of its calls ends with it.
        said._equal.clear()
        with self._lock:
            self._attempt += 1
            self._taken.clear()
            self._asked.clear()
            self.calls.clear()
            self.tools.clear()
            self.outcomes.clear()

    def answer(self, path: str, headers: Any, body: bytes) -> Answer | None:
        """None where the connection breaks."""
        if path == f"{PATH}/fence":
            self.fences.append(json.loads(body)["reason"])
            return 200, "application/json", b"{}"
        if path.startswith(f"{PATH}/tools"):
            return self._tool(path.removeprefix(f"{PATH}/tools"), headers, json.loads(body))
        with self._lock:
            read = json.loads(body) if body else None
            position = headers.get("x-omium-position")
            self.calls.append(Call(headers.get("x-omium-step"), path.removeprefix(f"{PATH}/v1"), read, position))
        return self._model(path.removeprefix(PATH), body)

    def _tool(self, rest: str, headers: Any, body: dict[str, Any]) -> Answer | None:
        assert headers["authorization"] == f"Bearer {TOKEN}"
        with self._lock:
            mishap = next(self.mishaps, FINE)
            if mishap == LOST:
                return None
            if mishap not in (FINE, REPLY_LOST):
                return mishap, "application/json", b"{}"
            if self.refusal is not None:
                return self.refusal[0], "application/problem+json", json.dumps(self.refusal[1]).encode()
            status, answer = self._end(int(rest[1:]), body) if rest else self._begin(body)
            answered = status, "application/json", json.dumps(answer).encode()
            return None if mishap == REPLY_LOST else answered

    def _begin(self, call: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        repeats = call.pop("repeats", False)
        equal = json.dumps([call["caller"], call["tool"], call["arguments"], call.get("position")], sort_keys=True)
        if repeats and equal in self._taken:
            return 200, self._taken[equal]
        self.tools.append(call)
        self._asked[equal] += 1
        key = f"{equal} {self._asked[equal]}"
        if key in self._recorded:
            self._taken[equal] = self._recorded[key]
            return 200, self._recorded[key]
        if self._begun.get(key, self._attempt) < self._attempt and call["effect"] not in ("read", "idempotent"):
            detail = f"nobody knows about {call['tool']}"
            return 409, {"code": "outcome-unknown", "detail": detail, "hint": "look first"}
        number = len(self._open) + 1
        self._open[number] = key
        self._begun[key] = self._attempt
        self._taken[equal] = {"call": number}
        return 200, {"call": number}

    def _end(self, number: int, outcome: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self._open[number] in self._recorded:
            return 409, {"code": "no-open-call", "detail": "the step has no such open call"}
        self.outcomes.append(outcome)
        # Keys are sorted, as by a server that keeps JSON in ordered maps.
        kept = json.loads(json.dumps(outcome, sort_keys=True))
        failed = "failed" in kept
        told = (
            {"failed": {"reason": kept["failed"], "call": number}} if failed else {"recorded": {**kept, "call": number}}
        )
        self._recorded[self._open[number]] = told
        return 200, {}

    def _model(self, path: str, body: bytes) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.model_port, timeout=30)
        try:
            connection.request("POST", path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.getheader("content-type") or "application/json", response.read()
        finally:
            connection.close()


@contextmanager
def serving(model_port: int) -> Iterator[Gate]:
    """A gate on a free port."""
    gate = Gate(model_port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            gate.connections += 1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            answered = gate.answer(self.path, self.headers, body)
            if answered is None:
                self.close_connection = True
                return
            status, kind, answer = answered
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    gate.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield gate
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
