//! How often each file must arrive, to the package: for tests that know of every repeat what must become of it.

use std::collections::HashMap;

use crate::oracle::{Arrival, Digest, Verdict, agent_of, digest};

/// Expected packages, by agent and bytes: agents that say the same are told apart.
#[derive(Debug, Default)]
pub struct Counts(HashMap<(String, Digest), (String, u32)>);

impl Counts {
    /// One more package of this name and these bytes.
    pub fn expect(&mut self, name: &str, bytes: &[u8]) {
        self.0.entry(key(name, bytes)).or_insert_with(|| (name.to_owned(), 0)).1 += 1;
    }

    /// Compares.
    pub fn judge(&self, arrivals: &[Arrival]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut left: HashMap<_, i64> =
            self.0.iter().map(|(key, (_, times))| (key.clone(), i64::from(*times))).collect();
        for arrival in arrivals {
            match left.get_mut(&key(&arrival.name, &arrival.bytes)) {
                Some(left) => *left -= 1,
                None => verdict.strange.push(format!("{} ({} bytes)", arrival.name, arrival.bytes.len())),
            }
        }
        for (key, left) in left {
            let (name, times) = &self.0[&key];
            let shown = || format!("{name} ({} instead of {times} times)", i64::from(*times) - left);
            match left {
                1.. => verdict.lost.push(shown()),
                0 => {}
                _ => verdict.doubled.push(shown()),
            }
        }
        verdict.lost.sort();
        verdict.doubled.sort();
        verdict
    }
}

fn key(name: &str, bytes: &[u8]) -> (String, Digest) {
    (agent_of(name).to_owned(), digest(bytes))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn every_deviation_shows() {
        let mut counts = Counts::default();
        for name in ["a.0.data", "a.0.data", "b.0.data"] {
            counts.expect(name, b"same");
        }
        let arrivals = |names: &[&str]| {
            let arrival = |name: &&str| Arrival {
                name: (*name).into(),
                bytes: b"same".into(),
                modified: SystemTime::UNIX_EPOCH,
            };
            names.iter().map(arrival).collect::<Vec<_>>()
        };
        assert!(counts.judge(&arrivals(&["a.0.data", "a.01234567890.data", "b.0.data"])).is_clean());
        let verdict = counts.judge(&arrivals(&["a.0.data", "b.0.data", "b.0.data", "c.0.data"]));
        assert_eq!(verdict.lost, ["a.0.data (1 instead of 2 times)"]);
        assert_eq!(verdict.doubled, ["b.0.data (2 instead of 1 times)"]);
        assert_eq!(verdict.strange.len(), 1);
    }
}
