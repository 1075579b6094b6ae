"""Where in a LangGraph the running code stands, read from LangChain's own context, if LangChain is there at all."""

from __future__ import annotations

import sys
from typing import Any


def metadata() -> dict[str, Any]:
    """What LangGraph says about the node that runs; empty outside of nodes."""
    module = sys.modules.get("langchain_core.runnables.config")
    variable = getattr(module, "var_child_runnable_config", None)
    config = variable.get() if variable is not None else None
    known = config.get("metadata") if isinstance(config, dict) else None
    return known if isinstance(known, dict) and "langgraph_node" in known else {}


def namespace() -> str | None:
    """Names the task that runs. It holds fresh ids and serves only for comparing within one run."""
    known = metadata()
    return str(known.get("langgraph_checkpoint_ns") or known["langgraph_node"]) if known else None
