//! Look-ups that found nothing, so that they are not made again and again.

use std::time::Instant;

use super::RegistryOptions;

/// So many failed look-ups are remembered, and while they are, no further one is made.
const MOST: usize = 8;

/// What a look-up came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// The registry does not know the id.
    Unknown,
    /// Too many others were unknown.
    Full,
    /// The registry gave no answer.
    Unreachable(String),
}

/// The failed look-ups of the recent past. Bounded: ids come from records, and anybody can write ids.
#[derive(Debug, Default)]
pub(super) struct Misses {
    recent: Vec<(u32, Miss, Instant)>,
}

impl Misses {
    /// Drops what is no longer worth remembering.
    pub(super) fn forget(&mut self, options: &RegistryOptions) {
        self.recent.retain(|(_, miss, at)| {
            let worth = match miss {
                Miss::Unreachable(_) => options.remember_unreachable,
                Miss::Unknown | Miss::Full => options.remember_unknown,
            };
            at.elapsed() < worth
        });
    }

    /// Why `id` is not to be looked up now; nothing when it may be.
    pub(super) fn about(&self, id: u32) -> Option<&Miss> {
        let of_this = self.recent.iter().find(|(missed, ..)| *missed == id).map(|(_, miss, _)| miss);
        let of_all =
            || self.recent.iter().map(|(_, miss, _)| miss).find(|miss| matches!(miss, Miss::Unreachable(_)));
        let full = (self.recent.len() >= MOST).then_some(&Miss::Full);
        of_this.or_else(of_all).or(full)
    }

    /// `id` was looked up in vain.
    pub(super) fn remember(&mut self, id: u32, miss: Miss) {
        self.recent.push((id, miss, Instant::now()));
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.recent.len()
    }
}
