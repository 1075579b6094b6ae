"""A team of AutoGen: Researcher, Writer, Reviewer, one after the other. STREAM=1 streams the answers."""

import asyncio
import os

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.openai import OpenAIChatCompletionClient


async def market_rate(currency: str) -> str:
    """The market rate of a currency."""
    if counter := os.environ.get("TOOL_COUNTER"):
        with open(counter, "a") as lines:
            lines.write(f"market_rate {currency}\n")
    return f"The market rate for {currency} is 4.1 percent."


def agent(name: str, **more: object) -> AssistantAgent:
    return AssistantAgent(
        name,
        OpenAIChatCompletionClient(model="gpt-4o-mini"),
        system_message=f"You are {name}. You work for a small bank.",
        model_client_stream=os.environ.get("STREAM") == "1",
        **more,
    )


async def main() -> None:
    researcher = agent("Researcher", tools=[market_rate], reflect_on_tool_use=True)
    team = RoundRobinGroupChat(
        [researcher, agent("Writer"), agent("Reviewer")], termination_condition=MaxMessageTermination(4)
    )
    result = await team.run(task="Quote an APR for a loan in EUR.")
    print(result.messages[-1].content)


if __name__ == "__main__":
    asyncio.run(main())
