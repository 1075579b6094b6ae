//! Random programs: attempts that end anywhere, answers good and bad, people who decide. Whatever happens, a condemned
//! answer is never served, none is served twice to one attempt, and nothing is asked again without end.

use std::collections::BTreeSet;

use omium_execution::{Found, Outcome, Status, Wanted};
use omium_schemas::catalogue::{
    CancelExecution, ChooseRemedy, DismissFinding, GateVerdict, PauseExecution, RecoveryMode, RefuseApproval,
    ResumeExecution, RollBack, ServeAnswer,
};
use omium_schemas::{Branch, Digest, Seq, StepId};

use crate::story::{Story, answer, ask, attempt, end, in_range};

const SEEDS: u64 = 1_000;
const MOVES: usize = 60;
const AGENTS: [&str; 3] = ["Writer", "Reviewer", "Researcher"];

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64: small, and the same everywhere.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len() as u64) as usize]
    }
}

#[test]
fn random_programs_keep_what_was_promised() {
    let mut happened = BTreeSet::new();
    for seed in 0..SEEDS {
        walk(seed, &mut happened);
    }
    for event in [
        "LlmAnswerServed",
        "RemedyChosen",
        "RemedyFailed",
        "RemedySucceeded",
        "ApprovalAsked",
        "ExecutionSuspended",
        "FindingDismissed",
        "ApprovalRefused",
        "RunDrifted",
        "BranchRaised",
        "ExecutionCompleted",
        "LlmCallPatched",
    ] {
        assert!(happened.contains(event), "{event} never happened");
    }
}

fn walk(seed: u64, happened: &mut BTreeSet<&'static str>) {
    let mut chance = Chance(seed);
    let mode = [RecoveryMode::Auto, RecoveryMode::Auto, RecoveryMode::Approve, RecoveryMode::Off]
        [chance.below(4) as usize];
    let mut story = Story::of(vec![in_range()], mode);
    let mut served: BTreeSet<(i64, Seq)> = BTreeSet::new();
    for _ in 0..MOVES {
        let told = moved(&mut story, &mut chance, &mut served, seed);
        happened.extend(told);
        check(&story, seed);
    }
}

fn moved(
    story: &mut Story,
    chance: &mut Chance,
    served: &mut BTreeSet<(i64, Seq)>,
    seed: u64,
) -> Vec<&'static str> {
    let running = story.run().program.as_ref().unwrap().attempt;
    let branch = story.run().branch;
    // Now and then somebody speaks who should not any more.
    let delivery = if chance.below(20) == 0 { running - 1 } else { running };
    let open: Vec<Seq> =
        story.run().calls.iter().filter(|call| call.outcome == Outcome::Open).map(|call| call.at).collect();
    let (agent, what) = (chance.of(&AGENTS), chance.of(&["a", "b", "c"]));
    let told = match chance.below(16) {
        0..4 => {
            let patch_set = story.state.2.patches().and_then(|patches| patches.digest(agent));
            let mut start = ask(agent, what, delivery, patch_set);
            start.branch = branch;
            story.tries(start)
        }
        4..9 if !open.is_empty() => {
            let call = open[chance.below(open.len() as u64) as usize];
            let content = chance.of(&[r#"{"apr": 5}"#, r#"{"apr": 0}"#, "prose", ""]);
            story.tries(answer(call, content, chance.below(8) == 0))
        }
        9..12 => return serve(story, (agent, what), (branch, running), served, seed),
        12 => story.tries(end(delivery, [0, 1, 1, 137][chance.below(4) as usize])),
        13 => {
            let mut start = attempt(running + 1);
            start.branch = branch;
            story.tries(start)
        }
        _ => decided(story, chance),
    };
    // A refusal is an answer too; that it changes nothing is looked at by those who expect one.
    told.unwrap_or_default()
}

fn decided(story: &mut Story, chance: &mut Chance) -> Result<Vec<&'static str>, omium_processor::Refusal> {
    let program = story.run().program.as_ref().unwrap();
    let finding = story.run().suspended.and_then(|(_, about)| about);
    let approval = program.asked;
    let last = story.run().marks.last().map(|mark| mark.at);
    match (chance.below(8), finding, approval, last) {
        (0..4, Some(finding), ..) => {
            story.tries(ChooseRemedy { finding, number: 1 + chance.below(2) as i32 })
        }
        (4, Some(finding), ..) => story.tries(DismissFinding { finding, reason: None }),
        (5, _, Some(approval), _) => story.tries(RefuseApproval { approval, note: None }),
        (6, .., Some(to)) => story.tries(RollBack { to, cancel_running: true, over_writes: true }),
        (7, ..) if chance.below(6) == 0 => story.tries(CancelExecution {}),
        (1, ..) => story.tries(PauseExecution {}),
        _ => story.tries(ResumeExecution {}),
    }
}

fn serve(
    story: &mut Story,
    (agent, what): (&str, &str),
    (branch, delivery): (Branch, i64),
    served: &mut BTreeSet<(i64, Seq)>,
    seed: u64,
) -> Vec<&'static str> {
    let (step, request) = (StepId(1), Digest::of(what.as_bytes()));
    let condemned: Vec<Seq> =
        story.run().calls.iter().filter(|call| call.condemned).filter_map(|call| call.done).collect();
    let (tool, alias, position, repeats) = (None, None, None, false);
    let wanted = Wanted { step, agent, tool, request, alias, position, taking: delivery, repeats };
    let Found::Serve(found) = story.run().find(&wanted, &|_| false) else { return Vec::new() };
    let refused = matches!(found.verdict, Some(GateVerdict::AskAgain | GateVerdict::Suspend));
    assert!(!refused, "seed {seed}: an answer that was not released was served");
    let at = found.at;
    let Ok(told) = story.tries(ServeAnswer { step, branch, call: at, delivery }) else { return Vec::new() };
    let call = story.run().calls.iter().find(|call| call.at == at).unwrap();
    let done = call.done.unwrap();
    assert!(!condemned.contains(&done), "seed {seed}: a condemned answer was served");
    assert!(served.insert((delivery, done)), "seed {seed}: an answer was served twice to one attempt");
    assert_eq!((call.agent.as_str(), call.request), (agent, request), "seed {seed}");
    told
}

fn check(story: &Story, seed: u64) {
    let run = story.run();
    for call in &run.calls {
        assert!(
            !(call.condemned && call.outcome == Outcome::Open),
            "seed {seed}: condemned before it was answered"
        );
        let thrown = run.calls.iter().filter(|other| {
            other.condemned && (&other.caller, other.request) == (&call.caller, call.request)
        });
        // The policy allows two, and a person may add one for each question.
        let asked =
            run.program.as_ref().unwrap().findings.iter().filter(|found| !found.suggested.is_empty()).count();
        assert!(thrown.count() <= asked.max(2), "seed {seed}: asked again without end");
    }
    assert!(run.suspended.is_none() || run.status == Status::Paused, "seed {seed}: suspended means paused");
}
