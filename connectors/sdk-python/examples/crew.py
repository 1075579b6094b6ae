"""A crew of CrewAI: Researcher, Writer, Reviewer, one after the other. STREAM=1 streams the answers."""

import os

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool


@tool("market_rate")
def market_rate(currency: str) -> str:
    """The market rate of a currency."""
    if counter := os.environ.get("TOOL_COUNTER"):
        with open(counter, "a") as lines:
            lines.write(f"market_rate {currency}\n")
    return f"The market rate for {currency} is 4.1 percent."


def agent(role: str, goal: str, **more: object) -> Agent:
    llm = LLM(model="openai/gpt-4o-mini", stream=os.environ.get("STREAM") == "1")
    return Agent(role=role, goal=goal, backstory="You work for a small bank.", llm=llm, **more)


def crew() -> Crew:
    researcher = agent("Researcher", "Find the market rate.", tools=[market_rate])
    writer = agent("Writer", "Write offers.")
    reviewer = agent("Reviewer", "Check offers.")
    research = Task(
        description="Look up the market rate for a loan in EUR.", expected_output="Notes.", agent=researcher
    )
    write = Task(
        description="Quote an APR for the loan.", expected_output="An offer.", agent=writer, context=[research]
    )
    review = Task(
        description="Repeat the APR of the offer.", expected_output="The APR.", agent=reviewer, context=[write]
    )
    return Crew(agents=[researcher, writer, reviewer], tasks=[research, write, review])


if __name__ == "__main__":
    print(crew().kickoff().raw)
