"""What `omium exec` tells the program by its environment."""

from __future__ import annotations

import functools
import http.client
import logging
import os
import re
import sys
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

# CrewAI sends telemetry and draws traces unless it is told not to, and a program under test has no use for either.
QUIET = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
}
_TOKEN = re.compile(r"omx_[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Settings:
    """Where the gate is, and as whom this process speaks to it."""

    gate: str
    token: str
    execution: str

    @functools.cached_property
    def parts(self) -> SplitResult:
        return urlsplit(self.gate)

    @property
    def place(self) -> str:
        """Where the gate is, for people: its path holds the token."""
        return f"{self.parts.scheme}://{self.parts.netloc}"

    @property
    def go_on(self) -> str:
        """What to do when the server is there again."""
        return f"omium exec --resume {self.execution or 'EXECUTION'}"

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self.parts.scheme == "https" else http.client.HTTPConnection
        return kind(self.parts.hostname or "", self.parts.port, timeout=timeout)

    def is_at(self, url: str) -> bool:
        """Whether this address is below the gate's."""
        return url.startswith(f"{self.gate}/")


def current() -> Settings | None:
    """The settings, or None where the program runs without Omium and everything here keeps still."""
    gate = os.environ.get("OMIUM_GATE", "").rstrip("/")
    if not gate:
        return None
    return Settings(gate, os.environ.get("OMIUM_TOKEN", ""), os.environ.get("OMIUM_EXECUTION", ""))


def keep_quiet() -> None:
    """Sets the variables that keep frameworks quiet, where the program has not set them itself."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("httpx", "httpcore", "openai._base_client"):
        logging.getLogger(name).addFilter(_without_token)


def redacted(text: str) -> str:
    """The same text without tokens."""
    return _TOKEN.sub("omx_…", text)


def _without_token(record: logging.LogRecord) -> bool:
    """Clients write the addresses that they call into the program's log, and ours holds the token."""
    try:
        text = record.getMessage()
    except Exception:
        # Whoever formats it will say what is wrong with it.
        return True
    if "omx_" in text:
        record.msg, record.args = redacted(text), ()
    return True


_told: set[str] = set()


def tell(text: str) -> None:
    """Says a thing once on stderr, where it disturbs no output of the program."""
    text = redacted(text)
    if text not in _told:
        _told.add(text)
        print(f"omium: {text}", file=sys.stderr, flush=True)
