"""httpx: the second way to put the header on requests to the gate, where `frameworks/openai.py` does not see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

from omium import caller, fence, settings
from omium.wrapping import wrap_method


def label_requests(module: ModuleType) -> None:
    """Wraps the public method through which every request is sent."""
    wrap_method(module.Client, "send", _labelling)
    wrap_method(module.AsyncClient, "send", _labelling_async)


def _labelling(send: Callable[..., Any]) -> Callable[..., Any]:
    def labelled(client: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        _label(request)
        return send(client, request, *args, **kwargs)

    return labelled


def _labelling_async(send: Callable[..., Any]) -> Callable[..., Any]:
    async def labelled(client: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        _label(request)
        return await send(client, request, *args, **kwargs)

    return labelled


def _label(request: Any) -> None:
    now = settings.current()
    if now is None or not now.is_at(str(request.url)):
        return
    fence.check()
    if not str(request.url).startswith(f"{now.gate}/v1/"):
        return
    for name, value in caller.headers(lambda: _body(request)).items():
        request.headers.setdefault(name, value)


def _body(request: Any) -> object:
    try:
        return json.loads(request.content)
    except Exception:
        # A body that streams cannot be read twice, and one that is not JSON bears no name.
        return None
