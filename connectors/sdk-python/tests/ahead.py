"""Work of many tests done ahead, two pieces at a time: most of what programs of frameworks do is to import them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
AT_ONCE = 2


@contextmanager
def ahead(request: pytest.FixtureRequest, name: str, work: Callable[[Any], T]) -> Iterator[Callable[[Any], T]]:
    """Begins the work for each value of the parameter that a chosen test has; gives what asks for the result of one."""
    values: list[Any] = []
    for item in request.session.items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if item.path == request.path and name in params and params[name] not in values:
            values.append(params[name])
    pool = ThreadPoolExecutor(AT_ONCE)
    begun: dict[Any, Future[T]] = {value: pool.submit(work, value) for value in values}
    try:
        yield lambda value: begun[value].result()
    finally:
        pool.shutdown(cancel_futures=True)
