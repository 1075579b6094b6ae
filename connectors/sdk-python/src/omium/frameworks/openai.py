"""OpenAI's client: what says who calls is put on its requests to the gate, and a gate that is away is waited for."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from omium import caller, fence, settings
from omium.patience import Patience
from omium.wrapping import wrap_method

# Says that a request is one that was sent before.
_REPEATED = "x-stainless-retry-count"


def label_requests(module: ModuleType) -> None:
    """Wraps what prepares each request. The name is private: where it is gone, `frameworks/httpx.py` does the work."""
    wrap_method(module.SyncAPIClient, "request", functools.partial(_waiting, module))
    wrap_method(module.AsyncAPIClient, "request", functools.partial(_waiting_async, module))
    wrap_method(module.SyncAPIClient, "_prepare_options", _labelling)
    wrap_method(module.AsyncAPIClient, "_prepare_options", _labelling_async)


def _labelling(prepare: Callable[..., Any]) -> Callable[..., Any]:
    def prepare_options(client: Any, options: Any) -> Any:
        return prepare(client, _labelled(client, options))

    return prepare_options


def _labelling_async(prepare: Callable[..., Any]) -> Callable[..., Any]:
    async def prepare_options(client: Any, options: Any) -> Any:
        return await prepare(client, _labelled(client, options))

    return prepare_options


def _labelled(client: Any, options: Any) -> Any:
    if _reaches_gate(client):
        _add_headers(options, caller.headers(lambda: getattr(options, "json_data", None)))
    return options


def _add_headers(options: Any, more: dict[str, str]) -> None:
    given = options.headers if hasattr(options.headers, "items") else {}
    known = {name.lower() for name in given}
    options.headers = {**given, **{name: value for name, value in more.items() if name not in known}}


def _reaches_gate(client: Any) -> bool:
    now = settings.current()
    if now is None:
        return False
    if now.is_at(str(client.base_url)):
        return True
    settings.tell(f"calls to {client.base_url.host} do not pass the gate: they are neither recorded nor checked")
    return False


def _waiting(module: ModuleType, request: Callable[..., Any]) -> Callable[..., Any]:
    def waiting(client: Any, *args: Any, **kwargs: Any) -> Any:
        patience = _patience(client)
        while True:
            try:
                return request(client, *args, **kwargs)
            except (module.APIConnectionError, module.APIStatusError) as error:
                pause = _pause(module, error, patience, [*args, *kwargs.values()])
                if pause is None:
                    raise
            time.sleep(pause)

    return waiting


def _waiting_async(module: ModuleType, request: Callable[..., Any]) -> Callable[..., Any]:
    async def waiting(client: Any, *args: Any, **kwargs: Any) -> Any:
        patience = _patience(client)
        while True:
            try:
                return await request(client, *args, **kwargs)
            except (module.APIConnectionError, module.APIStatusError) as error:
                pause = _pause(module, error, patience, [*args, *kwargs.values()])
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    return waiting


def _patience(client: Any) -> Patience | None:
    """None for a client of another address; but that one does not go on either once the attempt is over."""
    now = settings.current()
    if now is None:
        return None
    fence.check()
    return Patience() if now.is_at(str(client.base_url)) else None


def _pause(module: ModuleType, error: Any, patience: Patience | None, given: list[Any]) -> float | None:
    """How long to wait before the same request is sent again; None where the error is the program's own business."""
    now = settings.current()
    if now is None or patience is None or not _is_away(module, error):
        return None
    pause = patience.pause()
    options = next((each for each in given if hasattr(each, "json_data")), None)
    if pause is None or options is None:
        # A framework may hand the text of this error to a model as if a tool had said it.
        fence.close(now, unreachable(now))
        return None
    _add_headers(options, {_REPEATED: "1"})
    return pause


def _is_away(module: ModuleType, error: Any) -> bool:
    """The gate is not there, or says itself that it cannot answer now; what a model's server says is passed on."""
    if isinstance(error, module.APITimeoutError):
        return False
    if isinstance(error, module.APIConnectionError):
        return True
    body = error.body if isinstance(error.body, dict) else {}
    is_ours = body.get("type") == "omium"
    return is_ours and error.status_code >= 500 and error.response.headers.get("x-should-retry") == "true"


def unreachable(now: settings.Settings) -> str:
    """What a user reads when the gate is gone, whose own client only says "Connection error"."""
    return (
        f"the gate at {now.place} does not answer. No call was made past it. "
        f"Start the server, then go on with: {now.go_on}"
    )
