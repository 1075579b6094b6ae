"""Threads of the program's own work for the agent that has started them."""

from __future__ import annotations

import decimal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import openai
import pytest
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool as crew_tool
from langchain_core.runnables.config import var_child_runnable_config
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph

import omium
from gate_double import Gate

WORDS = ["a", "b", "c"]
Ask = Callable[[str], Any]


def by_pool(ask: Ask) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, WORDS[:2]))
        pool.submit(ask, WORDS[2]).result()


def by_threads(ask: Ask) -> None:
    class Own(threading.Thread):
        def run(self) -> None:
            ask(WORDS[0])

    started = [Own(), threading.Thread(target=ask, args=(WORDS[1],)), threading.Timer(0, ask, (WORDS[2],))]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
        assert "run" not in vars(thread)


def by_pool_of_threads(ask: Ask) -> None:
    with ThreadPool(2) as pool:
        pool.map(ask, WORDS[:1])
        list(pool.imap(ask, WORDS[1:2]))
        pool.apply_async(ask, (WORDS[2],)).get()


def by_thread_in_thread(ask: Ask) -> None:
    def outer() -> None:
        by_pool(ask)

    thread = threading.Thread(target=outer)
    thread.start()
    thread.join()


WAYS = [by_pool, by_threads, by_pool_of_threads, by_thread_in_thread]


@pytest.mark.parametrize("way", WAYS)
def test_calls_in_threads_of_a_node_are_the_nodes(gate: Gate, way: Callable[[Ask], None]) -> None:
    model = ChatOpenAI(model="gpt-4o-mini")

    @omium.tool(effect="read")
    def look(word: str) -> str:
        return word

    def writer(state: dict[str, Any]) -> dict[str, Any]:
        way(lambda word: (model.invoke(word), look(word)))
        return state

    graph = StateGraph(dict)
    graph.add_node("writer", writer)
    graph.add_edge(START, "writer")
    graph.add_edge("writer", END)
    graph.compile().invoke({"n": 1})
    assert gate.callers == ["writer#0"] * 3
    assert {call.position for call in gate.calls} == {"1"}
    assert [(call["caller"], call["position"]) for call in gate.tools] == [("writer#0", "1")] * 3


@pytest.mark.parametrize("way", WAYS)
def test_calls_in_threads_of_a_tool_are_its_agents(gate: Gate, way: Callable[[Ask], None]) -> None:
    client = openai.OpenAI()

    @omium.tool
    def inner(word: str) -> str:
        return word

    @crew_tool("lookup")
    def lookup(word: str) -> str:
        """Looks a word up."""
        messages: Any = [{"role": "user", "content": "say"}]
        way(lambda word: (inner(word), client.chat.completions.create(model="gpt-4o-mini", messages=messages)))
        return word

    finder = Agent(role="Finder", goal="g", backstory="b", llm=LLM(model="openai/gpt-4o-mini"), tools=[lookup])
    Crew(agents=[finder], tasks=[Task(description="Use lookup.", expected_output="x", agent=finder)]).kickoff()
    assert gate.callers == ["Finder#0"] * 5
    assert [call["tool"] for call in gate.tools] == ["lookup"], "what runs within a tool is one call with it"


def test_a_pool_that_serves_several_agents_forgets_each(gate: Gate) -> None:
    client = openai.OpenAI()

    def ask(_: int = 0) -> None:
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "say"}])

    with ThreadPoolExecutor(1) as pool, ThreadPool(1) as other:
        for name in ("First", "Second"):
            with omium.agent(name):
                pool.submit(ask).result()
                other.apply_async(ask).get()
        pool.submit(ask).result()
        other.map(ask, [1])
    assert gate.callers == ["First#0", "First#0", "Second#0", "Second#0", "nobody", "nobody"]


def test_nothing_else_is_carried(gate: Gate) -> None:
    del gate
    seen: list[Any] = []

    def look() -> None:
        seen.append((decimal.getcontext().prec, var_child_runnable_config.get()))

    with decimal.localcontext() as context, omium.agent("Writer"):
        context.prec = 5
        with ThreadPoolExecutor(1) as pool:
            pool.submit(look).result()
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == [(28, None), (28, None)]


def test_what_a_pool_is_given_keeps_its_errors_and_results(gate: Gate) -> None:
    del gate
    with omium.agent("Writer"), ThreadPoolExecutor(1) as pool, ThreadPool(1) as other:
        assert pool.submit(divmod, 7, 2).result() == other.apply(divmod, (7, 2)) == (3, 1)
        assert other.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0).result()
        with pytest.raises(TypeError):
            pool.submit()  # type: ignore[call-arg]
