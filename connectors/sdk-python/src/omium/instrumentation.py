"""`instrument()`: which modules are looked out for, and what is done once they are there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from omium import carried, fence, settings
from omium.frameworks import actors, autogen, crewai, httpx, langchain, langgraph, openai, semantic_kernel
from omium.imports import when_imported

Patch = Callable[[ModuleType], None]

# What cannot be seen where a patch fails stands beside it, for whoever reads stderr.
PATCHES: list[tuple[str, Patch, str]] = [
    ("multiprocessing.pool", carried.follow_pool, "who calls in threads of a pool"),
    ("openai._base_client", openai.label_requests, "the agents behind calls of OpenAI's client"),
    ("httpx", httpx.label_requests, "the agents behind calls of other clients"),
    ("httpx2", httpx.label_requests, "the agents behind calls of other clients"),
    ("requests.sessions", httpx.tell_requests, "calls to servers of models"),
    ("langgraph.pregel.main", langgraph.watch_graphs, "which graph runs within which node"),
    ("langchain_core.tools.base", langchain.record_tools, "the tools of LangChain"),
    ("crewai.task", crewai.watch_tasks, "the agents of CrewAI's tasks"),
    ("crewai.agents.agent_builder.base_agent", crewai.watch_agents, "agents of CrewAI that work without a crew"),
    ("crewai.tools.base_tool", crewai.record_tools, "the tools of CrewAI"),
    ("autogen_core._message_handler_context", actors.watch_actors, "the agents of AutoGen's teams"),
    ("autogen_agentchat.agents._base_chat_agent", autogen.watch_agents, "agents of AutoGen that work without a team"),
    ("autogen_core.tools._base", autogen.record_tools, "the tools of AutoGen"),
    ("autogen_core.code_executor._base", autogen.record_code, "the code that agents of AutoGen run"),
    ("autogen_ext.tools.mcp._workbench", autogen.record_remote_tools, "the MCP tools of AutoGen"),
    (
        "semantic_kernel.agents.runtime.in_process.message_handler_context",
        actors.watch_actors,
        "the agents of Semantic Kernel's orchestrations",
    ),
    ("semantic_kernel.agents.agent", semantic_kernel.watch_agents, "the agents of Semantic Kernel"),
    (
        "semantic_kernel.functions.kernel_function_from_method",
        semantic_kernel.record_functions,
        "the functions of Semantic Kernel",
    ),
]

_done = False


def instrument() -> None:
    """Tells the gate who calls, and lets the results of tools be kept. Does nothing where `OMIUM_GATE` is not set.

    May be called before or after frameworks are imported, and more than once.
    """
    global _done
    if settings.current() is None or _done:
        return
    _done = True
    # Before frameworks register what they do at the end.
    fence.watch_exit()
    settings.keep_quiet()
    carried.follow_threads()
    for name, patch, subject in PATCHES:
        when_imported(name, functools.partial(_apply, patch, subject))
        when_imported(name.split(".")[0], functools.partial(_miss, name, subject))


def _apply(patch: Patch, subject: str, module: ModuleType) -> None:
    try:
        patch(module)
    except Exception as error:
        # Whatever a new release of a framework has moved, the program itself must go on.
        settings.tell(f"cannot see {subject}: {type(error).__name__}: {error}")


def _miss(name: str, subject: str, root: ModuleType) -> None:
    """A module that a new release has moved would otherwise be waited for in silence."""
    place = name.split(".")[1:]
    # Looked up among the files, because asking the import system would import the packages in between.
    files = [Path(base, *place) for base in getattr(root, "__path__", [])]
    there = any(file.with_suffix(".py").exists() or (file / "__init__.py").exists() for file in files)
    if place and not there and _installed(name):
        settings.tell(f"cannot see {subject}: there is no {name} in this release")


def _installed(name: str) -> bool:
    """Of frameworks that come in parts, the part may not be installed at all, which is no miss."""
    return not name.startswith(("autogen_ext.", "semantic_kernel.agents.runtime"))
