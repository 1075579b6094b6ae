"""A server, a model behind it, and programs that run between the two; each can be killed at a chosen call."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import programs

Body = dict[str, Any]
HELD, ENDED = "held", "ended"
Which = Callable[[Body], bool]


def speaks_to(name: str) -> Which:
    """Calls whose system message addresses this agent."""
    return lambda body: any(f"You are {name}" in str(message.get("content")) for message in body["messages"])


@dataclass
class Upstream:
    """What the server takes for the vendor: counts what it is asked, and can hold one call for as long as is needed."""

    model_port: int
    port: int = 0
    asked: list[Body] = field(default_factory=list)
    news: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    # What is answered in place of the scripted model.
    script: Callable[[Body], str] | None = None
    _held: Which | None = None
    _let_go: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def count(self, which: Which) -> int:
        with self._lock:
            return sum(which(body) for body in self.asked)

    def hold(self, which: Which) -> None:
        """The next call of that kind stays unanswered until `let_go`."""
        self._let_go.clear()
        self._held = which

    def let_go(self) -> None:
        self._held = None
        self._let_go.set()

    def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        read = json.loads(body)
        with self._lock:
            self.asked.append(read)
            held = self._held is not None and self._held(read)
            said = self.script(read) if self.script is not None else None
        if held:
            self.news.put(HELD)
            self._let_go.wait(programs.DEADLINE_S)
        if said is not None:
            return 200, "application/json", json.dumps(completion(said)).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.model_port, timeout=30)
        try:
            connection.request("POST", path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.getheader("content-type") or "application/json", response.read()
        finally:
            connection.close()


def completion(text: str) -> Body:
    """A model's answer of nothing but a text."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    return {**head, "choices": [choice], "usage": usage}


@contextmanager
def upstream(model_port: int) -> Iterator[Upstream]:
    double = Upstream(model_port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, kind, answer = double.answer(self.path, self.rfile.read(int(self.headers["content-length"])))
            try:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                # Whoever asked has been killed meanwhile.
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    double.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield double
    finally:
        double.let_go()
        server.shutdown()
        server.server_close()
        thread.join()


class Running:
    """A program under `omium exec`. What happens first is told: that it ended, or that a call of it is held."""

    def __init__(self, words: list[str], env: dict[str, str], news: queue.SimpleQueue[str]) -> None:
        self._process = subprocess.Popen(
            words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._news = news
        self._said = ("", "")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self._said = self._process.communicate()
        self._news.put(ENDED)

    def is_held(self) -> bool:
        """Waits until its call is held; false where it has ended without one."""
        return self._news.get(timeout=programs.DEADLINE_S) == HELD

    def end(self) -> programs.Ended:
        self._reader.join(programs.DEADLINE_S)
        if self._reader.is_alive():
            self.kill_all()
            self._reader.join()
            raise AssertionError(f"the program did not end\n{self._said[0]}\n{self._said[1]}")
        return programs.Ended(self._process.returncode, *self._said)

    def kill_program(self) -> None:
        """Kills what `omium exec` has started, and leaves itself alone."""
        for each in children(self._process.pid):
            os.kill(each, signal.SIGKILL)

    def kill_all(self) -> None:
        started = children(self._process.pid)
        for each in [self._process.pid, *started]:
            os.kill(each, signal.SIGKILL)


def children(parent: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    started: list[int] = []
    for each in Path(f"/proc/{parent}/task").glob("*/children"):
        for child in map(int, each.read_text().split()):
            started += [child, *children(child)]
    return started


class Desk:
    """`omium dev` on data of its own, which outlives it."""

    def __init__(self, folder: Path, vendor: Upstream) -> None:
        self.folder = folder
        self.vendor = vendor
        self.counter = folder / "tool-runs"
        self.counter.touch()
        self._process: subprocess.Popen[str] | None = None
        self._port = 0

    def environment(self, more: dict[str, str] | None = None) -> dict[str, str]:
        # Where a server is killed on purpose nobody waits for it.
        own = {"OMIUM_PATIENCE": "0.5", "OMIUM_DATA": str(self.folder / "data"), "TOOL_COUNTER": str(self.counter)}
        return programs.environment({**own, **(more or {})})

    def start(self) -> None:
        # Programs that run on look for it where it was.
        words = [str(programs.binary()), "dev", "--port", str(self._port), "--upstream", self.vendor.url]
        process = subprocess.Popen(words, env=self.environment(), stderr=subprocess.PIPE, text=True)
        self._process = process
        stderr = process.stderr
        assert stderr is not None
        said: list[str] = []
        while "answers at" not in "".join(said[-1:]):
            said.append(stderr.readline())
            assert said[-1], f"the server ended before it answered: {''.join(said)}"
        self._port = int(re.search(r"answers at \S*?:(\d+)", said[-1])[1])  # type: ignore[index]
        # Somebody has to read on, or the server would one day wait for room in the pipe.
        threading.Thread(target=stderr.read, daemon=True).start()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def omium(self, *words: str) -> str:
        """What a command says that succeeds."""
        command = [str(programs.binary()), *words]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def execution(self) -> str:
        """The newest execution."""
        items = json.loads(self.omium("list", "--json"))["items"]
        return str(items[0]["id"])

    def exec(
        self, program: str | Path, *, resume: str | None = None, options: tuple[str, ...] = (), **env: str
    ) -> Running:
        words = ["--resume", resume] if resume is not None else [*options]
        command = [
            str(programs.binary()),
            "exec",
            *words,
            "--",
            sys.executable,
            str(program if isinstance(program, Path) else programs.EXAMPLES / f"{program}.py"),
        ]
        self.vendor.news = queue.SimpleQueue()
        return Running(command, self.environment(env), self.vendor.news)

    @property
    def tool_runs(self) -> int:
        return len(self.counter.read_text().splitlines())


@contextmanager
def desk(folder: Path, model_port: int) -> Iterator[Desk]:
    with upstream(model_port) as vendor:
        server = Desk(folder, vendor)
        server.start()
        try:
            yield server
        finally:
            server.kill()
