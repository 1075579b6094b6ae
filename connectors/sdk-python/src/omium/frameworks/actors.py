"""The runtimes of AutoGen and Semantic Kernel, of one origin: the caller is the actor that handles a message."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from omium.activations import activation
from omium.labels import without_fresh_ids


def watch_actors(module: ModuleType) -> None:
    """Wraps the context that both runtimes set around the handling of each message."""
    context = module.MessageHandlerContext
    populate = context.populate_context
    handled: dict[str, itertools.count[int]] = {}

    def index_of(actor: str, label: str) -> int | Callable[[], int]:
        # Teams and orchestrations give their members fresh ids and let each work at one message at a time, so that
        # counting is the same in each run. Other actors may work at several at once, in any order.
        if actor.startswith(label) and len(actor.split("/")[0]) > len(label):
            return lambda: next(handled.setdefault(actor, itertools.count()))
        return 0

    @contextmanager
    def populate_context(ctx: Any) -> Iterator[None]:
        actor = str(ctx)
        label = without_fresh_ids(str(ctx.type))
        with populate(ctx), activation(label, index_of(actor, label)):
            yield

    context.populate_context = populate_context
