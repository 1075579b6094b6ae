"""Programs under `omium exec`: seen, killed, gone on with, and healed. The real server, the real programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import desk as desks
import programs
from ahead import ahead
from desk import Desk, Running, speaks_to

SEQUENTIAL = ["crew", "graph", "team", "kernel"]
PROGRAMS = [*SEQUENTIAL, *(f"{name}_parallel" for name in SEQUENTIAL)]
# Each is killed twice in each way while its last call is under way. Where a program alone is killed its server takes in
# the answer, and there is no such call any more: the second one belongs to another execution.
VICTIMS = ["server", "server", "both", "both", "program"]
LAST = speaks_to("Reviewer")
BAD, GOOD = "REVIEWED: APR: 0%", "REVIEWED: APR: 5.2%"


@dataclass(frozen=True)
class Story:
    """One thing that happens to one program, on a server of its own."""

    program: str
    what: str

    def __str__(self) -> str:
        return f"{self.program}-{self.what}"


@dataclass(frozen=True)
class Outcome:
    """How the program ended at last, what the vendor was asked for, and how often the tool ran."""

    ended: programs.Ended
    asked: dict[str, int]
    tool_runs: int
    shown: str
    # The last line of the same program without Omium, where that is asked for.
    plain: str = ""


QUIET = [Story(program, "undisturbed") for program in PROGRAMS]
KILLED = [Story(program, "killed") for program in PROGRAMS]
HEALED = [Story(program, "healed") for program in ("crew", "crew_parallel", "graph", "graph_parallel")]
APPROVED = [Story(program, "approved") for program in ("team", "kernel_parallel")]


@pytest.fixture(scope="module")
def outcome(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, story_model: int
) -> Iterator[Callable[[Story], Outcome]]:
    def tell(story: Story) -> Outcome:
        with desks.desk(tmp_path_factory.mktemp("desk"), story_model) as desk:
            outcome = tell_on(desk, story)
        return replace(outcome, plain=without_omium(story, story_model)) if story.what == "undisturbed" else outcome

    with ahead(request, "story", tell) as told:
        yield told


def without_omium(story: Story, model: int) -> str:
    alone = {"OPENAI_BASE_URL": f"http://127.0.0.1:{model}/v1", "OPENAI_API_KEY": "none"}
    return programs.run(programs.EXAMPLES / f"{story.program}.py", programs.environment(alone)).result


def tell_on(desk: Desk, story: Story) -> Outcome:
    if story.what in ("healed", "approved"):
        kind = ["--json-field", "apr"] if story.program.startswith("graph") else ["--extract", 'apr: number near "APR"']
        desk.omium("guard", "add", "--agent", "Writer", *kind, "--rule", "value >= 2.5 && value <= 8.5")
    execution = None
    for victim in VICTIMS if story.what == "killed" else []:
        desk.vendor.hold(LAST)
        running = desk.exec(story.program, resume=execution)
        assert running.is_held(), running.end().err
        execution = killed_at_the_last_call(desk, running, victim)
    if story.what == "killed":
        assert desk.exec(story.program, resume=execution).end().code == 0
        desk.vendor.hold(LAST)
        running = desk.exec(story.program)
        assert running.is_held(), running.end().err
        execution = killed_at_the_last_call(desk, running, "program")
    if story.what == "approved":
        execution = suspended_and_approved(desk, story)
    ended = desk.exec(story.program, resume=execution).end()
    names = ("Researcher", "Writer", "Reviewer")
    asked = {name: desk.vendor.count(speaks_to(name)) for name in names}
    return Outcome(ended, asked, desk.tool_runs, desk.omium("show", execution or desk.execution()))


def killed_at_the_last_call(desk: Desk, running: Running, victim: str) -> str:
    execution = desk.execution()
    if victim != "program":
        desk.kill()
    if victim == "both":
        running.kill_all()
    elif victim == "program":
        running.kill_program()
    ended = running.end()
    assert ended.code != 0, "a program that was cut off does not look as if it had ended well"
    assert BAD not in ended.out
    assert victim != "server" or "omium" in ended.err, "the user is told why"
    desk.vendor.let_go()
    if victim != "program":
        desk.start()
    return execution


def suspended_and_approved(desk: Desk, story: Story) -> str:
    """Somebody takes the best suggestion, after the program and the server have both ended."""
    ended = desk.exec(story.program, options=("--recovery", "approve")).end()
    execution = desk.execution()
    assert ended.code != 0, "it may not end as if it had read what was held back"
    assert f"{execution} is suspended; `omium approve {execution}` decides" in ended.err
    desk.kill()
    desk.start()
    desk.omium("approve", execution)
    return execution


@pytest.mark.parametrize("story", QUIET, ids=str)
def test_the_result_is_the_same_as_without_omium(story: Story, outcome: Callable[[Story], Outcome]) -> None:
    seen = outcome(story)
    assert (seen.ended.code, seen.ended.result, seen.plain) == (0, BAD, BAD), seen.ended.err
    assert seen.asked == {"Researcher": 2, "Writer": 1, "Reviewer": 1}
    assert seen.tool_runs == 1
    assert all(agent in seen.shown for agent in seen.asked)


@pytest.mark.parametrize("story", KILLED, ids=str)
def test_killed_at_its_last_call_it_goes_on_where_it_was(story: Story, outcome: Callable[[Story], Outcome]) -> None:
    seen = outcome(story)
    assert (seen.ended.code, seen.ended.result) == (0, BAD), seen.ended.err
    # Only a call that was under way when the server was killed is asked again.
    assert seen.asked == {"Researcher": 2 + 2, "Writer": 1 + 1, "Reviewer": len(VICTIMS) + 1}
    assert seen.tool_runs == 1 + 1


@pytest.mark.parametrize("story", [*HEALED, *APPROVED], ids=str)
def test_an_answer_out_of_bounds_is_healed_before_the_next_agent_reads_it(
    story: Story, outcome: Callable[[Story], Outcome]
) -> None:
    seen = outcome(story)
    assert (seen.ended.code, seen.ended.result) == (0, GOOD), seen.ended.err
    assert seen.asked == {"Researcher": 2, "Writer": 2, "Reviewer": 1}, "one call is asked again, and no other"
    assert seen.tool_runs == 1


def test_without_a_server_the_program_does_not_even_start(tmp_path: Path, story_model: int) -> None:
    with desks.desk(tmp_path, story_model) as desk:
        desk.kill()
        ended = desk.exec("graph").end()
        assert ended.code != 0
        assert ended.out == ""
        assert desk.vendor.asked == []
