//! How a walk ends: everything owed is answered and everything waited for is said, or nobody does anything any more.

use omium_execution::Status;
use omium_schemas::Money;
use omium_schemas::catalogue::{MeetDeadline, ResumeExecution, SignalExecution};

use crate::moves::{answer, answer_to, awaited_signal, body};
use crate::walk::Walk;

/// More than any plan here takes with all its attempts.
const LONG: usize = 200;

impl Walk {
    /// All owed work is done, all signals are sent.
    pub(crate) fn let_it_end(&mut self) {
        for _ in 0..LONG {
            if !self.is_open() {
                return;
            }
            self.help();
        }
        panic!("it does not end however much it is helped: {:?}", self.run());
    }

    fn help(&mut self) {
        let due = self.due();
        let outcome = if self.run().status == Status::Paused {
            self.submit(ResumeExecution {})
        } else if let Some(effect) = due.effects.first() {
            self.now = self.now.max(effect.not_before);
            self.submit(answer(effect.step, effect.branch, 9, Money::ZERO))
        } else if let Some(at) = self.run().questions.first().map(|question| question.at) {
            let (run, chance) = (self.run().clone(), &mut self.chance);
            let answer = answer_to(chance, &run, at);
            self.submit(answer)
        } else {
            let name = awaited_signal(self.run()).expect("what runs waits for work or for a word");
            self.submit(SignalExecution { name, body: Some(body(9)) })
        };
        outcome.unwrap_or_else(|refusal| panic!("help is refused: {refusal}"));
    }

    /// Nobody answers: what has limits in time ends by them, the rest waits for ever.
    pub(crate) fn let_time_pass(&mut self) {
        for _ in 0..LONG {
            if self.run().status == Status::Paused {
                self.submit(ResumeExecution {}).expect("what is paused can be resumed");
            }
            let Some(at) = self.due().deadline else { return };
            self.now = self.now.max(at);
            self.submit(MeetDeadline { at }).expect("a deadline is never refused");
        }
        panic!("deadlines come without end: {:?}", self.run());
    }
}
