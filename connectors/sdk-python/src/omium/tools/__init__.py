"""Tools: what they do to the world, and how their results are recorded and served again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

from omium.tools import effects, methods
from omium.tools.effects import Effect
from omium.tools.recording import Described

T = TypeVar("T")
EffectName = Literal["read", "idempotent", "write", "irreversible", "local"]


@overload
def tool(target: T, /) -> T: ...


@overload
def tool(*, effect: EffectName = "write", name: str | None = None) -> Callable[[T], T]: ...


def tool(target: Any = None, /, *, effect: EffectName = "write", name: str | None = None) -> Any:
    """Declares what a tool does to the world, and has a plain function recorded.

    `read` and `idempotent` may be run again where nobody knows how an earlier attempt ended; `write` and `irreversible`
    are then refused until a human has looked. `local` is run in each attempt and never recorded.

    >>> @tool(effect="read")
    ... def rate(currency: str) -> float:
    ...     return 2.5

    Tools that a framework has made, and functions that one will be made of, are declared in the same way; the layer of
    the framework and this one are recorded as one call.
    """
    declared = Effect(effect)

    def declare(each: Any) -> Any:
        if inspect.isroutine(each) or isinstance(each, functools.partial):
            return _function(each, declared, name)
        effects.declare(each, declared)
        return each

    return declare if target is None else declare(target)


def _function(function: Callable[..., Any], effect: Effect, name: str | None) -> Any:
    known = name or getattr(function, "__name__", None) or "unnamed"
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"`{known}` gives its result bit by bit; let it return one value, so that it can be recorded")

    def described(*args: Any, **kwargs: Any) -> Described:
        # The environment has the last word here too.
        return Described(known, effects.of(known, wrapped), methods.bound(function, args, kwargs))

    way = methods.recorded_async if inspect.iscoroutinefunction(function) else methods.recorded
    wrapped = functools.wraps(function)(way(described)(function))
    setattr(wrapped, effects.DECLARED, effect)
    return wrapped
