"""LangChain's tools, which LangGraph uses as well."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from omium.tools import effects, methods
from omium.wrapping import wrap_in_subclasses

# Tools that hand over to another agent only say so to the graph.
_HANDOVER = ("langgraph_supervisor", "langgraph_swarm")


def record_tools(module: ModuleType) -> None:
    """Wraps the innermost method, so that callbacks, checks and the forms of results stay LangChain's own work."""
    wrap_in_subclasses(
        module.BaseTool, {"_run": methods.recorded(_described), "_arun": methods.recorded_async(_described)}
    )


def _described(tool: Any, *args: Any, **kwargs: Any) -> methods.Described:
    function = getattr(tool, "func", None) or getattr(tool, "coroutine", None)
    effect = effects.Effect.LOCAL if effects.home(function or type(tool)).startswith(_HANDOVER) else None
    given = methods.named(args, kwargs)
    said = _said_by_model(tool, given)
    added = {name: value for name, value in given.items() if name not in said}
    return methods.Described(tool.name, effects.of(tool.name, tool, effect), said, added)


def _said_by_model(tool: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Without what the framework adds by itself: state, stores, callbacks."""
    try:
        known = set(tool.args)
    except Exception:
        # A tool may have a schema that cannot be written as JSON.
        return {}
    return {name: value for name, value in given.items() if name in known or name.startswith("argument_")}
