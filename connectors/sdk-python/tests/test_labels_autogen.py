"""Who calls in teams of all shapes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from autogen_agentchat.agents import AssistantAgent, SocietyOfMindAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import (
    DiGraphBuilder,
    GraphFlow,
    RoundRobinGroupChat,
    SelectorGroupChat,
    Swarm,
)
from autogen_agentchat.tools import AgentTool
from autogen_core import (
    AgentId,
    DefaultTopicId,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    default_subscription,
    message_handler,
)
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient

from gate_double import Gate


def model() -> OpenAIChatCompletionClient:
    return OpenAIChatCompletionClient(model="gpt-4o-mini")


def agent(name: str, **more: Any) -> AssistantAgent:
    return AssistantAgent(name, model(), system_message=f"You are {name}.", **more)


async def test_turns_of_a_round_are_counted(gate: Gate) -> None:
    team = RoundRobinGroupChat([agent("First"), agent("Second")], termination_condition=MaxMessageTermination(5))
    await team.run(task="say")
    assert gate.callers == ["First#0", "Second#0", "First#1", "Second#1"]


async def test_the_manager_that_selects_a_speaker_is_a_caller_too(gate: Gate) -> None:
    stop = MaxMessageTermination(2)
    team = SelectorGroupChat([agent("First"), agent("Second"), agent("Third")], model(), termination_condition=stop)
    await team.run(task="say")
    assert gate.callers == ["SelectorGroupChatManager#0", "Second#0"]


async def test_agents_that_hand_over_are_told_apart_and_handing_over_is_no_tool(gate: Gate) -> None:
    first, second = agent("First", handoffs=["Second"]), agent("Second")
    await Swarm([first, second], termination_condition=MaxMessageTermination(3)).run(task="hand over")
    assert gate.callers == ["First#0", "Second#0"]
    assert gate.tools == []


async def test_branches_of_a_flow_are_told_apart(gate: Gate) -> None:
    first, left, right = agent("First"), agent("Left"), agent("Right")
    plan = DiGraphBuilder().add_node(first).add_node(left).add_node(right)
    plan.add_edge(first, left).add_edge(first, right)
    await GraphFlow([first, left, right], plan.build()).run(task="say")
    assert Counter(gate.callers) == {"First#0": 1, "Left#0": 1, "Right#0": 1}


async def test_a_team_within_a_team_names_its_own_members(gate: Gate) -> None:
    inner = RoundRobinGroupChat([agent("Inner")], termination_condition=MaxMessageTermination(2))
    outer = RoundRobinGroupChat(
        [SocietyOfMindAgent("Society", inner, model()), agent("Last")], termination_condition=MaxMessageTermination(3)
    )
    await outer.run(task="say")
    assert gate.callers == ["Inner#0", "Society#0", "Last#0"]


async def test_an_agent_that_is_the_tool_of_another_one_is_the_caller(gate: Gate) -> None:
    boss = agent("Boss", tools=[AgentTool(agent("helper"))], reflect_on_tool_use=True)
    await RoundRobinGroupChat([boss], termination_condition=MaxMessageTermination(2)).run(task="ask helper")
    assert gate.callers == ["Boss#0", "helper#0", "Boss#0"]
    assert gate.tools == [], "running an agent is no deed of its own"


async def test_an_agent_without_a_team_is_named(gate: Gate) -> None:
    await agent("Lone").run(task="say")
    async for _ in agent("Other").run_stream(task="say"):
        pass
    assert gate.callers == ["Lone#0", "Other#0"]


async def test_tools_are_called_by_the_agent_that_uses_them(gate: Gate) -> None:
    async def lookup(word: str) -> str:
        """Looks a word up."""
        return word

    team = RoundRobinGroupChat([agent("Finder", tools=[lookup])], termination_condition=MaxMessageTermination(2))
    await team.run(task="use lookup")
    assert [(call["caller"], call["tool"], call["arguments"]) for call in gate.tools] == [
        ("Finder#0", "lookup", {"word": "apr"})
    ]


@dataclass
class Ask:
    text: str


@default_subscription
class Worker(RoutedAgent):
    """An agent of the runtime below teams, which may handle several messages at once."""

    @message_handler
    async def asked(self, message: Ask, ctx: MessageContext) -> None:
        del ctx
        await model().create([UserMessage(content=message.text, source="user")])


async def test_an_actor_that_handles_messages_at_once_is_not_counted(gate: Gate) -> None:
    runtime = SingleThreadedAgentRuntime()
    await Worker.register(runtime, "worker", lambda: Worker("works"))
    runtime.start()
    for text in ("one", "two"):
        await runtime.publish_message(Ask(text), DefaultTopicId())
    await runtime.send_message(Ask("three"), AgentId("worker", "default"))
    await runtime.stop_when_idle()
    assert gate.callers == ["worker#0", "worker#0", "worker#0"]
