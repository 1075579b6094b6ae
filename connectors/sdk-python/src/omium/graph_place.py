"""Where in a LangGraph the running code stands, read from LangChain's own context, if LangChain is there at all."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

from omium.carried import carry

# In a thread of a node's own LangChain's context is empty.
_started_in: ContextVar[dict[str, Any] | None] = ContextVar("omium_graph_place", default=None)


def metadata() -> dict[str, Any]:
    """What LangGraph says about the node that runs; empty outside of nodes."""
    module = sys.modules.get("langchain_core.runnables.config")
    variable = getattr(module, "var_child_runnable_config", None)
    config = variable.get() if variable is not None else None
    known = config.get("metadata") if isinstance(config, dict) else None
    if isinstance(known, dict) and "langgraph_node" in known:
        return known
    return _started_in.get() or {}


def namespace() -> str | None:
    """Names the task that runs. It holds fresh ids and serves only for comparing within one run."""
    known = metadata()
    return str(known.get("langgraph_checkpoint_ns") or known["langgraph_node"]) if known else None


carry(_started_in, lambda: metadata() or None)
