"""Turns methods of frameworks, and plain functions, into recorded calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from omium import settings
from omium.tools import recording
from omium.tools.effects import Effect
from omium.tools.recording import Described
from omium.wrapping import Wrap

__all__ = ["Described", "fields", "named", "recorded", "recorded_async", "unrecorded"]

Describe = Callable[..., Described]


def recorded(describe: Describe) -> Wrap:
    """A method that is called plainly; `describe` gets what it gets."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            return recording.run(describe(*args, **kwargs), functools.partial(function, *args, **kwargs))

        return run

    return wrap


def recorded_async(describe: Describe) -> Wrap:
    """A method that is awaited."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        async def run(*args: Any, **kwargs: Any) -> Any:
            return await recording.arun(describe(*args, **kwargs), functools.partial(function, *args, **kwargs))

        return run

    return wrap


def unrecorded(describe: Describe) -> Wrap:
    """A method that gives its result bit by bit: it runs in each attempt, and it is told that it does."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            call = describe(*args, **kwargs)
            if settings.current() is not None and call.effect is not Effect.LOCAL:
                settings.tell(
                    f"the tool `{call.name}` streams its result, which is not recorded: it runs in each attempt"
                )
            return function(*args, **kwargs)

        return run

    return wrap


def named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, as far as they have one."""
    return {**{f"argument_{index + 1}": value for index, value in enumerate(args)}, **kwargs}


def fields(model: Any) -> dict[str, Any]:
    """The fields of a model, or a mapping as it is."""
    known = getattr(type(model), "model_fields", None)
    if isinstance(known, dict):
        # A model that was made without a check may lack some of them.
        return {name: getattr(model, name, None) for name in known}
    return dict(model) if isinstance(model, dict) else {"argument_1": model}


def bound(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a function by the names in its signature; the object that a method belongs to is none of them."""
    try:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return named(args, kwargs)
    first = next(iter(inspect.signature(function).parameters), None)
    return {name: value for name, value in given.items() if not (name == first and name in ("self", "cls"))}
