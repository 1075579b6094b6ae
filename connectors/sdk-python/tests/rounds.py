"""Five rounds of a draw and a payment, with LangGraph's own checkpoints on disk; dies at the place it is told."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Send

ROUNDS = 5
DEADLY = int(os.environ.get("DIES_AT", "0"))
MODEL = ChatOpenAI(model="gpt-4o-mini")
THREAD: Any = {"configurable": {"thread_id": "rounds"}}
passed = 0


def place() -> None:
    global passed
    passed += 1
    if passed == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)


@tool
def pay(round: int) -> str:
    """Pays."""
    with Path(os.environ["TOOL_COUNTER"]).open("a", encoding="utf-8") as file:
        file.write(f"pay {round}\n")
    return f"paid {round}"


def draw() -> str:
    place()
    drawn = str(MODEL.invoke("draw a number").content)
    place()
    return drawn


def paid(round: int) -> None:
    place()
    # The same arguments each time: only the place tells one payment from the next.
    pay.invoke({"round": 0})
    place()
    del round


def added(old: list[str], new: list[str]) -> list[str]:
    return [*old, *new]


class State(TypedDict):
    drawn: Annotated[list[str], added]


def worker(_: State) -> dict[str, Any]:
    return {"drawn": [draw()]}


def payer(state: State) -> dict[str, Any]:
    paid(len(state["drawn"]))
    return {}


def more(state: State) -> str:
    return END if len(state["drawn"]) >= ROUNDS else "worker"


def plain(saver: SqliteSaver) -> list[str]:
    graph = StateGraph(State)
    graph.add_node("worker", worker)
    graph.add_node("payer", payer)
    graph.add_edge(START, "worker")
    graph.add_edge("worker", "payer")
    graph.add_conditional_edges("payer", more)
    return run(graph.compile(saver))


def nested(saver: SqliteSaver) -> list[str]:
    """Each round is a graph within the graph, whose own steps are the same in each."""
    inner = StateGraph(State)
    inner.add_node("drawer", worker)
    inner.add_node("payer", payer)
    inner.add_edge(START, "drawer")
    inner.add_edge("drawer", "payer")
    made = inner.compile()

    def round_of(state: State) -> dict[str, Any]:
        known = len(state["drawn"])
        return {"drawn": made.invoke(state)["drawn"][known:]}

    graph = StateGraph(State)
    graph.add_node("worker", round_of)
    graph.add_edge(START, "worker")
    graph.add_conditional_edges("worker", more)
    return run(graph.compile(saver))


def sent(saver: SqliteSaver) -> list[str]:
    """Payments are sent out as calls of a node of tools."""

    def call(state: State) -> list[Send]:
        name = f"call_{len(state['drawn'])}"
        given = {"name": "pay", "args": {"round": 0}, "id": name, "type": "tool_call"}
        return [Send("tools", {"messages": [], "__type": "tool_call_with_context", "tool_call": given, "state": state})]

    def caller(state: State) -> dict[str, Any]:
        place()
        del state
        return {}

    graph = StateGraph(State)
    graph.add_node("worker", worker)
    graph.add_node("caller", caller)
    graph.add_node("tools", ToolNode([pay]))
    graph.add_node("after", lambda _: {})
    graph.add_edge(START, "worker")
    graph.add_edge("worker", "caller")
    graph.add_conditional_edges("caller", call, ["tools"])
    graph.add_edge("tools", "after")
    graph.add_conditional_edges("after", more, ["worker", END])
    return run(graph.compile(saver))


def run(app: Any) -> list[str]:
    # What is next says nothing: the work of a step may be kept before the step is.
    begun = app.checkpointer.get_tuple(THREAD) is not None
    return list(app.invoke(None if begun else {"drawn": []}, THREAD)["drawn"])


def function(saver: SqliteSaver) -> list[str]:
    draws = task(draw)
    pays = task(paid)

    @entrypoint(checkpointer=saver)
    def rounds(_: Any) -> list[str]:
        drawn: list[str] = []
        for round in range(ROUNDS):
            drawn.append(draws().result())
            pays(round).result()
        return drawn

    begun = saver.get_tuple(THREAD) is not None
    return list(rounds.invoke(None if begun else 0, THREAD))


if __name__ == "__main__":
    way = {"plain": plain, "nested": nested, "sent": sent, "function": function}[os.environ["WAY"]]
    base = sqlite3.connect(os.environ["CHECKPOINTS"], check_same_thread=False)
    print(",".join(way(SqliteSaver(base))), flush=True)
    sys.exit(0)
