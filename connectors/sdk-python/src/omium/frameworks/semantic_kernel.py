"""Semantic Kernel: agents name themselves while they are invoked, orchestrated or not; and its functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from omium.activations import activation
from omium.tools import effects, methods, recording
from omium.wrapping import Scope, scoped_async, scoped_async_generator, wrap_in_subclasses, wrap_method


def watch_agents(module: ModuleType) -> None:
    """An agent may be a function of another agent's kernel; the inner one is then the caller."""
    ways = {
        "get_response": scoped_async(_invoked),
        "invoke": scoped_async_generator(_invoked),
        "invoke_stream": scoped_async_generator(_invoked),
    }
    wrap_in_subclasses(module.Agent, ways)


def record_functions(module: ModuleType) -> None:
    """Functions of code are tools; functions of prompts are calls of a model, which the gate records."""
    function = module.KernelFunctionFromMethod
    make_result = module.FunctionResult
    wrap_method(function, "_invoke_internal", functools.partial(_recorded, make_result))
    wrap_method(function, "_invoke_internal_stream", methods.unrecorded(_described))


def _invoked(agent: Any, *_args: Any, **_kwargs: Any) -> Scope:
    return functools.partial(activation, agent.name)


def _recorded(make_result: Any, invoke: Callable[..., Any]) -> Callable[..., Any]:
    async def invoke_internal(function: Any, context: Any) -> None:
        ran = False

        async def work() -> Any:
            nonlocal ran
            ran = True
            await invoke(function, context)
            return context.result.value

        value = await recording.arun(_described(function, context), work)
        # The kernel looks for the result in the context, and finds it there already where the function has run.
        if not ran:
            context.result = make_result(
                function=function.metadata, value=value, metadata={"arguments": context.arguments}
            )

    return invoke_internal


def _described(function: Any, context: Any) -> methods.Described:
    method = getattr(function.method, "func", function.method)
    # Handing over to an agent, or running one, is no deed of its own: the calls within are recorded.
    effect = effects.Effect.LOCAL if effects.home(method).startswith("semantic_kernel.agents") else None
    wanted = {parameter.name for parameter in function.metadata.parameters}
    arguments = {name: value for name, value in context.arguments.items() if name in wanted}
    name = function.metadata.name
    return methods.Described(name, effects.of(name, method, effect), arguments)
