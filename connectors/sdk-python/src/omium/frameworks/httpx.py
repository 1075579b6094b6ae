"""httpx: the second way to put the header on requests to the gate, where `frameworks/openai.py` does not see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from omium import caller, fence, settings
from omium.wrapping import wrap_method

# Where models are sold. Calls of theirs that do not pass the gate are told, whichever client makes them.
_VENDORS = (
    "api.openai.com",
    "api.anthropic.com",
    "generativelanguage.googleapis.com",
    "aiplatform.googleapis.com",
    "api.mistral.ai",
    "api.cohere.com",
    "api.groq.com",
    "api.deepseek.com",
    "api.x.ai",
    "api.together.xyz",
    "openrouter.ai",
    "openai.azure.com",
    "amazonaws.com",
)


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
    if now is None:
        return
    if not now.is_at(str(request.url)):
        _tell_vendor(request.url.host)
        return
    fence.check()
    if not str(request.url).startswith(f"{now.gate}/v1/"):
        return
    for name, value in caller.headers(lambda: _body(request)).items():
        request.headers.setdefault(name, value)


def tell_requests(module: ModuleType) -> None:
    """The other client that many vendors' packages use; nothing of it passes the gate by itself."""
    wrap_method(module.Session, "send", _telling)


def _telling(send: Callable[..., Any]) -> Callable[..., Any]:
    def told(session: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        now = settings.current()
        if now is not None and not now.is_at(str(request.url)):
            _tell_vendor(urlsplit(str(request.url)).hostname or "")
        return send(session, request, *args, **kwargs)

    return told


def _tell_vendor(host: str) -> None:
    sells = host.endswith(_VENDORS) and ("amazonaws" not in host or host.startswith("bedrock"))
    if sells:
        settings.tell(f"calls to {host} do not pass the gate: they are neither recorded nor checked")


def _body(request: Any) -> object:
    try:
        return json.loads(request.content)
    except Exception:
        # A body that streams cannot be read twice, and one that is not JSON bears no name.
        return None
