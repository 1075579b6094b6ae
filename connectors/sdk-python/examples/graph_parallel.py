"""A graph of LangGraph: Researcher and Writer at the same time, then the Reviewer. STREAM=1 streams the answers."""

import json
import os
from typing import TypedDict

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph


class Loan(TypedDict, total=False):
    notes: str
    offer: str
    review: str


@tool
def market_rate(currency: str) -> str:
    """The market rate of a currency."""
    if counter := os.environ.get("TOOL_COUNTER"):
        with open(counter, "a") as lines:
            lines.write(f"market_rate {currency}\n")
    return f"The market rate for {currency} is 4.1 percent."


model = ChatOpenAI(model="gpt-4o-mini", streaming=os.environ.get("STREAM") == "1")


def researcher(_: Loan) -> Loan:
    messages = [
        SystemMessage("You are Researcher. You work for a small bank."),
        HumanMessage("Look up the market rate for a loan in EUR."),
    ]
    while True:
        answer = model.bind_tools([market_rate]).invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            return {"notes": answer.text}
        for call in answer.tool_calls:
            messages.append(ToolMessage(market_rate.invoke(call["args"]), tool_call_id=call["id"]))


def writer(_: Loan) -> Loan:
    answer = model.invoke(
        [
            SystemMessage("You are Writer. You work for a small bank."),
            HumanMessage("Quote an APR for the loan, as JSON with the fields apr and letter."),
        ]
    )
    offer = json.loads(answer.text)
    return {"offer": f"{offer['letter']} APR: {offer['apr']}%"}


def reviewer(state: Loan) -> Loan:
    answer = model.invoke(
        [
            SystemMessage("You are Reviewer. You work for a small bank."),
            HumanMessage(f"Repeat the APR of the offer. {state['notes']} {state['offer']}"),
        ]
    )
    return {"review": answer.text}


def graph() -> StateGraph:
    plan = StateGraph(Loan)
    plan.add_node("Researcher", researcher)
    plan.add_node("Writer", writer)
    plan.add_node("Reviewer", reviewer)
    plan.add_edge(START, "Researcher")
    plan.add_edge(START, "Writer")
    plan.add_edge(["Researcher", "Writer"], "Reviewer")
    plan.add_edge("Reviewer", END)
    return plan


if __name__ == "__main__":
    print(graph().compile().invoke({})["review"])
