"""Agents of Semantic Kernel: Researcher, Writer, Reviewer, one after the other. STREAM=1 streams the answers."""

import asyncio
import os

from semantic_kernel.agents import ChatCompletionAgent
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


async def answer(asked: ChatCompletionAgent, text: str) -> str:
    if os.environ.get("STREAM") == "1":
        return "".join([str(piece.message) async for piece in asked.invoke_stream(messages=text)])
    return str((await asked.get_response(messages=text)).message)


async def main() -> None:
    notes = await answer(agent("Researcher", plugins=[Bank()]), "Look up the market rate for a loan in EUR.")
    offer = await answer(agent("Writer"), f"{notes} Quote an APR for the loan.")
    print(await answer(agent("Reviewer"), f"Repeat the APR of the offer. {offer}"))


if __name__ == "__main__":
    asyncio.run(main())
