"""Tools of all four frameworks: recorded once, given again in the form that the framework wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from autogen_agentchat.agents import AssistantAgent, CodeExecutorAgent
from autogen_agentchat.messages import TextMessage
from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock, CodeExecutor, CodeResult
from autogen_core.tools import BaseStreamTool, FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient
from crewai import LLM, Agent, Crew, Task
from crewai.tools import BaseTool as CrewTool
from crewai.tools import tool as crew_tool
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, ToolException, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, create_react_agent
from langgraph.types import Command, interrupt
from pydantic import BaseModel
from semantic_kernel import Kernel
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function

import omium
from gate_double import Gate

Ran = list[str]


@pytest.fixture
def ran() -> Ran:
    return []


class Rate(BaseModel):
    apr: float
    days: tuple[int, ...] = (1, 2)


def twice(gate: Gate, attempt: Callable[[], Any]) -> tuple[Any, Any]:
    first = attempt()
    gate.new_attempt()
    return first, attempt()


def test_tools_of_langchain_in_an_agent(gate: Gate, ran: Ran) -> None:
    @tool(response_format="content_and_artifact")
    def lookup(word: str) -> tuple[str, Rate]:
        """Looks a word up."""
        ran.append(word)
        return f"about {word}", Rate(apr=0.1 + 0.2)

    def attempt() -> ToolMessage:
        agent = create_react_agent(ChatOpenAI(model="gpt-4o-mini"), [lookup], name="researcher")
        messages = agent.invoke({"messages": [("user", "use lookup")]})["messages"]
        return next(message for message in messages if isinstance(message, ToolMessage))

    first, again = twice(gate, attempt)
    assert (again.content, again.artifact, again.tool_call_id) == (first.content, first.artifact, first.tool_call_id)
    assert again.artifact == Rate(apr=0.1 + 0.2)
    assert ran == ["apr"]
    assert len(gate.tools) == 1


async def test_tools_of_langchain_that_are_classes_or_asynchronous(gate: Gate, ran: Ran) -> None:
    class Own(BaseTool):
        name: str = "own"
        description: str = "Own."
        handle_tool_error: bool = True

        def _run(self, word: str) -> str:
            ran.append(word)
            raise ToolException(f"no {word}")

    async def find(word: str) -> str:
        """Finds."""
        ran.append(word)
        return word

    own, made = Own(), StructuredTool.from_function(coroutine=find, name="find")
    first = [own.invoke({"word": "a"}), await own.ainvoke({"word": "b"}), await made.ainvoke({"word": "c"})]
    gate.new_attempt()
    again = [own.invoke({"word": "a"}), await own.ainvoke({"word": "b"}), await made.ainvoke({"word": "c"})]
    assert again == first == ["no a", "no b", "c"]
    assert ran == ["a", "b", "c"]
    assert [call["arguments"] for call in gate.tools] == [{"word": "a"}, {"word": "b"}, {"word": "c"}]


def test_a_tool_that_hands_over_to_a_node_does_so_again(gate: Gate, ran: Ran) -> None:
    @tool
    def route(to: str) -> Command[Any]:
        """Routes."""
        ran.append(to)
        return Command(goto=to, update={"messages": [ToolMessage("routed", tool_call_id="call_1")]})

    first, again = twice(gate, lambda: route.invoke({"to": "writer"}))
    assert again == first
    assert ran == ["writer"]


def test_a_tool_that_asks_a_human_is_run_again_and_then_recorded(gate: Gate, ran: Ran) -> None:
    @tool
    def lookup(word: str) -> str:
        """Looks a word up."""
        said = interrupt("may I?")
        ran.append(word)
        return f"{word} {said}"

    def attempt() -> str:
        agent = create_react_agent(ChatOpenAI(model="gpt-4o-mini"), [lookup], checkpointer=InMemorySaver())
        thread: Any = {"configurable": {"thread_id": "1"}}
        paused = agent.invoke({"messages": [("user", "use lookup")]}, thread)
        assert paused["__interrupt__"][0].value == "may I?"
        messages = agent.invoke(Command(resume="yes"), thread)["messages"]
        return str(messages[-2].content)

    assert twice(gate, attempt) == ("apr yes", "apr yes")
    assert ran == ["apr"]


def test_tools_of_crewai_of_functions_and_classes(gate: Gate, ran: Ran) -> None:
    @crew_tool("lookup")
    def lookup(word: str) -> str:
        """Looks a word up."""
        ran.append(word)
        return f"about {word}"

    class Lookup(CrewTool):
        name: str = "lookup"
        description: str = "Looks a word up."

        def _run(self, word: str) -> str:
            ran.append(word)
            return f"about {word}"

    def attempt(given: Any) -> str:
        finder = Agent(role="Finder", goal="g", backstory="b", llm=LLM(model="openai/gpt-4o-mini"), tools=[given])
        task = Task(description="Use lookup.", expected_output="x", agent=finder)
        Crew(agents=[finder], tasks=[task]).kickoff()
        return str(gate.calls[-1].body["messages"])

    for given in (lambda: lookup, Lookup):
        gate._recorded.clear()
        gate._begun.clear()
        gate.new_attempt()
        ran.clear()
        first, again = twice(gate, lambda given=given: attempt(given()))  # type: ignore[misc]
        assert "about apr" in first
        assert again == first
        assert ran == ["apr"]
        assert len(gate.tools) == 1


async def test_tools_of_crewai_that_are_asynchronous(gate: Gate, ran: Ran) -> None:
    @crew_tool("look")
    async def look(word: str) -> str:
        """Looks."""
        ran.append(word)
        return word.upper()

    first = await look.arun(word="a")
    gate.new_attempt()
    assert await look.arun(word="a") == first == "A"
    assert ran == ["a"]


def test_a_tool_of_langchain_within_one_of_crewai_is_one_call(gate: Gate, ran: Ran) -> None:
    @tool
    def inner(word: str) -> str:
        """Looks."""
        ran.append(word)
        return word

    @crew_tool("outer")
    def outer(word: str) -> str:
        """Looks."""
        return str(inner.invoke({"word": word}))

    assert twice(gate, lambda: outer.run(word="a")) == ("a", "a")
    assert [call["tool"] for call in gate.tools] == ["outer"]
    assert ran == ["a"]


async def test_tools_of_autogen(gate: Gate, ran: Ran) -> None:
    async def lookup(word: str) -> Rate:
        """Looks a word up."""
        ran.append(word)
        return Rate(apr=5.2)

    async def attempt() -> str:
        client = OpenAIChatCompletionClient(model="gpt-4o-mini")
        finder = AssistantAgent("Finder", client, tools=[lookup], reflect_on_tool_use=True)
        await finder.run(task="use lookup")
        return str(gate.calls[-1].body["messages"])

    first = await attempt()
    gate.new_attempt()
    assert await attempt() == first
    assert "5.2" in first
    assert ran == ["apr"]


async def test_tools_of_autogen_that_are_called_directly_and_fail(gate: Gate, ran: Ran) -> None:
    @omium.tool(effect="read")
    def fail(word: str) -> str:
        ran.append(word)
        raise ValueError(f"no {word}")

    made = FunctionTool(fail, description="Fails.")
    for _ in range(2):
        with pytest.raises(ValueError, match="no a"):
            await made.run_json({"word": "a"}, CancellationToken())
        gate.new_attempt()
    assert ran == ["a"]


async def test_a_tool_that_streams_is_not_recorded_and_that_is_told(
    gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    class Drip(BaseStreamTool[Rate, Rate, Rate]):
        def __init__(self) -> None:
            super().__init__(Rate, Rate, "drip", "Drips.")

        async def run(self, args: Rate, cancellation_token: CancellationToken) -> Rate:
            del cancellation_token
            return args

        async def run_stream(self, args: Rate, cancellation_token: CancellationToken) -> Any:
            del cancellation_token
            yield args

    class Words:
        @kernel_function(name="spell", description="Spells.")
        async def spell(self, word: str) -> Any:
            for letter in word:
                yield letter

    drops = [drop async for drop in Drip().run_json_stream({"apr": 1}, CancellationToken())]
    kernel = Kernel()
    letters = [part async for part in kernel.add_plugin(Words(), "words")["spell"].invoke_stream(kernel, word="ab")]
    assert drops == [Rate(apr=1)]
    assert letters == ["a", "b"]
    assert gate.tools == []
    err = capsys.readouterr().err
    assert "the tool `drip` streams its result" in err
    assert "the tool `spell` streams its result" in err


async def test_functions_of_semantic_kernel(gate: Gate, ran: Ran) -> None:
    class Words:
        @kernel_function(name="lookup", description="Looks a word up.")
        @omium.tool(effect="read")
        async def lookup(self, word: str) -> str:
            ran.append(word)
            return f"about {word}"

    async def attempt() -> str:
        service = OpenAIChatCompletion(ai_model_id="gpt-4o-mini")
        finder = ChatCompletionAgent(service=service, name="Finder", plugins=[Words()])
        await finder.get_response(messages="use lookup")
        kernel = Kernel()
        direct = await kernel.add_plugin(Words(), "words")["lookup"].invoke(kernel, word="b")
        return f"{direct} {gate.calls[-1].body['messages']}"

    first = await attempt()
    calls = list(gate.tools)
    gate.new_attempt()
    assert await attempt() == first
    assert first.startswith("about b")
    assert "about apr" in first
    assert ran == ["apr", "b"]
    assert [(call["caller"], call["tool"], call["effect"]) for call in calls] == [
        ("Finder#0", "lookup", "read"),
        ("program#0", "lookup", "read"),
    ]


def test_effects_are_declared_on_the_tools_of_frameworks(gate: Gate) -> None:
    @tool
    def first(word: str) -> str:
        """First."""
        return word

    @crew_tool("second")
    def second(word: str) -> str:
        """Second."""
        return word

    class Third(CrewTool):
        name: str = "third"
        description: str = "Third."

        def _run(self, word: str) -> str:
            return word

    omium.tool(effect="read")(first).invoke({"word": "a"})
    omium.tool(effect="idempotent")(second).run(word="a")
    omium.tool(effect="irreversible")(Third()).run(word="a")
    assert [call["effect"] for call in gate.tools] == ["read", "idempotent", "irreversible"]


def test_a_handover_with_the_messages_of_the_state_brings_none_of_them_twice(gate: Gate, ran: Ran) -> None:
    @tool
    def transfer_to_second(
        state: Annotated[dict[str, Any], InjectedState], tool_call_id: Annotated[str, InjectedToolCallId]
    ) -> Command[Any]:
        """Hands over."""
        ran.append("transfer")
        done = ToolMessage("done", name="transfer_to_second", tool_call_id=tool_call_id)
        update = {"messages": [*state["messages"], done]}
        return Command(goto="second", update=update, graph=Command.PARENT)

    def attempt() -> list[str]:
        model = ChatOpenAI(model="gpt-4o-mini")
        first = create_react_agent(model, [transfer_to_second], prompt="you are first", name="first")
        second = create_react_agent(model, [], prompt="you are second", name="second")
        graph = StateGraph(MessagesState)
        graph.add_node("first", first)
        graph.add_node("second", second)
        graph.add_edge(START, "first")
        messages = graph.compile().invoke({"messages": [("user", "hand over")]})["messages"]
        return [str(message.content) for message in messages]

    first, again = twice(gate, attempt)
    assert again == first
    assert len(first) == 4
    assert ran == ["transfer"]


async def test_code_that_an_agent_of_autogen_runs_is_run_once(gate: Gate, ran: Ran) -> None:
    class Executor(CodeExecutor):
        async def execute_code_blocks(self, code_blocks: list[CodeBlock], cancellation_token: Any) -> CodeResult:
            del cancellation_token
            ran.append(code_blocks[0].code)
            return CodeResult(0, "2")

        async def start(self) -> None: ...

        async def stop(self) -> None: ...

        async def restart(self) -> None: ...

    async def attempt() -> str:
        agent = CodeExecutorAgent("Runner", Executor())
        done = await agent.run(task=[TextMessage(content="```python\nprint(1 + 1)\n```", source="user")])
        return str(done.messages[-1])

    first = await attempt()
    gate.new_attempt()
    again = await attempt()
    assert "2" in first
    assert "2" in again
    assert ran == ["print(1 + 1)\n"]
    assert [(call["caller"], call["tool"]) for call in gate.tools] == [("Runner#0", "execute_code_blocks")]
