"""AutoGen: members of teams are actors (see `actors.py`), agents that run alone are named here; and its tools."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from omium.activations import activation
from omium.tools import effects, methods
from omium.wrapping import Scope, scoped_async, scoped_async_generator, wrap_in_subclasses, wrap_method


def watch_agents(module: ModuleType) -> None:
    """An agent that runs without a team, or as the tool of another one."""
    ways = {"run": scoped_async(_alone), "run_stream": scoped_async_generator(_alone)}
    wrap_in_subclasses(module.BaseChatAgent, ways)


def record_tools(module: ModuleType) -> None:
    """Both ways in, `run_json` and direct calls, end in `run`; tools that stream end in `run_stream`."""
    ways = {"run": methods.recorded_async(_described), "run_stream": methods.unrecorded(_described)}
    wrap_in_subclasses(module.BaseTool, ways)


def record_code(module: ModuleType) -> None:
    """Code that a model has written is run by an executor, which is no tool and does as much."""
    wrap_in_subclasses(module.CodeExecutor, {"execute_code_blocks": methods.recorded_async(_described_code)})


def record_remote_tools(module: ModuleType) -> None:
    """Tools of MCP servers are reached through their workbench and are no objects of their own."""
    wrap_method(module.McpWorkbench, "call_tool", methods.recorded_async(_described_remote))


def _alone(agent: Any, *_args: Any, **_kwargs: Any) -> Scope:
    return functools.partial(activation, agent.name)


def _described(tool: Any, args: Any, *_rest: Any, **_kwargs: Any) -> methods.Described:
    function = getattr(tool, "_func", None)
    # Handing over to an agent, or running one, is no deed of its own: the calls within are recorded.
    own = effects.home(function or type(tool)).startswith("autogen_agentchat")
    effect = effects.Effect.LOCAL if own else None
    return methods.Described(tool.name, effects.of(tool.name, tool, effect), methods.fields(args))


def _described_code(_executor: Any, code_blocks: Any, *_rest: Any, **_kwargs: Any) -> methods.Described:
    name = "execute_code_blocks"
    return methods.Described(name, effects.of(name, None), {"code_blocks": code_blocks})


def _described_remote(
    _workbench: Any, name: str, arguments: Any = None, *_rest: Any, **_kwargs: Any
) -> methods.Described:
    return methods.Described(name, effects.of(name, None), dict(arguments or {}))
