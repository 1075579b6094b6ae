"""OpenAI's client: the header that says who calls is put on its requests to the gate."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from omium import caller, settings
from omium.labels import HEADER
from omium.wrapping import wrap_method


def label_requests(module: ModuleType) -> None:
    """Wraps what prepares each request. The name is private: where it is gone, `frameworks/httpx.py` does the work."""
    wrap_method(module.SyncAPIClient, "_prepare_options", _labelling)
    wrap_method(module.AsyncAPIClient, "_prepare_options", _labelling_async)
    wrap_method(module.SyncAPIClient, "request", functools.partial(_explaining, module))
    wrap_method(module.AsyncAPIClient, "request", functools.partial(_explaining_async, module))


def _labelling(prepare: Callable[..., Any]) -> Callable[..., Any]:
    def prepare_options(client: Any, options: Any) -> Any:
        return prepare(client, _labelled(client, options))

    return prepare_options


def _labelling_async(prepare: Callable[..., Any]) -> Callable[..., Any]:
    async def prepare_options(client: Any, options: Any) -> Any:
        return await prepare(client, _labelled(client, options))

    return prepare_options


def _labelled(client: Any, options: Any) -> Any:
    if not _reaches_gate(client):
        return options
    known = caller.of_request(getattr(options, "json_data", None))
    if known is not None:
        given = options.headers if hasattr(options.headers, "items") else {}
        if not any(name.lower() == HEADER for name in given):
            options.headers = {**given, HEADER: known.header}
    return options


def _reaches_gate(client: Any) -> bool:
    now = settings.current()
    if now is None:
        return False
    url = str(client.base_url)
    if url.startswith(now.gate + "/"):
        return True
    settings.tell(f"calls to {client.base_url.host} do not pass the gate: they are neither recorded nor checked")
    return False


def _explaining(module: ModuleType, request: Callable[..., Any]) -> Callable[..., Any]:
    def explained(client: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return request(client, *args, **kwargs)
        except module.APIConnectionError:
            _explain(client)
            raise

    return explained


def _explaining_async(module: ModuleType, request: Callable[..., Any]) -> Callable[..., Any]:
    async def explained(client: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await request(client, *args, **kwargs)
        except module.APIConnectionError:
            _explain(client)
            raise

    return explained


def _explain(client: Any) -> None:
    now = settings.current()
    if now is not None and str(client.base_url).startswith(now.gate + "/"):
        settings.tell(unreachable(now))


def unreachable(now: settings.Settings) -> str:
    """What a user reads when the gate is gone, whose own client only says "Connection error"."""
    return (
        f"the gate at {now.gate} does not answer. No call was made past it. "
        f"Start the server, then go on with: omium exec --resume {now.execution or 'EXECUTION'} -- …"
    )
