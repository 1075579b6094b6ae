"""A gate that is away: for a moment, nothing is seen of it; for good, the attempt ends and no model hears of it."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.openai import OpenAIChatCompletionClient
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool as crew_tool
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function

import omium
import programs
from gate_double import FINE, LOST, REPLY_LOST, Gate
from omium import fence

Ran = list[str]
MOMENT = [LOST, 503, REPLY_LOST, 507, FINE]


def langgraph(ran: Ran) -> None:
    @tool
    def lookup(word: str) -> str:
        """Looks a word up."""
        ran.append(word)
        return f"about {word}"

    agent = create_react_agent(ChatOpenAI(model="gpt-4o-mini"), [lookup], name="finder")
    agent.invoke({"messages": [("user", "use lookup")]})


def crewai(ran: Ran) -> None:
    @crew_tool("lookup")
    def lookup(word: str) -> str:
        """Looks a word up."""
        ran.append(word)
        return f"about {word}"

    finder = Agent(role="Finder", goal="g", backstory="b", llm=LLM(model="openai/gpt-4o-mini"), tools=[lookup])
    Crew(agents=[finder], tasks=[Task(description="Use lookup.", expected_output="x", agent=finder)]).kickoff()


def autogen(ran: Ran) -> None:
    async def lookup(word: str) -> str:
        """Looks a word up."""
        ran.append(word)
        return f"about {word}"

    async def main() -> None:
        client = OpenAIChatCompletionClient(model="gpt-4o-mini")
        finder = AssistantAgent("Finder", client, tools=[lookup], reflect_on_tool_use=True)
        team = RoundRobinGroupChat([finder], termination_condition=MaxMessageTermination(2))
        await team.run(task="use lookup")

    asyncio.run(main())


def semantic_kernel(ran: Ran) -> None:
    class Words:
        @kernel_function(name="lookup", description="Looks a word up.")
        async def lookup(self, word: str) -> str:
            ran.append(word)
            return f"about {word}"

    async def main() -> None:
        service = OpenAIChatCompletion(ai_model_id="gpt-4o-mini")
        finder = ChatCompletionAgent(service=service, name="Finder", plugins=[Words()])
        await finder.get_response(messages="use lookup")

    asyncio.run(main())


FRAMEWORKS = [langgraph, crewai, autogen, semantic_kernel]


@pytest.mark.parametrize("program", FRAMEWORKS)
def test_a_gate_that_is_away_for_a_moment_is_waited_for(gate: Gate, program: Callable[[Ran], None]) -> None:
    ran: Ran = []
    gate.mishaps = iter(MOMENT + MOMENT)
    program(ran)
    assert ran == ["apr"]
    assert [call["tool"] for call in gate.tools] == ["lookup"], "a question whose reply was lost is asked once"
    assert gate.outcomes == [{"result": "about apr"}]
    assert "about apr" in str(gate.calls[-1].body)
    assert gate.fences == []


def fails(program: Callable[[Ran], None], ran: Ran) -> None:
    """Each framework has an exception of its own for it."""
    try:
        program(ran)
    except Exception:
        return
    raise AssertionError("it ended as if all were well")


@pytest.mark.parametrize("program", FRAMEWORKS)
@pytest.mark.parametrize("mishap", [LOST, 503])
@pytest.mark.parametrize("fine", [0, 1], ids=["begin", "report"])
def test_where_it_stays_away_no_model_reads_what_omium_says(
    gate: Gate, program: Callable[[Ran], None], mishap: int, fine: int
) -> None:
    ran: Ran = []
    gate.mishaps = itertools.chain([FINE] * fine, itertools.repeat(mishap))
    fails(program, ran)
    assert ran == ["apr"] * fine
    assert len(gate.calls) == 1, gate.calls[-1].body
    for teller in fence._telling:
        teller.join()
    assert gate.fences
    assert "omium exec --resume ex_test" in gate.fences[0]


@pytest.mark.parametrize("program", FRAMEWORKS)
def test_what_the_gate_refuses_is_read_by_no_model_either(gate: Gate, program: Callable[[Ran], None]) -> None:
    gate.refusal = (409, {"code": "suspended", "detail": "a person is asked", "hint": "wait"})
    fails(program, [])
    assert len(gate.calls) == 1


@pytest.mark.parametrize("program", FRAMEWORKS)
def test_a_result_that_cannot_be_read_again_is_no_text_for_a_model(gate: Gate, program: Callable[[Ran], None]) -> None:
    program([])
    key = next(iter(gate._recorded))
    gate._recorded[key] = {"recorded": {"result": {"$omium": "object", "type": "moved:Away", "fields": {}}}}
    gate.new_attempt()
    ran: Ran = []
    fails(program, ran)
    assert ran == []
    assert len(gate.calls) == 1


def client(gate: Gate, **more: Any) -> Any:
    return openai.OpenAI(base_url=f"{gate.url}/v1", api_key="own", max_retries=0, **more)


def say(asked: Any) -> str:
    answer = asked.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "say"}])
    return str(answer.choices[0].message.content)


def test_a_model_call_waits_for_the_gate_too_and_says_that_it_repeats(gate: Gate) -> None:
    counts: list[str | None] = []
    left = iter([True, True, False])

    def flaky(request: httpx.Request) -> httpx.Response:
        counts.append(request.headers.get("x-stainless-retry-count"))
        if next(left):
            raise httpx.ConnectError("away", request=request)
        body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "said"}, "finish_reason": "stop"}]}
        return httpx.Response(200, json={"id": "1", "object": "chat.completion", "created": 1, "model": "m", **body})

    assert say(client(gate, http_client=httpx.Client(transport=httpx.MockTransport(flaky)))) == "said"
    assert counts == ["0", "1", "1"]


def test_the_servers_of_models_fail_as_they_did(gate: Gate) -> None:
    asked: list[int] = []

    def failing(_: httpx.Request) -> httpx.Response:
        asked.append(1)
        error = {"message": "busy", "type": "server_error"}
        return httpx.Response(503, json={"error": error}, headers={"x-should-retry": "true"})

    with pytest.raises(openai.InternalServerError):
        say(client(gate, http_client=httpx.Client(transport=httpx.MockTransport(failing))))
    assert len(asked) == 1
    assert say(client(gate)) == "said"


async def test_a_closed_attempt_calls_nothing_more_by_any_way(gate: Gate) -> None:
    now = omium.settings.current()
    assert now is not None
    fence.close(now, "a reason with omx_secret-1 in it")
    with pytest.raises(omium.Fenced, match=r"omx_… in it"):
        say(client(gate))
    elsewhere = openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="x")
    with pytest.raises(omium.Fenced):
        await elsewhere.chat.completions.create(model="m", messages=[])
    with pytest.raises(omium.Fenced):
        httpx.post(f"{gate.url}/v1/chat/completions", json={})
    async with httpx.AsyncClient() as other:
        with pytest.raises(omium.Fenced):
            await other.get(f"{gate.url}/v1/models")

    @omium.tool(effect="local")
    def own() -> int:
        return 1

    @omium.tool(effect="read")
    async def look() -> int:
        return 1

    assert own() == 1
    with pytest.raises(omium.Fenced):
        await look()
    assert (gate.calls, gate.tools) == ([], [])


def run_python(code: str, gate: Gate, folder: Path) -> subprocess.CompletedProcess[str]:
    env = programs.seen_by_omium({**gate.environment, "OMIUM_FENCE": str(folder / "fence")})
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=60
    )


SWALLOWS = """
import atexit, omium, sys
from omium import patience
patience.TOTAL_S = 0.2
atexit.register(lambda: print("last words"))

@omium.tool
def pay(): return 1

for _ in range(2):
    try:
        pay()
    except Exception as error:
        print(type(error).__name__)
print("fallback", end="")
"""


def test_a_program_that_swallows_everything_does_not_end_well(gate: Gate, tmp_path: Path) -> None:
    gate.mishaps = itertools.repeat(LOST)
    done = run_python(SWALLOWS, gate, tmp_path)
    assert done.stdout == "GateUnreachable\nFenced\nfallbacklast words\n"
    assert done.returncode == 1
    assert "the tool `pay` was not run" in (tmp_path / "fence").read_text()
    assert done.stderr.count("this attempt ends here") == 1
    # Another process of the same attempt finds it closed, though the gate is there again.
    gate.mishaps = iter(())
    done = run_python(SWALLOWS, gate, tmp_path)
    assert (done.stdout.split()[:2], done.returncode) == (["Fenced", "Fenced"], 1)
    assert gate.tools == []


def test_a_program_whose_attempt_is_open_ends_as_it_likes(gate: Gate, tmp_path: Path) -> None:
    assert run_python("import sys; sys.exit(3)", gate, tmp_path).returncode == 3
    assert run_python(SWALLOWS, gate, tmp_path).returncode == 0
    assert os.listdir(tmp_path) == []


def test_tokens_stand_in_nothing_that_is_said(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMIUM_GATE", "http://127.0.0.1:9/x/ex_1/omx_secret-1")
    monkeypatch.setenv("OMIUM_TOKEN", "omx_secret-1")

    @omium.tool
    def pay() -> int:
        return 1

    with pytest.raises(omium.GateUnreachable) as raised:
        pay()
    fence._closed.clear()
    asked = openai.OpenAI(base_url="http://127.0.0.1:9/x/ex_1/omx_secret-1/v1", api_key="own", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        say(asked)
    assert "secret" not in str(raised.value) + capsys.readouterr().err
    assert gate.tools == []
