"""How `omium exec` ends: as the program does, and well only where the log says so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import desk as desks
from desk import Desk

PROGRAM = """
import os, subprocess, sys, time
from pathlib import Path
import omium, openai

def ask(agent="Writer", text="say"):
    with omium.agent(agent):
        said = [{"role": "system", "content": f"You are {agent}"}, {"role": "user", "content": text}]
        made = openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said)
    return made.choices[0].message.content

def ran(what):
    with open(os.environ["TOOL_COUNTER"], "a") as file:
        file.write(what + chr(10))
"""


@pytest.fixture
def desk(tmp_path: Path, story_model: int) -> Iterator[Desk]:
    with desks.desk(tmp_path, story_model) as served:
        served.vendor.script = lambda _: "APR: 0%"
        yield served


def program(desk: Desk, code: str) -> Path:
    file = desk.folder / "program.py"
    file.write_text(PROGRAM + code)
    return file


def test_a_program_that_goes_on_without_an_answer_has_not_ended_well(desk: Desk) -> None:
    desk.omium("guard", "add", "--agent", "Writer", "--extract", 'apr: number near "APR"', "--rule", "value >= 2.5")
    file = program(desk, "try:\n    print(ask())\nexcept Exception:\n    print('DEFAULT')\n")
    ended = desk.exec(file, options=("--recovery", "approve")).end()
    assert (ended.code, ended.result) == (10, "DEFAULT")
    assert f"{desk.execution()} is suspended; `omium approve" in ended.err


def test_a_program_that_fails_ends_with_its_own_code_and_is_not_sent_back_without_a_reason(desk: Desk) -> None:
    ended = desk.exec(program(desk, "sys.exit(7)")).end()
    assert ended.code == 7
    assert "nothing is recorded of it" in ended.err
    ended = desk.exec(program(desk, "ask(); sys.exit(7)")).end()
    assert ended.code == 7
    assert f"mend what has ended it, then `omium exec --resume {desk.execution()}`" in ended.err


def test_a_guard_that_checked_nothing_is_named_and_fails_the_run_where_that_is_asked_for(desk: Desk) -> None:
    desk.omium("guard", "add", "--agent", "Writter", "--extract", 'apr: number near "APR"', "--rule", "value >= 2.5")
    file = program(desk, "print(ask())")
    ended = desk.exec(file).end()
    assert ended.code == 0
    assert "checked nothing: no call came from an agent named `Writter`; agents of this run: Writer" in ended.err
    assert desk.exec(file, options=("--guards-must-match",)).end().code == 1


def test_a_server_that_is_started_again_while_a_tool_runs_is_not_noticed(desk: Desk) -> None:
    code = """
@omium.tool
def pay(amount):
    ran("pay")
    Path(os.environ["TOOL_COUNTER"] + ".paying").touch()
    while not Path(os.environ["TOOL_COUNTER"] + ".away").exists():
        time.sleep(0.01)
    return amount + 1

print(pay(1), pay(2), ask())
"""
    running = desk.exec(program(desk, code), OMIUM_PATIENCE="60")
    wait_for(desk.counter.with_suffix(".paying"))
    desk.kill()
    desk.counter.with_suffix(".away").touch()
    desk.start()
    ended = running.end()
    assert (ended.code, ended.result) == (0, "2 3 APR: 0%"), ended.err
    assert desk.tool_runs == 2
    shown = json.loads(desk.omium("show", desk.execution(), "--json"))
    assert [call["status"] for call in shown["steps"][0]["calls"]] == ["answered"] * 3


def wait_for(file: Path) -> None:
    until = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_write_whose_result_cannot_be_kept_is_asked_about_and_never_repeated(desk: Desk) -> None:
    code = """
@omium.tool
def pay():
    ran("pay")
    return object()

@omium.tool(effect="read")
def look():
    ran("look")
    return object()

look()
paid = pay()
print(ask())
sys.exit(0 if isinstance(paid, dict) else 1)
"""
    file = program(desk, code)
    ended = desk.exec(file).end()
    assert (ended.code, ended.result) == (1, "APR: 0%")
    assert "the tool `pay` ran, and how it ended is not recorded" in ended.err
    execution = desk.execution()
    ended = desk.exec(file, resume=execution).end()
    assert ended.code != 0
    assert f"`omium answer {execution} …` decides" in ended.err
    desk.omium("answer", execution, "happened", "--result", '{"id": 1}')
    # What came to be known late waits two seconds for what was answered while the tool still seemed to run.
    ended = desk.exec(file, resume=execution, OMIUM_PATIENCE="20").end()
    assert (ended.code, ended.result) == (0, "APR: 0%"), ended.err
    assert desk.counter.read_text().split() == ["look", "pay", "look", "look"]


def test_a_helper_that_is_left_behind_is_not_waited_for(desk: Desk) -> None:
    began = time.monotonic()
    ended = desk.exec(program(desk, "subprocess.Popen(['sleep', '20'], stderr=subprocess.DEVNULL)\nprint(ask())")).end()
    assert (ended.code, ended.result) == (0, "APR: 0%")
    assert time.monotonic() - began < 15


def test_a_closed_attempt_is_not_completed_whatever_the_program_says(desk: Desk) -> None:
    code = """
from omium import patience
patience.TOTAL_S = 0.1
gate = os.environ["OMIUM_GATE"]
if len(sys.argv) > 1:
    os.environ["OMIUM_GATE"] = "http://127.0.0.1:9/x/gone"
    @omium.tool
    def pay():
        return 1
    try:
        pay()
    except Exception:
        sys.exit(0)
subprocess.run([sys.executable, __file__, "child"])
try:
    print(ask())
except omium.Fenced:
    print("over")
os._exit(0)
"""
    ended = desk.exec(program(desk, code)).end()
    assert (ended.code, ended.result) == (1, "over")
    assert "the program ended well, but its attempt did not: the gate at http://127.0.0.1:9" in ended.err
    assert json.loads(desk.omium("show", desk.execution(), "--json"))["status"] == "failed"


def test_what_a_program_is_told_by_its_environment(desk: Desk) -> None:
    code = """
print(os.environ["CLAUDE_CODE_ATTRIBUTION_HEADER"], os.environ["NO_PROXY"])
ask()
print(os.environ["OMIUM_TOKEN"])
"""
    ended = desk.exec(program(desk, code), NO_PROXY="example.org").end()
    assert "0 example.org,127.0.0.1,localhost,::1" in ended.out
    token = ended.result
    assert token.startswith("omx_")
    execution = desk.execution()
    assert token not in ended.err + desk.omium("show", execution, "--json") + desk.omium("logs", execution)
