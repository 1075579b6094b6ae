"""LangGraph: the caller is the node that runs, or the prebuilt agent whose node that is; and at which step it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from omium import graph_place
from omium.carried import carry
from omium.labels import Caller, agent_name, position_name
from omium.wrapping import Scope, scoped_async_generator, scoped_generator, wrap_in_subclasses

# Graphs that these packages build have nodes such as `agent` and `model`, which stand in no program's code.
_PREBUILT = ("langgraph.prebuilt", "langchain.agents", "langgraph_supervisor", "langgraph_swarm", "deepagents")
_UNNAMED = "LangGraph"


class Run:
    """One run of one graph: from where it was called, and at which steps its nodes have been at work."""

    def __init__(self, graph: Any, outer: Run | None) -> None:
        self.graph = graph
        self.outer = outer
        known = graph_place.metadata()
        self.called_by = str(known["langgraph_node"]) if known else None
        self.called_at = known.get("langgraph_step") if known else None
        self.place = f"{_place(outer, known)}:{self.called_by}/" if known else ""
        self._steps: dict[str, list[object]] = {}
        self._lock = threading.Lock()

    def prebuilt(self, node: str) -> bool:
        """Whether the code of a node is the framework's own."""
        bound = getattr(getattr(self.graph, "nodes", {}).get(node), "bound", None)
        function = getattr(bound, "func", None) or getattr(bound, "afunc", None) or bound
        return str(getattr(function, "__module__", None) or type(function).__module__).startswith(_PREBUILT)

    def ordinal(self, agent: str, step: object) -> int:
        """The how-manyth step of this run at which the agent is at work: steps follow each other in each run alike,
        and the lanes of one step share its number."""
        with self._lock:
            seen = self._steps.setdefault(agent, [])
            if step not in seen:
                seen.append(step)
            return seen.index(step)


_run: ContextVar[Run | None] = ContextVar("omium_langgraph_run", default=None)
carry(_run)


def caller() -> Caller | None:
    """The caller for the node that runs."""
    known = graph_place.metadata()
    if not known:
        return None
    return _named(_run.get(), str(known["langgraph_node"]), known.get("langgraph_step"))


def position() -> str | None:
    """Where the graph stands by its own count, which goes on from its checkpoint where a new process does not.

    Steps of graphs within graphs follow those of the node that runs them, `3:team/1`, and pieces of work that one step
    sends out have their number, `3.0`: both are the same in each run.
    """
    known = graph_place.metadata()
    return position_name(_place(_run.get(), known)) if known else None


def _place(run: Run | None, known: dict[str, Any]) -> str:
    return f"{run.place if run is not None else ''}{known.get('langgraph_step')}{_sent(known.get('langgraph_path'))}"


def _sent(path: object, depth: int = 0) -> str:
    """The numbers in the path of a piece of work that was sent out, by `Send` or as a task of a function."""
    if not isinstance(path, (tuple, list)) or not path or path[0] != "__pregel_push" or depth > 16:
        return ""
    numbers = [each for each in path[1:] if isinstance(each, int) and not isinstance(each, bool)]
    within = _sent(path[1], depth + 1) if len(path) > 1 else ""
    return within + "".join(f".{number}" for number in numbers[:1])


def _named(run: Run | None, node: str, step: object) -> Caller | None:
    if run is None:
        label = agent_name(node)
        return Caller(label) if label is not None else None
    if run.prebuilt(node):
        named = agent_name(getattr(run.graph, "name", None))
        if named is not None and named != _UNNAMED:
            return Caller(named, _ordinal(run.outer, named, run.called_at))
        if run.called_by is not None:
            return _named(run.outer, run.called_by, run.called_at)
    label = agent_name(node)
    return Caller(label, run.ordinal(label, step)) if label is not None else None


def _ordinal(run: Run | None, agent: str, step: object) -> int:
    return run.ordinal(agent, step) if run is not None and step is not None else 0


def watch_graphs(module: ModuleType) -> None:
    """Remembers which graph runs within which node."""
    wrap_in_subclasses(
        module.Pregel, {"stream": scoped_generator(_running), "astream": scoped_async_generator(_running)}
    )


def _running(graph: Any, *_args: Any, **_kwargs: Any) -> Scope:
    run = Run(graph, _run.get())

    @contextmanager
    def scope() -> Iterator[None]:
        token = _run.set(run)
        try:
            yield
        finally:
            _run.reset(token)

    return scope
