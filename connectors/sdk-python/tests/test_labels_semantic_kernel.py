"""Who calls among agents of Semantic Kernel, orchestrated and not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from semantic_kernel.agents import (
    Agent,
    ChatCompletionAgent,
    ConcurrentOrchestration,
    GroupChatOrchestration,
    HandoffOrchestration,
    OrchestrationHandoffs,
    RoundRobinGroupChatManager,
    SequentialOrchestration,
)
from semantic_kernel.agents.runtime import InProcessRuntime
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function

from gate_double import Gate


class Words:
    """A plugin."""

    @kernel_function(name="lookup", description="Looks a word up.")
    async def lookup(self, word: str) -> str:
        return word


def agent(name: str, **more: Any) -> ChatCompletionAgent:
    given = {"instructions": f"You are {name}.", "description": f"Is {name}.", **more}
    return ChatCompletionAgent(service=OpenAIChatCompletion(ai_model_id="gpt-4o-mini"), name=name, **given)


async def orchestrate(orchestration: Any, task: str) -> None:
    runtime = InProcessRuntime()
    runtime.start()
    await (await orchestration.invoke(task, runtime)).get(timeout=30)
    await runtime.stop_when_idle()


async def test_agents_follow_each_other(gate: Gate) -> None:
    await orchestrate(SequentialOrchestration([agent("First"), agent("Second")]), "say")
    assert gate.callers == ["First#0", "Second#0"]


async def test_agents_work_at_once(gate: Gate) -> None:
    await orchestrate(ConcurrentOrchestration([agent("Left"), agent("Right")]), "say")
    assert Counter(gate.callers) == {"Left#0": 1, "Right#0": 1}


async def test_rounds_of_a_chat_are_counted(gate: Gate) -> None:
    chat = GroupChatOrchestration([agent("First"), agent("Second")], manager=RoundRobinGroupChatManager(max_rounds=4))
    await orchestrate(chat, "say")
    assert gate.callers == ["First#0", "Second#0", "First#1", "Second#1"]


async def test_handing_over_is_no_tool(gate: Gate) -> None:
    first, second = agent("First"), agent("second", plugins=[Words()])
    handoffs = OrchestrationHandoffs().add(first.name, second.name, "goes on")

    members: list[Agent] = [first, second]
    await orchestrate(HandoffOrchestration(members, handoffs), "hand over")
    assert gate.callers == ["First#0", "second#0"]
    assert gate.tools == []


@pytest.mark.parametrize("given", [{}, {"instructions": None}])
async def test_an_agent_without_an_orchestration_is_named_with_and_without_instructions(
    gate: Gate, given: dict[str, Any]
) -> None:
    await agent("Lone", **given).get_response(messages="say")
    async for _ in agent("Other", **given).invoke(messages="say"):
        pass
    async for _ in agent("Third", **given).invoke_stream(messages="say"):
        pass
    assert gate.callers == ["Lone#0", "Other#0", "Third#0"]


async def test_an_agent_that_is_a_plugin_of_another_one_is_the_caller(gate: Gate) -> None:
    boss = agent("Boss", plugins=[agent("Aide")])
    await boss.get_response(messages="ask plugin")
    assert gate.callers == ["Boss#0", "Aide#0", "Boss#0"]
    assert gate.tools == [], "running an agent is no deed of its own"


async def test_functions_are_called_by_the_agent_that_uses_them(gate: Gate) -> None:
    await agent("Finder", plugins=[Words()]).get_response(messages="use lookup")
    assert [(call["caller"], call["tool"], call["arguments"]) for call in gate.tools] == [
        ("Finder#0", "lookup", {"word": "apr"})
    ]
