"""Agents of Semantic Kernel in an orchestration: Researcher and Writer at the same time, then the Reviewer.

The orchestration streams the answers of its own accord.
"""

import asyncio
import os

from semantic_kernel.agents import ChatCompletionAgent, ConcurrentOrchestration
from semantic_kernel.agents.runtime import InProcessRuntime
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function


class Bank:
    """The one plugin."""

    @kernel_function(name="market_rate", description="The market rate of a currency.")
    def market_rate(self, currency: str) -> str:
        if counter := os.environ.get("TOOL_COUNTER"):
            with open(counter, "a") as lines:
                lines.write(f"market_rate {currency}\n")
        return f"The market rate for {currency} is 4.1 percent."


def agent(name: str, **more: object) -> ChatCompletionAgent:
    return ChatCompletionAgent(
        service=OpenAIChatCompletion(ai_model_id="gpt-4o-mini"),
        name=name,
        instructions=f"You are {name}. You work for a small bank.",
        **more,
    )


async def main() -> None:
    both = ConcurrentOrchestration([agent("Researcher", plugins=[Bank()]), agent("Writer")])
    runtime = InProcessRuntime()
    runtime.start()
    result = await both.invoke("Quote an APR for a loan in EUR.", runtime)
    answers = await result.get()
    await runtime.stop_when_idle()
    # The orchestration lists answers in the order of their arrival.
    texts = [str(answer) for answer in sorted(answers, key=lambda answer: answer.name)]
    review = await agent("Reviewer").get_response(messages=f"Repeat the APR of the offer. {' '.join(texts)}")
    print(review.message)


if __name__ == "__main__":
    asyncio.run(main())
