"""Which agent is at work, for everything but LangGraph, which keeps this itself (see `frameworks/langgraph.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from omium import graph_place
from omium.carried import carry
from omium.labels import Caller, agent_name


class Activation:
    """One piece of work of one agent. Its index is asked for only once a call is made: idle ones do not count."""

    def __init__(self, agent: str, index: int | Callable[[], int] = 0) -> None:
        self.agent = agent
        self._index = index
        # Where in a LangGraph this began: what is further inside names the caller.
        self.place = graph_place.namespace()

    def caller(self) -> Caller:
        if not isinstance(self._index, int):
            self._index = self._index()
        return Caller(self.agent, self._index)


_at_work: ContextVar[Activation | None] = ContextVar("omium_activation", default=None)
carry(_at_work)


def current() -> Activation | None:
    return _at_work.get()


@contextmanager
def activation(name: object, index: int | Callable[[], int] | None = None) -> Iterator[None]:
    """Everything inside is the work of this agent. Without an index, an agent within itself keeps the outer one."""
    label = agent_name(name)
    outer = _at_work.get()
    goes_on = outer is not None and outer.agent == label and index is None and outer.place == graph_place.namespace()
    if label is None or goes_on:
        yield
        return
    token = _at_work.set(Activation(label, index or 0))
    try:
        yield
    finally:
        _at_work.reset(token)


@contextmanager
def agent(name: str) -> Iterator[None]:
    """Names the agent of a program, or of a part of it, that uses an OpenAI client and no framework.

    >>> with agent("Writer"):
    ...     pass  # calls of an OpenAI client made here are calls of Writer
    """
    with activation(name):
        yield
