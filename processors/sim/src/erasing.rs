//! Subjects that are erased while they are busy: their keys are destroyed, and everything else goes on.

use omium_processor::testkit::NOTE;
use omium_runtime::{StreamKey, open};
use omium_schemas::{Content, Digest, StreamKind};
use omium_store::Store as _;

use crate::counts::Fault;
use crate::folder::Decoded;
use crate::node::NEVER_FAILS;
use crate::truth::{Counted, Violation, broken};
use crate::world::{Action, World};

/// What is said in confidence.
pub(crate) const INPUT: &str = "an input that is sealed";
pub(crate) const OUTPUT: &str = "an output that is sealed";

impl World {
    /// In some runs subjects are erased, in most nobody is: what is refused from then on makes a run thinner.
    pub(crate) fn plan_erasure(&mut self) {
        if self.erasing.per_mille(200) {
            let at = self.erasing.between(50_000, 2_000_000);
            self.after(at, Action::Erase);
        }
    }

    /// Destroys the key of an account or a job that has something in the log.
    pub(crate) fn erase(&mut self) {
        if !self.busy {
            return;
        }
        let subjects: Vec<StreamKey> =
            self.truths.iter().flat_map(|truth| truth.streams().copied()).collect();
        let subjects: Vec<StreamKey> = (subjects.into_iter())
            .filter(|key| matches!(key.stream.kind(), StreamKind::Account | StreamKind::Execution))
            .collect();
        if !subjects.is_empty() {
            let subject = *self.erasing.pick(&subjects);
            self.vault.destroy(&subject);
            self.erased.insert(subject);
            self.fault(Fault::Erasure);
        }
        self.plan_erasure();
    }

    /// Nothing of an erased subject can be opened.
    pub(crate) fn check_erased(&self, counted: &Counted, decoded: &Decoded) -> Result<(), Violation> {
        if !self.erased.contains(&counted.key) {
            return Ok(());
        }
        let mut opened = None;
        let mut look = |_: u16, content: &Content| {
            if let Ok(plain) = open(&*self.vault, counted.key, content) {
                opened = Some(plain);
            }
        };
        decoded.command.contents(&mut look);
        decoded.events.iter().for_each(|(_, event)| event.contents(&mut look));
        match opened {
            Some(plain) => {
                let text =
                    format!("{} is erased and says {plain:?} at {}", counted.key.stream, counted.first);
                Err(broken(12, text))
            }
            None => Ok(()),
        }
    }

    /// What was said in confidence stands nowhere in plain words, and neither does a digest that confirms a guess.
    pub(crate) fn check_nothing_plain(&self) -> Result<(), Violation> {
        if self.erased.is_empty() {
            return Ok(());
        }
        let digests = [INPUT, OUTPUT, NOTE].map(|text| Digest::of(text.as_bytes()).0);
        let mut telling: Vec<&[u8]> = digests.iter().map(<[u8; 32]>::as_slice).collect();
        telling.push(b" that is sealed");
        let tells =
            |bytes: &[u8]| telling.iter().any(|word| bytes.windows(word.len()).any(|here| here == *word));
        let frames = self.truths.iter().flat_map(|truth| &truth.frames);
        for counted in frames {
            if tells(counted.frame.bytes()) {
                let text = format!("{} at {} tells what was sealed", counted.key.stream, counted.first);
                return Err(broken(12, text));
            }
        }
        for node in &self.nodes {
            let rows = node.store.scan(&[], None, usize::MAX).expect(NEVER_FAILS);
            if let Some((key, _)) = rows.iter().find(|(_, row)| tells(row)) {
                return Err(broken(12, format!("a row of the store tells what was sealed: {key:?}")));
            }
        }
        Ok(())
    }
}
