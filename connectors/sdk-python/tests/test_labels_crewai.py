"""Who calls in crews of all shapes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from crewai import LLM, Agent, Crew, Process, Task
from crewai.tools import tool
from pydantic import BaseModel

from gate_double import Gate


def agent(role: str, **more: Any) -> Agent:
    return Agent(role=role, goal="Work.", backstory="None.", llm=LLM(model="openai/gpt-4o-mini"), **more)


def work(by: Agent | None, description: str = "Say something.", **more: Any) -> Task:
    return Task(description=description, expected_output="Something.", agent=by, **more)


def test_the_tasks_of_one_agent_are_counted_by_the_plan(gate: Gate) -> None:
    writer, critic = agent("Writer"), agent("Critic")
    Crew(agents=[writer, critic], tasks=[work(writer), work(critic), work(writer)]).kickoff()
    assert gate.callers == ["Writer#0", "Critic#0", "Writer#1"]


def test_the_count_holds_for_tasks_at_the_same_time(gate: Gate) -> None:
    # One agent works at one task at a time, so those at the same time belong to two of the same role.
    writers = [agent("Writer"), agent("Writer")]
    words = ("one", "two")
    tasks = [work(by, f"Say {word}.", async_execution=True) for by, word in zip(writers, words, strict=True)]
    Crew(agents=writers, tasks=[*tasks, work(writers[0], "Say three.")]).kickoff()
    said = {call.caller: call.body["messages"][-1]["content"] for call in gate.calls}
    assert {
        caller: word for caller, text in said.items() for word in ("one", "two", "three") if f"Say {word}" in text
    } == {
        "Writer#0": "one",
        "Writer#1": "two",
        "Writer#2": "three",
    }


def test_roles_with_blanks_at_their_ends_and_letters_of_any_script_come_through(gate: Gate) -> None:
    writer, reader = agent("Chef-Rédacteur für Öl\n"), agent("審査官 ")
    Crew(agents=[writer, reader], tasks=[work(writer), work(reader)]).kickoff()
    assert gate.callers == ["Chef-Rédacteur für Öl#0", "審査官#0"]


def test_the_model_that_an_answer_is_turned_into_is_asked_for_by_the_same_agent(gate: Gate) -> None:
    class Offer(BaseModel):
        apr: float

    writer = agent("Writer")
    Crew(agents=[writer], tasks=[work(writer, output_pydantic=Offer)]).kickoff()
    assert set(gate.callers) == {"Writer#0"}


def test_a_manager_and_the_coworker_that_it_delegates_to_are_told_apart(gate: Gate) -> None:
    scribe = agent("Scribe")
    crew = Crew(
        agents=[scribe],
        tasks=[work(None)],
        process=Process.hierarchical,
        manager_llm=LLM(model="openai/gpt-4o-mini"),
    )
    crew.kickoff()
    assert gate.callers == ["Crew Manager#0", "Scribe#0", "Crew Manager#0"]
    assert gate.tools == [], "delegating is no deed of its own"


async def test_crews_that_run_at_once_in_one_loop_are_told_apart(gate: Gate) -> None:
    crews = [Crew(agents=[each], tasks=[work(each)]) for each in (agent("Left"), agent("Right"))]
    for crew in crews:
        await crew.akickoff()
    assert Counter(gate.callers) == {"Left#0": 1, "Right#0": 1}


def test_an_agent_without_a_crew_is_named_and_afterwards_nobody_is(gate: Gate) -> None:
    agent("Lone").kickoff("Say something.")
    LLM(model="openai/gpt-4o-mini").call("say")
    assert gate.callers == ["Lone#0", "nobody"]


def test_a_tool_is_called_by_the_agent_that_uses_it(gate: Gate) -> None:
    @tool("lookup")
    def lookup(word: str) -> str:
        """Looks a word up."""
        return word

    finder = agent("Finder", tools=[lookup])
    Crew(agents=[finder], tasks=[work(finder, "Use lookup.")]).kickoff()
    assert gate.callers == ["Finder#0", "Finder#0"]
    assert [(call["caller"], call["tool"], call["arguments"]) for call in gate.tools] == [
        ("Finder#0", "lookup", {"word": "apr"})
    ]


def test_there_is_no_position_where_a_framework_counts_anew_each_time(gate: Gate) -> None:
    scribe = Agent(role="Scribe", goal="g", backstory="b", llm=LLM(model="openai/gpt-4o-mini"))
    Crew(agents=[scribe], tasks=[Task(description="say", expected_output="x", agent=scribe)]).kickoff()
    assert {call.position for call in gate.calls} == {None}
