//! Since when steps wait for workers that nobody has registered.

use std::collections::BTreeMap;
use std::time::Duration;

use super::board::Want;

/// After this time somebody should know.
const PATIENCE: Duration = Duration::from_secs(60);

/// What waits, and what was said of it.
#[derive(Debug, Default)]
pub(crate) struct Unserved(BTreeMap<Want, Since>);

#[derive(Debug)]
struct Since {
    at: Duration,
    is_told: bool,
}

impl Unserved {
    /// What has waited too long and was not told before. `now` is a time that never goes back.
    pub(crate) fn look(&mut self, now: Duration, waiting: &BTreeMap<Want, usize>) -> Vec<(Want, usize)> {
        self.0.retain(|want, _| waiting.contains_key(want));
        let mut overdue = Vec::new();
        for (want, count) in waiting {
            let since = self.0.entry(want.clone()).or_insert(Since { at: now, is_told: false });
            if !since.is_told && now.saturating_sub(since.at) >= PATIENCE {
                since.is_told = true;
                overdue.push((want.clone(), *count));
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use omium_schemas::TenantId;

    use super::*;

    #[test]
    fn what_waits_too_long_is_told_once_and_again_when_it_has_been_served_meanwhile() {
        let mut unserved = Unserved::default();
        let want: Want = (TenantId([1; 16]), "crewai".to_owned());
        let (some, none) = (BTreeMap::from([(want.clone(), 3)]), BTreeMap::new());
        let mut look = |seconds, waiting| unserved.look(Duration::from_secs(seconds), waiting);
        assert_eq!(look(10, &some), []);
        assert_eq!(look(69, &some), []);
        assert_eq!(look(70, &some), [(want.clone(), 3)]);
        assert_eq!(look(500, &some), []);
        assert_eq!(look(501, &none), []);
        assert_eq!(look(502, &some), []);
        assert_eq!(look(562, &some), [(want, 3)]);
    }
}
