"""Tools run once per recorded call, whatever became of the program in between."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
import pytest

import misfits
import omium
from gate_double import FINE, LOST, REPLY_LOST, Gate
from omium.tools import effects, failures

Ran = list[str]


@pytest.fixture
def ran() -> Ran:
    return []


def adder(ran: Ran, **declared: Any) -> Any:
    @omium.tool(**declared)
    def add(left: int, right: int = 1) -> dict[str, Any]:
        ran.append("add")
        return {"sum": left + right, "at": "end"}

    return add


def test_a_result_is_given_again_and_the_tool_does_not_run_again(gate: Gate, ran: Ran) -> None:
    add = adder(ran)
    with omium.agent("Clerk"):
        first = [add(1, right=2), add(1, right=2), add(2)]
        gate.new_attempt()
        again = [add(1, right=2), add(1, right=2), add(2)]
    assert again == first
    assert [list(each) for each in again] == [["sum", "at"]] * 3, "keys keep their order"
    assert len(ran) == 3
    assert gate.tools[0] == {
        "caller": "Clerk#0",
        "tool": "add",
        "effect": "write",
        "arguments": {"left": 1, "right": 2},
    }


async def test_asynchronous_tools_are_kept_too_and_the_loop_goes_on_meanwhile(gate: Gate, ran: Ran) -> None:
    @omium.tool(effect="read")
    async def look(word: str) -> str:
        ran.append(word)
        await asyncio.sleep(0)
        return word.upper()

    assert list(await asyncio.gather(look("a"), look("b"))) == ["A", "B"]
    gate.new_attempt()
    assert list(await asyncio.gather(look("b"), look("a"))) == ["B", "A"]
    assert sorted(ran) == ["a", "b"]
    assert {(call["caller"], call["effect"]) for call in gate.tools} == {("program#0", "read")}


def test_a_failure_is_raised_again_as_it_was(gate: Gate, ran: Ran) -> None:
    @omium.tool
    def fail(kind: str) -> None:
        ran.append(kind)
        raise {"key": KeyError("no such city"), "os": FileNotFoundError(2, "gone", "x.txt"), "own": Odd(3)}[kind]

    def outcomes() -> list[tuple[type, str]]:
        seen: list[tuple[type, str]] = []
        for kind in ("key", "os", "own"):
            with pytest.raises((KeyError, OSError, Odd)) as raised:
                fail(kind)
            seen.append((raised.type, repr(raised.value)))
        return seen

    first = outcomes()
    gate.new_attempt()
    assert outcomes() == first
    assert len(ran) == 3


class Odd(Exception):
    """An exception of the program."""


def test_a_failure_of_a_class_that_cannot_be_made_again_keeps_its_words(gate: Gate) -> None:
    class Local(Exception):
        pass

    class Wordy(Exception):
        def __init__(self, code: int) -> None:
            super().__init__(f"code {code}")

    @omium.tool
    def fail(local: bool) -> None:
        raise Local("here") if local else Wordy(4)

    for local in (True, False):
        with pytest.raises((Local, Wordy)):
            fail(local)
    gate.new_attempt()
    for local, words in ((True, "Local: here"), (False, "Wordy: code 4")):
        with pytest.raises(omium.ToolFailed, match=words):
            fail(local)


def test_what_cannot_be_kept_is_given_to_the_program_and_never_repeated_in_silence(gate: Gate, ran: Ran) -> None:
    @omium.tool(effect="write")
    def write() -> object:
        ran.append("write")
        return object()

    @omium.tool(effect="read")
    def read() -> object:
        ran.append("read")
        return object()

    assert type(write()) is type(read()) is object
    gate.new_attempt()
    assert type(read()) is object
    with pytest.raises(omium.Refused, match="nobody knows about write"):
        write()
    assert ran == ["write", "read", "read"]
    assert gate.outcomes == [], "nothing is said to have failed"


def test_layers_of_one_tool_are_one_call_and_what_another_agent_does_within_is_another(gate: Gate) -> None:
    @omium.tool(effect="read")
    def inner() -> int:
        return 1

    @omium.tool
    def outer() -> int:
        return inner() + 1

    @omium.tool
    def asks() -> int:
        with omium.agent("Helper"):
            return inner()

    with omium.agent("Clerk"):
        assert outer() == 2
        assert asks() == 1
    assert [(call["caller"], call["tool"]) for call in gate.tools] == [
        ("Clerk#0", "outer"),
        ("Clerk#0", "asks"),
        ("Helper#0", "inner"),
    ]


def test_the_environment_has_the_last_word_about_effects(
    gate: Gate, ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMIUM_TOOL_EFFECTS", "add=idempotent, other=nonsense,,")
    adder(ran, effect="irreversible")(1)
    monkeypatch.setenv("OMIUM_TOOL_EFFECTS", "add=local")
    adder(ran, effect="irreversible")(1)
    monkeypatch.delenv("OMIUM_TOOL_EFFECTS")
    adder(ran, effect="irreversible", name="plus")(1)
    assert [(call["tool"], call["effect"]) for call in gate.tools] == [("add", "idempotent"), ("plus", "irreversible")]
    assert "`other=nonsense` is left out" in capsys.readouterr().err
    assert len(ran) == 3


def test_a_refusal_says_what_the_gate_says_and_the_tool_does_not_run(gate: Gate, ran: Ran) -> None:
    gate.refusal = (409, {"code": "outcome_unknown", "detail": "nobody knows", "hint": "look first"})
    with pytest.raises(omium.Refused, match=r"nobody knows \(outcome_unknown\); look first") as raised:
        adder(ran)(1)
    assert (raised.value.status, raised.value.code, raised.value.hint) == (409, "outcome_unknown", "look first")
    assert ran == []


@pytest.mark.parametrize("answer", [(503, {}), (200, {"new": "word"})])
def test_a_gate_that_says_nothing_of_use_counts_as_gone(
    gate: Gate, ran: Ran, answer: tuple[int, dict[str, str]]
) -> None:
    gate.refusal = answer
    with pytest.raises(omium.GateUnreachable, match="`add` was not run"):
        adder(ran)(1)
    assert ran == []


async def test_without_an_answer_of_the_gate_nothing_runs(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMIUM_GATE", "http://127.0.0.1:9/x/ex_test")
    monkeypatch.setenv("OMIUM_EXECUTION", "ex_test")
    with pytest.raises(omium.GateUnreachable, match="omium exec --resume ex_test"):
        adder(ran)(1)

    @omium.tool
    async def look() -> None:
        ran.append("look")

    with pytest.raises(omium.Fenced, match="this attempt is over"):
        await look()
    assert ran == []


def test_a_model_call_without_a_gate_fails_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMIUM_GATE", "http://127.0.0.1:9/x/ex_gone")
    monkeypatch.setenv("OMIUM_EXECUTION", "ex_gone")
    client = openai.OpenAI(base_url="http://127.0.0.1:9/x/ex_gone/v1", api_key="t", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "say"}])
    err = capsys.readouterr().err
    assert "does not answer. No call was made past it." in err
    assert "omium exec --resume ex_gone" in err


def test_a_model_call_that_is_refused_within_a_tool_is_no_failure_of_the_tool(gate: Gate) -> None:
    client = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="t", max_retries=0)

    @omium.tool
    def summarize() -> str:
        return str(client.models.list())

    with pytest.raises(openai.APIConnectionError):
        summarize()
    assert gate.outcomes == [], "its outcome is unknown, and so it is left"


def test_without_a_gate_a_tool_is_the_function_that_it_was(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMIUM_GATE", raising=False)
    add = adder(ran)
    assert add(1, right=1) == {"sum": 2, "at": "end"}
    assert add.__name__ == "add"


def test_only_what_gives_one_value_can_be_a_tool() -> None:
    with pytest.raises(TypeError, match="bit by bit"):

        @omium.tool
        def stream() -> Any:
            yield 1


def test_tools_that_others_have_made_can_be_declared() -> None:
    @dataclass
    class Made:
        name: str
        func: Any

    @dataclass(frozen=True)
    class Frozen:
        name: str

    made = omium.tool(effect="read")(Made("made", lambda: 1))
    frozen = omium.tool(effect="idempotent")(Frozen("frozen"))
    assert effects.of("made", made) is effects.Effect.READ
    assert effects.of("made", Made("copy", made.func)) is effects.Effect.READ, "copies share the function"
    assert effects.of("frozen", frozen) is effects.Effect.IDEMPOTENT
    with pytest.raises(TypeError, match="neither a function nor a tool"):
        omium.tool(effect="read")(3)


def test_methods_are_recorded_without_the_object_that_they_belong_to(gate: Gate) -> None:
    class Desk:
        @omium.tool(effect="read")
        def find(self, word: str) -> str:
            return word

    assert Desk().find("apr") == "apr"
    assert gate.tools[0]["arguments"] == {"word": "apr"}


@pytest.mark.parametrize("make", [*misfits.KEPT, *misfits.LEFT])
def test_a_good_result_is_the_programs_whatever_its_class_does(gate: Gate, ran: Ran, make: Callable[[], Any]) -> None:
    result = make()

    @omium.tool(effect="write")
    def place() -> Any:
        ran.append("place")
        return result

    assert place() is result
    assert all("failed" not in outcome for outcome in gate.outcomes)
    kept = bool(gate.outcomes)
    assert kept == (make in misfits.KEPT)
    gate.new_attempt()
    if kept:
        assert type(place()) is type(result)
    else:
        with pytest.raises(omium.Refused, match="nobody knows about place"):
            place()
    assert ran == ["place"]


def test_a_result_that_the_gate_does_not_take_is_the_programs_too(
    gate: Gate, ran: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    gate.mishaps = iter([200, 413, 200])
    assert adder(ran)(1) == {"sum": 2, "at": "end"}
    assert adder(ran, effect="read")(2) == {"sum": 3, "at": "end"}
    err = capsys.readouterr().err
    assert "the tool `add` ran, and how it ended is not recorded" in err
    assert "asks a person" in err


@pytest.mark.parametrize("effect", ["read", "write"])
def test_a_result_whose_class_has_moved_is_had_again_where_that_does_no_harm(
    gate: Gate, ran: Ran, effect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @omium.tool(effect=effect)  # type: ignore[call-overload]
    def find() -> Any:
        ran.append("find")
        return misfits.Pair(1, "r")

    find()
    gate.new_attempt()
    monkeypatch.delattr(misfits, "Pair")
    monkeypatch.setattr(misfits, "Pair", lambda *given: given, raising=False)
    if effect == "read":
        assert find() == (1, "r")
        assert len(ran) == 2
        return
    with pytest.raises(omium.Unrecordable, match=r"misfits:Pair is no class.*OMIUM_TOOL_EFFECTS=find=idempotent"):
        find()
    with pytest.raises(omium.Fenced, match="misfits:Pair"):
        find()
    assert ran == ["find"]


def test_the_text_of_a_server_is_never_taken_for_a_class(gate: Gate) -> None:
    sys.modules.pop("this", None)
    forged = 'no [omium {"args": ["x"], "type": "this:nothing"}]'

    class Local(Exception):
        pass

    @omium.tool
    def fail(local: bool) -> None:
        raise Local(forged) if local else ValueError(forged)

    for _ in range(2):
        with pytest.raises(ValueError, match=r"no \[omium"):
            fail(False)
        with pytest.raises((Local, omium.ToolFailed), match="this:nothing"):
            fail(True)
        gate.new_attempt()
    assert "this" not in sys.modules
    with pytest.raises(omium.ToolFailed):
        raise failures.again('x [omium {"args": ["x"], "type": "this:nothing"}]')
    assert "this" not in sys.modules


class Status(Exception):
    """Its constructor wants what its arguments do not say."""

    response: Any = None

    def __init__(self, text: str, status: int, response: Any = None) -> None:
        super().__init__(text)
        self.status = status
        if response is not None:
            self.response = response


def test_a_failure_keeps_what_it_bore_and_does_not_hide_what_is_lost(gate: Gate) -> None:
    @omium.tool
    def fail(bare: bool) -> None:
        raise Status("gone", 404, None if bare else object())

    for bare in (True, False):
        with pytest.raises(Status):
            fail(bare)
    gate.new_attempt()
    with pytest.raises(Status, match="gone") as raised:
        fail(True)
    assert (raised.value.status, raised.value.response) == (404, None)
    with pytest.raises(Status, match="gone") as raised:
        fail(False)
    assert raised.value.status == 404
    assert "not kept" in repr(raised.value.response)
    with pytest.raises(omium.Unrecordable, match="`response` of the Status"):
        _ = raised.value.response.text
    with pytest.raises(omium.Fenced):
        fail(True)


async def test_a_tool_that_the_program_cuts_off_stays_open(gate: Gate, capsys: pytest.CaptureFixture[str]) -> None:
    ran: Ran = []

    @omium.tool(effect="read")
    async def slow() -> None:
        ran.append("slow")
        await asyncio.Event().wait()

    for _ in range(2):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(slow(), 0.05)
        gate.new_attempt()
    assert len(ran) == 2
    assert gate.outcomes == []
    assert "it was cut off (CancelledError); an attempt after this runs it again" in capsys.readouterr().err


def test_what_is_said_to_the_gate_goes_over_one_connection(gate: Gate, ran: Ran) -> None:
    add = adder(ran)
    for number in range(5):
        add(number)
    assert gate.connections == 1


@pytest.mark.parametrize("mishap", [LOST, REPLY_LOST, 503])
def test_equal_calls_stay_apart_however_often_each_is_asked_again(gate: Gate, ran: Ran, mishap: int) -> None:
    add = adder(ran)
    first = [add(1) for _ in range(2)]
    gate.mishaps = iter([FINE, FINE, mishap, mishap, FINE, mishap, FINE])
    assert [add(1), add(1)] == first
    assert len(ran) == 4
    assert len(gate.tools) == 4
    gate.new_attempt()
    gate.mishaps = iter([mishap, FINE, FINE, mishap, mishap, FINE, mishap])
    assert [add(1) for _ in range(5)] == [*first, *first, first[0]]
    assert len(ran) == 5


async def test_equal_calls_at_once_stay_apart_too(gate: Gate, ran: Ran) -> None:
    @omium.tool
    async def pay() -> str:
        ran.append("pay")
        await asyncio.sleep(0)
        return f"paid {len(ran)}"

    for _ in range(2):
        gate.mishaps = itertools.cycle([REPLY_LOST, FINE, LOST, FINE])
        await asyncio.gather(*(pay() for _ in range(8)))
        assert len(ran) == 8
        gate.new_attempt()
