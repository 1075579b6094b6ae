"""CrewAI: the caller is the role of the agent that executes a task."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from omium.activations import activation
from omium.tools import effects, methods
from omium.wrapping import Scope, scoped, scoped_async, wrap_in_subclasses, wrap_method


def watch_tasks(module: ModuleType) -> None:
    """A task is wider than its agent's own work: what turns its answer into a model or judges it belongs to it too."""
    for name in ("execute_sync", "execute_async"):
        wrap_method(module.Task, name, scoped(_task_of_agent))
    wrap_method(module.Task, "aexecute_sync", scoped_async(_task_of_agent))


def watch_agents(module: ModuleType) -> None:
    """Work that is delegated comes to the agent directly, without its crew."""
    ways = {
        "execute_task": scoped(_agent_of_task),
        "aexecute_task": scoped_async(_agent_of_task),
        "kickoff": scoped(_agent_alone),
        "kickoff_async": scoped_async(_agent_alone),
    }
    wrap_in_subclasses(module.BaseAgent, ways)


def record_tools(module: ModuleType) -> None:
    """Every tool runs through `_run` or `_arun`, but for those made of functions, whose `run` takes a short cut."""
    if "run" in module.Tool.__dict__:
        module.Tool.run = module.BaseTool.run
    wrap_in_subclasses(
        module.BaseTool, {"_run": methods.recorded(_described), "_arun": methods.recorded_async(_described)}
    )


def _described(tool: Any, *args: Any, **kwargs: Any) -> methods.Described:
    own = type(tool).__module__.startswith("crewai.tools.agent_tools")
    effect = effects.Effect.LOCAL if own else None
    return methods.Described(tool.name, effects.of(tool.name, tool, effect), methods.named(args, kwargs))


def _task_of_agent(task: Any, agent: Any = None, *_args: Any, **_kwargs: Any) -> Scope:
    return _at_work(agent or task.agent, task)


def _agent_of_task(agent: Any, task: Any = None, *_args: Any, **_kwargs: Any) -> Scope:
    return _at_work(agent, task)


def _agent_alone(agent: Any, *_args: Any, **_kwargs: Any) -> Scope:
    return _at_work(agent, None)


def _at_work(agent: Any, task: Any) -> Scope:
    return functools.partial(activation, getattr(agent, "role", None), _ordinal(agent, task))


def _ordinal(agent: Any, task: Any) -> int | None:
    """The how-manyth task of this agent in the plan of its crew: known before anything runs, so also in parallel."""
    crew = getattr(agent, "crew", None)
    tasks = getattr(crew, "tasks", None)
    if not isinstance(tasks, list):
        return None
    manages = agent is getattr(crew, "manager_agent", None)
    own = [each for each in tasks if manages or getattr(each.agent, "role", None) == agent.role]
    return next((index for index, each in enumerate(own) if each is task), None)
