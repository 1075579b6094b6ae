"""Who is calling: the innermost agent or node that a framework knows about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from omium import activations, graph_place
from omium.frameworks import langgraph
from omium.labels import HEADER, POSITION, Caller, agent_name


def current() -> Caller | None:
    """The caller by the framework's own context."""
    active = activations.current()
    namespace = graph_place.namespace()
    # An agent that began its work within this very node is further inside than the node.
    if namespace is not None and (active is None or active.place != namespace):
        return langgraph.caller()
    return active.caller() if active is not None else None


def of_request(body: Callable[[], object]) -> Caller | None:
    """The caller of a request: by context, else the name that its first message bears."""
    return current() or _by_first_message(body())


def position() -> str | None:
    """Where the framework says that the program stands, where its count goes on from its own checkpoints."""
    return langgraph.position()


def headers(body: Callable[[], object]) -> dict[str, str]:
    """What a request to the gate says about itself."""
    known, place = of_request(body), position()
    said = {HEADER: known.header} if known is not None else {}
    return {**said, POSITION: quote(place, safe=":/.")} if place is not None else said


def _by_first_message(body: object) -> Caller | None:
    messages: Any = body.get("messages") if isinstance(body, Mapping) else None
    first = messages[0] if isinstance(messages, list) and messages else None
    name = agent_name(first.get("name")) if isinstance(first, Mapping) else None
    return Caller(name) if name is not None else None
