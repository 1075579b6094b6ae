"""A team of AutoGen: Researcher and Writer at the same time, then the Reviewer. STREAM=1 streams the answers."""

import asyncio
import os

from autogen_agentchat.agents import AssistantAgent, MessageFilterAgent, MessageFilterConfig, PerSourceFilter
from autogen_agentchat.teams import DiGraphBuilder, GraphFlow
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


def flow() -> GraphFlow:
    researcher = agent("Researcher", tools=[market_rate], reflect_on_tool_use=True)
    writer = agent("Writer")
    # The filter also puts what both have said into one order, whoever was faster.
    last = [PerSourceFilter(source=name, position="last", count=1) for name in ("Researcher", "Writer")]
    reviewer = MessageFilterAgent("Reviewer", agent("Reviewer"), MessageFilterConfig(per_source=last))
    plan = DiGraphBuilder()
    for member in (researcher, writer, reviewer):
        plan.add_node(member)
    plan.add_edge(researcher, reviewer).add_edge(writer, reviewer)
    return GraphFlow([researcher, writer, reviewer], plan.build())


async def main() -> None:
    result = await flow().run(task="Quote an APR for a loan in EUR.")
    answers = [message for message in result.messages if message.source == "Reviewer"]
    print(answers[-1].content)


if __name__ == "__main__":
    asyncio.run(main())
