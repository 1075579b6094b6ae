"""How a caller is written: the name of an agent and the index of its loop, the same in each run."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote

HEADER = "x-omium-step"
POSITION = "x-omium-position"
LONGEST = 256
_LONGEST_POSITION = 128

# AutoGen and Semantic Kernel append a fresh id to the names of their agents, with or without hyphens.
_FRESH_ID = re.compile(
    r"[_\-:./]?(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-f])"
)


@dataclass(frozen=True)
class Caller:
    """An agent, and the how-manyth of its activations this is."""

    agent: str
    index: int = 0

    @property
    def text(self) -> str:
        return f"{self.agent}#{self.index}"

    @property
    def header(self) -> str:
        """Percent-encoded: header values are ASCII without blanks at their ends, and names of agents are neither."""
        return f"{quote(self.agent, safe='')}#{self.index}"


def agent_name(text: object) -> str | None:
    """The name as Omium keeps it: trimmed, and cut where it would be too long; None where nothing is left."""
    if not isinstance(text, str):
        return None
    name = text.encode("utf-8", "replace").decode("utf-8").strip()
    while len(name.encode()) > LONGEST:
        name = name[: LONGEST // 4] if len(name) > LONGEST else name[:-1]
    return name.strip() or None


def without_fresh_ids(text: str) -> str:
    """`Writer_6f1d…` as it stands in the code: `Writer`. A name that is nothing but an id is left empty."""
    return _FRESH_ID.sub("", text)


def position_name(text: str) -> str:
    """A position as the gate takes it. One that is too long or cannot be printed stays the same one in each run."""
    if len(text.encode("utf-8", "replace")) <= _LONGEST_POSITION and text.isprintable():
        return text
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
