"""Puts functions around methods of classes that are not ours, in every subclass, whenever that is made."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
# Entered once, or by a generator once per turn.
Scope = Callable[[], AbstractContextManager[None]]
# Makes the scope of one call out of the arguments of the call.
Scoping = Callable[..., Scope]

_MARK = "__omium_wrapped__"


def wrap_method(owner: type, name: str, wrap: Wrap) -> None:
    """Wraps a method that the class itself defines. A second time changes nothing."""
    method = owner.__dict__.get(name)
    if method is None or getattr(method, "__isabstractmethod__", False) or hasattr(method, _MARK):
        return
    wrapped = functools.wraps(method)(wrap(method))
    setattr(wrapped, _MARK, True)
    setattr(owner, name, wrapped)


def wrap_in_subclasses(base: Any, wraps: dict[str, Wrap]) -> None:
    """Wraps methods in a class, in all its subclasses, and in those that are still to be defined."""
    for known in _family(base):
        _wrap_all(known, wraps)
    original = base.__dict__.get("__init_subclass__")

    def __init_subclass__(cls: Any, /, **kwargs: Any) -> None:
        if original is not None:
            original.__get__(None, cls)(**kwargs)
        else:
            super(base, cls).__init_subclass__(**kwargs)
        _wrap_all(cls, wraps)

    base.__init_subclass__ = classmethod(__init_subclass__)


def _wrap_all(owner: type, wraps: dict[str, Wrap]) -> None:
    for name, wrap in wraps.items():
        wrap_method(owner, name, wrap)


def _family(base: Any) -> list[Any]:
    family = [base]
    for child in base.__subclasses__():
        family.extend(member for member in _family(child) if member not in family)
    return family


def scoped(scoping: Scoping) -> Wrap:
    """A plain function that runs within `scoping(self, …)()`."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with scoping(*args, **kwargs)():
                return function(*args, **kwargs)

        return run

    return wrap


def scoped_async(scoping: Scoping) -> Wrap:
    """The same for a coroutine function."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        async def run(*args: Any, **kwargs: Any) -> Any:
            with scoping(*args, **kwargs)():
                return await function(*args, **kwargs)

        return run

    return wrap


def scoped_generator(scoping: Scoping) -> Wrap:
    """The same for a generator: the scope is left while the caller has the turn, so that its context stays its own."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
            scope = scoping(*args, **kwargs)
            inner = function(*args, **kwargs)
            try:
                while True:
                    with scope():
                        try:
                            item = next(inner)
                        except StopIteration:
                            return
                    yield item
            finally:
                _close(inner)

        return run

    return wrap


def scoped_async_generator(scoping: Scoping) -> Wrap:
    """The same for an asynchronous generator."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            scope = scoping(*args, **kwargs)
            inner = function(*args, **kwargs)
            try:
                while True:
                    with scope():
                        try:
                            item = await anext(inner)
                        except StopAsyncIteration:
                            return
                    yield item
            finally:
                await _aclose(inner)

        return run

    return wrap


def _close(inner: Any) -> None:
    if hasattr(inner, "close"):
        inner.close()


async def _aclose(inner: Any) -> None:
    if hasattr(inner, "aclose"):
        await inner.aclose()
