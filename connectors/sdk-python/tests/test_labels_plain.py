"""Who calls in programs of no framework, and in those of several at once."""

from __future__ import annotations

import json
from typing import Any, TypedDict

import httpx
import openai
import pytest
import requests
from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient
from crewai import LLM, Agent, Crew, Task
from langgraph.graph import START, StateGraph

import omium
from gate_double import Gate
from omium import labels

SAY: list[Any] = [{"role": "user", "content": "say"}]


class State(TypedDict, total=False):
    text: str


def test_a_name_on_the_first_message_is_the_caller(gate: Gate) -> None:
    client = openai.OpenAI()
    client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "system", "content": "x", "name": "Narrator"}, *SAY]
    )
    client.chat.completions.create(model="gpt-4o-mini", messages=SAY)
    assert [call.label for call in gate.calls] == ["Narrator#0", None]


async def test_a_program_may_name_its_own_agents(gate: Gate) -> None:
    with omium.agent("Erzähler"):
        openai.OpenAI().responses.create(model="gpt-4o-mini", input="say")
        await openai.AsyncOpenAI().embeddings.create(model="gpt-4o-mini", input="say", encoding_format="float")
    assert [(call.path, call.caller) for call in gate.calls] == [
        ("/responses", "Erzähler#0"),
        ("/embeddings", "Erzähler#0"),
    ]


def test_a_header_of_the_program_itself_is_kept(gate: Gate) -> None:
    with omium.agent("Outer"):
        openai.OpenAI().chat.completions.create(
            model="gpt-4o-mini", messages=SAY, extra_headers={"X-Omium-Step": "mine#3"}
        )
    assert gate.callers == ["mine#3"]


async def test_clients_that_are_not_of_openai_are_seen_on_their_way_out(gate: Gate) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{**SAY[0], "name": "Raw"}]}
    with omium.agent("Agent"):
        httpx.post(f"{gate.url}/v1/chat/completions", json=body)
    httpx.post(f"{gate.url}/v1/chat/completions", json=body)
    async with httpx.AsyncClient() as client:
        await client.post(f"{gate.url}/v1/chat/completions", content=json.dumps(body))
    assert gate.callers == ["Agent#0", "Raw#0", "Raw#0"]


def test_calls_that_go_elsewhere_are_left_alone_and_told(
    gate: Gate, story_model: int, capsys: pytest.CaptureFixture[str]
) -> None:
    client = openai.OpenAI(base_url=f"http://localhost:{story_model}/v1")
    with omium.agent("Agent"):
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=SAY)
    assert labels.HEADER not in raw.http_request.headers
    assert gate.calls == []
    assert "calls to localhost do not pass the gate" in capsys.readouterr().err


def test_without_a_gate_nothing_is_added(story_model: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.delenv("OMIUM_GATE", raising=False)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{story_model}/v1")
    with omium.agent("Agent"):
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=SAY)
    assert labels.HEADER not in raw.http_request.headers


async def test_whatever_is_further_inside_is_the_caller(gate: Gate) -> None:
    def crew(_: State) -> State:
        scribe = Agent(role="Scribe", goal="g", backstory="b", llm=LLM(model="openai/gpt-4o-mini"))
        Crew(agents=[scribe], tasks=[Task(description="Say.", expected_output="x", agent=scribe)]).kickoff()
        openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=SAY)
        return {}

    async def lone(_: State) -> State:
        await AssistantAgent("Lone", OpenAIChatCompletionClient(model="gpt-4o-mini")).run(task="say")
        return {}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("crew", crew)
    graph.add_node("lone", lone)
    graph.add_edge(START, "crew")
    graph.add_edge("crew", "lone")
    with omium.agent("Outermost"):
        await graph.compile().ainvoke({})
    assert gate.callers == ["Scribe#0", "crew#0", "Lone#0"]


def test_labels_have_no_ids_of_one_run_and_keep_to_their_length() -> None:
    assert labels.without_fresh_ids("Writer_3f2b8c1e-7d40-4b1a-9a55-0c6f1de2ab34") == "Writer"
    assert labels.without_fresh_ids("Writer_3f2b8c1e7d404b1a9a550c6f1de2ab34") == "Writer"
    assert labels.without_fresh_ids("deadbeef") == "deadbeef"
    assert labels.agent_name("  審 ") == "審"
    assert labels.agent_name(" ") is None
    assert labels.agent_name(7) is None
    assert labels.agent_name("ok \ud800") == "ok ?"
    assert len((labels.agent_name("審" * 200) or "").encode()) in range(250, 257)
    assert labels.Caller("a b#c", 2).header == "a%20b%23c#2"


def test_calls_to_vendors_that_do_not_pass_the_gate_are_told_whatever_makes_them(
    gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    del gate
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with httpx.Client(transport=transport) as client:
        client.post("https://api.anthropic.com/v1/messages", json={})
        client.get("https://example.org/")
        client.get("https://bucket.s3.amazonaws.com/")

    class Adapter(requests.adapters.BaseAdapter):
        def send(self, request: Any, *_: Any, **__: Any) -> Any:
            response = requests.Response()
            response.status_code, response.request = 200, request
            return response

        def close(self) -> None: ...

    with requests.Session() as session:
        session.mount("https://", Adapter())
        session.post("https://generativelanguage.googleapis.com/v1beta/models/g:generateContent")
    err = capsys.readouterr().err
    assert "calls to api.anthropic.com do not pass the gate" in err
    assert "calls to generativelanguage.googleapis.com do not pass the gate" in err
    assert "example.org" not in err
    assert "s3" not in err
