//! Long content. A draft that looks for what lies in a blob, or holds what does not fit its frame, is thrown away: the
//! driver fetches or stores that, and then the command is decided again. So nobody ever decides on content that is not
//! there, and no block waits for a blob.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use omium_processor::{Processors, Refusal, Why};
use omium_schemas::mutant::Mutant;
use omium_schemas::{BlobRef, Content, Digest, MAX_FRAME};

use super::Shell;
use super::commands::Asked;
use crate::key::StreamKey;
use crate::port::{Answer, AtHand, Needs, Now, Output};
use crate::sealing::{self, Unreadable, Vault};

/// Content above this goes to the blob store.
pub(crate) const IN_PLACE: usize = 64 * 1024;
/// The most that one command may have opened for it.
const OPENED: u64 = 64 << 20;
/// The most that all commands of a partition may have at hand.
const AT_HAND: u64 = 256 << 20;
/// How often a command may need something more.
const ROUNDS: u8 = 64;
/// What a reference takes in a frame, and some room.
const REFERENCE: usize = 128;

/// What was fetched and stored for the next command of one stream.
#[derive(Default)]
pub(super) struct Hand {
    fetched: BTreeMap<BlobRef, Result<Bytes, Unreadable>>,
    stored: BTreeMap<Digest, BlobRef>,
    /// The driver is at it.
    asked: bool,
    full: Option<String>,
    rounds: u8,
    bytes: u64,
}

impl Hand {
    /// Where these bytes lie, if they were stored because a draft had them.
    pub(super) fn place_of(&self, plain: &[u8]) -> Option<BlobRef> {
        if self.stored.is_empty() { None } else { self.stored.get(&Digest::of(plain)).copied() }
    }
}

/// Opens content for one draft, and remembers what it could not give.
pub(super) struct Opener<'a> {
    vault: &'a dyn Vault,
    stream: StreamKey,
    hand: Option<&'a Hand>,
    /// What the draft itself has moved out.
    drafted: RefCell<BTreeMap<BlobRef, Bytes>>,
    missing: RefCell<BTreeSet<BlobRef>>,
    unreadable: RefCell<Option<Unreadable>>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(vault: &'a dyn Vault, stream: StreamKey, hand: Option<&'a Hand>) -> Opener<'a> {
        let (drafted, missing, unreadable) = Default::default();
        Opener { vault, stream, hand, drafted, missing, unreadable }
    }

    /// For who makes the draft. After a `None` the draft must not be used.
    pub(super) fn open(&self, content: &Content) -> Option<Bytes> {
        let outcome = match sealing::open(self.vault, self.stream, content) {
            Err(Unreadable::Elsewhere(place)) => self.fetched(&place)?,
            outcome => outcome,
        };
        match outcome {
            Ok(plain) => Some(plain),
            Err(why) => {
                self.unreadable.borrow_mut().get_or_insert(why);
                None
            }
        }
    }

    fn fetched(&self, place: &BlobRef) -> Option<Result<Bytes, Unreadable>> {
        if let Some(plain) = self.drafted.borrow().get(place) {
            return Some(Ok(plain.clone()));
        }
        let fetched = self.hand.and_then(|hand| hand.fetched.get(place)).cloned();
        if fetched.is_none() {
            self.missing.borrow_mut().insert(*place);
        }
        fetched
    }

    /// The draft has this content in a blob.
    pub(super) fn keep(&self, place: BlobRef, plain: Bytes) {
        self.drafted.borrow_mut().insert(place, plain);
    }

    /// Whether everything that was looked for was there.
    pub(super) fn check(&self) -> Result<(), Lack> {
        let missing: Vec<BlobRef> = self.missing.borrow().iter().copied().collect();
        if Mutant::MissingIsNull.on() {
            return Ok(());
        }
        if !missing.is_empty() {
            return Err(Lack::Needs(Needs { fetch: missing, ..Needs::default() }));
        }
        self.unreadable.borrow_mut().take().map_or(Ok(()), |why| Err(Lack::Unreadable(why)))
    }
}

/// Why a draft cannot be used.
pub(super) enum Lack {
    /// Something has to be fetched or stored.
    Needs(Needs),
    /// Something cannot be read.
    Unreadable(Unreadable),
}

/// Which contents of a frame that is too long have to move out so that it fits; nothing where that does not help.
pub(super) fn too_much(length: usize, mut in_place: Vec<Bytes>) -> Option<Vec<Bytes>> {
    let mut excess = length.saturating_sub(MAX_FRAME);
    in_place.retain(|plain| plain.len() > 2 * REFERENCE);
    in_place.sort_by_key(|plain| std::cmp::Reverse(plain.len()));
    let mut moving = Vec::new();
    for plain in in_place {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(plain.len() - REFERENCE);
        moving.push(plain);
    }
    (excess == 0).then_some(moving)
}

impl<P: Processors> Shell<P> {
    /// Whether the driver is fetching or storing something for this stream.
    pub(super) fn is_waiting_for_blobs(&self, key: &StreamKey) -> bool {
        !self.hands.is_empty() && self.hands.get(key).is_some_and(|hand| hand.asked)
    }

    /// Asks for what a draft needs. The command comes back where it is to be decided again; otherwise it was answered.
    pub(super) fn ask_for(&mut self, asked: Asked, mut needs: Needs) -> Option<Asked> {
        let (key, ticket) = (asked.submission.key, asked.submission.ticket);
        let wanted: u64 = needs.fetch.iter().map(|place| place.length).sum();
        let at_hand: u64 = self.hands.values().map(|hand| hand.bytes).sum();
        let hand = self.hands.entry(key).or_default();
        hand.rounds += 1;
        if hand.rounds > ROUNDS || hand.bytes + wanted > OPENED {
            let text = format!(
                "this needs {} bytes of long content of {} at once, and {OPENED} are the most; rules that read less of \
                 it can be decided",
                hand.bytes + wanted,
                key.stream
            );
            self.hands.remove(&key);
            self.outputs.push(Output::Alarm(text.clone()));
            self.refuse(ticket, Refusal::new(Why::Exhausted, text));
            return None;
        }
        if ticket.is_some() && at_hand + wanted > AT_HAND {
            self.hands.remove(&key);
            self.answer_at_once(ticket, Answer::Busy);
            return None;
        }
        hand.bytes += wanted;
        hand.asked = true;
        needs.patient = ticket.is_none();
        self.outputs.push(Output::Need(key, needs));
        Some(asked)
    }

    /// A command cannot be decided, because what it rests on cannot be read.
    pub(super) fn cannot_read(&mut self, asked: &Asked, why: Unreadable) {
        let (key, ticket) = (asked.submission.key, asked.submission.ticket);
        if let Unreadable::NotNow(_) = why {
            return self.answer_at_once(ticket, Answer::Busy);
        }
        let text = format!("content of {} that this has to look at cannot be read: {why}", key.stream);
        self.outputs.push(Output::Alarm(text.clone()));
        self.refuse(ticket, Refusal::new(Why::Conflict, text));
    }

    pub(super) fn at_hand(&mut self, key: StreamKey, given: AtHand, now: Now) {
        let Some(hand) = self.hands.get_mut(&key) else { return };
        hand.asked = false;
        hand.fetched.extend(given.fetched);
        hand.stored.extend(given.stored);
        hand.full = given.full;
        if let Some(why) = hand.full.take() {
            self.hands.remove(&key);
            self.refuse_parked(&key, why);
        }
        if !self.residents.has(&key) {
            return self.need(vec![key], Vec::new());
        }
        self.unpark(now);
        self.hear_held(&key, now);
        self.empty_inbox(now);
        self.let_go_of_hands(&[key]);
    }

    /// Whatever was at hand is decided by now, or has asked for more.
    pub(super) fn let_go_of_hands(&mut self, keys: &[StreamKey]) {
        for key in keys {
            if !self.is_waiting_for_blobs(key) {
                self.hands.remove(key);
            }
        }
    }

    /// Nothing can be stored: the command that wanted it hears so, and those behind it have their turn.
    fn refuse_parked(&mut self, key: &StreamKey, why: String) {
        let Some(asked) = self.parked.get_mut(key).and_then(|queue| queue.pop_front()) else { return };
        self.parked_count -= 1;
        self.answer_at_once(asked.submission.ticket, Answer::Full(why));
    }
}
