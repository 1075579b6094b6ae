"""Who calls in graphs of all shapes."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import create_react_agent
from langgraph.types import Send

from gate_double import Gate


class State(TypedDict, total=False):
    messages: Annotated[list[Any], operator.add]
    rounds: Annotated[int, operator.add]


def ask(text: str = "say") -> Any:
    return ChatOpenAI(model="gpt-4o-mini").invoke([HumanMessage(text)])


def node(text: str = "say") -> Any:
    def run(_: State) -> State:
        ask(text)
        return {"rounds": 1}

    return run


def chain(*names: str) -> StateGraph[Any]:
    graph: StateGraph[Any] = StateGraph(State)
    for name in names:
        graph.add_node(name, node())
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph


def test_a_loop_counts_the_activations_of_each_node(gate: Gate) -> None:
    graph = StateGraph(State)
    graph.add_node("Writer", node())
    graph.add_node("Critic", node())
    graph.add_edge(START, "Writer")
    graph.add_edge("Writer", "Critic")
    graph.add_conditional_edges("Critic", lambda state: END if state["rounds"] > 3 else "Writer")
    graph.compile().invoke({"rounds": 0})
    assert gate.callers == ["Writer#0", "Critic#0", "Writer#1", "Critic#1"]


def test_lanes_of_one_step_share_its_index(gate: Gate) -> None:
    graph = StateGraph(State)
    graph.add_node("Plan", node())
    graph.add_node("Work", node())
    graph.add_edge(START, "Plan")
    graph.add_conditional_edges("Plan", lambda _: [Send("Work", {}), Send("Work", {}), Send("Work", {})])
    graph.compile().invoke({})
    assert Counter(gate.callers) == {"Plan#0": 1, "Work#0": 3}


def test_names_of_any_script_come_through(gate: Gate) -> None:
    chain("Gutachter für Zinsen", "審査官", "C# reviewer").compile().invoke({})
    assert gate.callers == ["Gutachter für Zinsen#0", "審査官#0", "C# reviewer#0"]


def test_a_node_within_a_graph_within_a_node_is_named_by_itself(gate: Gate) -> None:
    outer = StateGraph(State)
    outer.add_node("team", chain("inner").compile())
    outer.add_node("last", node())
    outer.add_edge(START, "team")
    outer.add_edge("team", "last")
    outer.compile().invoke({})
    assert gate.callers == ["inner#0", "last#0"]


def test_a_prebuilt_agent_bears_its_own_name(gate: Gate) -> None:
    agent = create_react_agent(ChatOpenAI(model="gpt-4o-mini"), [], name="researcher")
    agent.invoke({"messages": [("user", "say")]})
    assert gate.callers == ["researcher#0"]


def test_an_unnamed_prebuilt_agent_bears_the_name_of_the_node_that_runs_it(gate: Gate) -> None:
    agent = create_react_agent(ChatOpenAI(model="gpt-4o-mini"), [])

    def research(_: State) -> State:
        agent.invoke({"messages": [("user", "say")]})
        return {"rounds": 1}

    outer = StateGraph(State)
    outer.add_node("research", research)
    outer.add_node("again", agent)
    outer.add_edge(START, "research")
    outer.add_edge("research", "again")
    outer.add_conditional_edges("again", lambda state: END if state["rounds"] > 1 else "research")
    outer.compile().invoke({"messages": [("user", "say")], "rounds": 0})
    assert gate.callers == ["research#0", "again#0", "research#1", "again#1"]


def test_the_tools_of_a_prebuilt_agent_are_called_by_the_agent(gate: Gate) -> None:
    @tool
    def lookup(word: str) -> str:
        """Looks a word up."""
        return word

    agent = create_react_agent(ChatOpenAI(model="gpt-4o-mini"), [lookup], name="researcher")
    agent.invoke({"messages": [("user", "use lookup")]})
    assert gate.callers == ["researcher#0", "researcher#0"]
    assert [call["caller"] for call in gate.tools] == ["researcher#0"]


def test_tasks_of_the_functional_api_are_named(gate: Gate) -> None:
    @task
    def draft() -> str:
        return str(ask().content)

    @entrypoint()
    def flow(_: str) -> str:
        return str(draft().result())

    flow.invoke("go")
    assert gate.callers == ["draft#0"]


@pytest.mark.parametrize("streaming", [False, True])
async def test_nodes_that_are_asynchronous_are_named(gate: Gate, streaming: bool) -> None:
    async def run(_: State) -> State:
        await ChatOpenAI(model="gpt-4o-mini", streaming=streaming).ainvoke([SystemMessage("x"), HumanMessage("say")])
        return {"rounds": 1}

    graph = StateGraph(State)
    graph.add_node("left", run)
    graph.add_node("right", run)
    graph.add_edge(START, "left")
    graph.add_edge(START, "right")
    async for _ in graph.compile().astream({}, stream_mode="messages"):
        pass
    assert Counter(gate.callers) == {"left#0": 1, "right#0": 1}


def test_a_stream_that_is_left_early_leaves_nothing_behind(gate: Gate) -> None:
    stream = chain("first", "second").compile().stream({})
    next(stream)
    ask()
    stream.close()
    ask()
    assert gate.callers == ["first#0", "nobody", "nobody"]


def positions(gate: Gate) -> list[str | None]:
    return [call.position for call in gate.calls]


def test_a_position_is_the_graphs_own_step_and_goes_on_with_its_checkpoints(gate: Gate) -> None:
    app = chain("first", "second").compile(InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "one"}}
    app.invoke({}, thread)
    app.invoke({}, thread)
    assert gate.callers == ["first#0", "second#0"] * 2
    assert positions(gate) == ["1", "2", "5", "6"]


def test_positions_within_graphs_and_of_what_is_sent_out_hold_no_fresh_ids(gate: Gate) -> None:
    graph = StateGraph(State)
    graph.add_node("Plan", node())
    graph.add_node("team", chain("inner").compile())
    graph.add_edge(START, "Plan")
    graph.add_conditional_edges("Plan", lambda _: [Send("team", {}), Send("team", {})])
    seen = []
    for _ in range(2):
        graph.compile().invoke({})
        seen.append(Counter(positions(gate)))
        gate.new_attempt()
    assert seen[0] == seen[1] == {"1": 1, "2.0:team/1": 1, "2.1:team/1": 1}


def test_each_task_of_a_function_has_a_position_of_its_own(gate: Gate) -> None:
    inner = task(lambda: ask() and None, name="inner")
    outer = task(lambda: inner().result(), name="outer")

    @entrypoint()
    def flow(_: Any) -> None:
        ask()
        for _ in range(2):
            inner().result()
        outer().result()

    flow.invoke({})
    places = positions(gate)
    assert len(places) == len(set(places)) == 4


def test_a_position_that_does_not_fit_is_still_the_same_in_each_run(gate: Gate) -> None:
    name = "審" * 60
    outer = StateGraph(State)
    outer.add_node(name, chain("inner").compile())
    outer.add_edge(START, name)
    seen = set()
    for _ in range(2):
        outer.compile().invoke({})
        seen.add(gate.calls[-1].position)
    (place,) = seen
    assert place is not None
    assert len(place) == 64


async def test_positions_are_known_to_tools_and_to_asynchronous_nodes(gate: Gate) -> None:
    @tool
    async def lookup(word: str) -> str:
        """Looks a word up."""
        return word

    model = ChatOpenAI(model="gpt-4o-mini")
    agent = create_react_agent(model, [lookup], name="finder", checkpointer=InMemorySaver())
    await agent.ainvoke({"messages": [("user", "use lookup")]}, {"configurable": {"thread_id": "1"}})
    assert positions(gate) == ["1", "3"]
    assert [call["position"] for call in gate.tools] == ["2.0"]
