"""Who is at work, in threads that the program starts: contexts do not follow there by themselves.

Only Omium's own variables are carried. The whole context would bring others along that a thread is used to have afresh:
the precision of decimals, spans, LangChain's configuration with its callbacks and checkpoints.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from omium.wrapping import wrap_method

# The variables, each with how its value is read where the thread is started.
_variables: list[tuple[ContextVar[Any], Callable[[], Any]]] = []


def carry(variable: ContextVar[Any], read: Callable[[], Any] | None = None) -> None:
    """From here on, threads have the value of this variable that it had where they were started."""
    _variables.append((variable, read or (lambda: variable.get(None))))


def follow_threads() -> None:
    """Wraps what starts a thread and what hands work to one. Others that have done so before are called."""
    wrap_method(ThreadPoolExecutor, "submit", _with_work(1))
    wrap_method(threading.Thread, "start", _starting)


def follow_pool(module: ModuleType) -> None:
    """The other pool of the standard library, which joblib uses as well."""
    pool = module.ThreadPool
    for name in ("apply_async", "_map_async", "imap", "imap_unordered"):
        # They are of the base class, which serves processes too, and functions that are sent there stay as they are.
        if name not in pool.__dict__:
            setattr(pool, name, _plain(getattr(module.Pool, name)))
        wrap_method(pool, name, _with_work(1))


def _plain(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return called


def _with_work(place: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A method whose argument at this place is work for a thread."""

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def handed(*args: Any, **kwargs: Any) -> Any:
            if len(args) > place and callable(args[place]):
                args = (*args[:place], _carried(args[place]), *args[place + 1 :])
            return method(*args, **kwargs)

        return handed

    return wrap


def _starting(start: Callable[..., Any]) -> Callable[..., Any]:
    def started(thread: Any, *args: Any, **kwargs: Any) -> Any:
        values = _values()
        if any(value is not None for _, value in values):
            thread.run = _once(thread, _within(values, thread.run))
        return start(thread, *args, **kwargs)

    return started


def _once(thread: Any, run: Callable[[], Any]) -> Callable[[], Any]:
    def ran() -> Any:
        # The thread would otherwise hold itself for ever.
        thread.__dict__.pop("run", None)
        return run()

    return ran


def _carried(work: Callable[..., Any]) -> Callable[..., Any]:
    # Also where there is nothing to carry: the thread may still have what its first work brought.
    return functools.wraps(work, updated=())(_within(_values(), work)) if _is_plain(work) else _within(_values(), work)


def _is_plain(work: Any) -> bool:
    return hasattr(work, "__name__")


def _values() -> list[tuple[ContextVar[Any], Any]]:
    return [(variable, read()) for variable, read in _variables]


def _within(values: list[tuple[ContextVar[Any], Any]], work: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        tokens = [(variable, variable.set(value)) for variable, value in values]
        try:
            return work(*args, **kwargs)
        finally:
            for variable, token in reversed(tokens):
                variable.reset(token)

    return run
