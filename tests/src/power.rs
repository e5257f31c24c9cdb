//! A chain of power cuts on one disk, and the oracle's verdict after each of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::central::Mode;
use crate::guest::{self, FileSystem, Guest, Orders, words};
use crate::oracle::{Digest, Oracle, Verdict};
use crate::process::Process;
use crate::until::{self, PATIENCE};

/// When the power goes.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// So long after the guest said this word.
    Word(&'static str, Duration),
    /// So long after that many files sent in this boot, repeats not counted, got their `SEND OK`.
    Stored(u64, Duration),
}

/// What a boot showed.
#[derive(Debug, Default)]
pub struct Found {
    /// The oracle's verdict, if the boot lived long enough.
    pub verdict: Option<Verdict>,
    /// What the guest found wrong, and what lies where nothing should.
    pub complaints: Vec<String>,
}

impl Found {
    /// Whether the boot told everything, and nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.complaints.is_empty() && self.verdict.as_ref().is_some_and(Verdict::is_clean)
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.verdict {
            Some(verdict) => write!(f, "{verdict}")?,
            None => write!(f, "nothing settled")?,
        }
        write!(f, "; {:?}", self.complaints)
    }
}

/// One disk, its guest, and what its senders did.
#[derive(Debug)]
pub struct Chain {
    guest: Guest,
    oracle: Oracle,
    /// Offered, and no answer: their senders come again.
    unanswered: BTreeSet<String>,
    boots: u64,
}

impl Chain {
    /// An empty disk, whose node is pulled so. `number` tells the chain's files from those of others.
    pub fn new(file_system: FileSystem, number: u64, mode: Mode) -> Chain {
        Chain {
            guest: Guest::new(file_system, mode),
            oracle: Oracle::default(),
            unanswered: BTreeSet::new(),
            boots: number * 1000,
        }
    }

    /// How many files were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.oracle.acknowledged()
    }

    /// Mounts, settles, and compares. The power goes afterwards.
    pub fn settle(&mut self) -> Found {
        let orders = Orders { settle: true, ..Orders::default() };
        self.boot(orders, Moment::Word(words::SETTLED, Duration::ZERO))
    }

    /// A boot that ends with a power cut. Files that got no answer before are sent again.
    pub fn boot(&mut self, orders: Orders, moment: Moment) -> Found {
        self.boots += 1;
        let again: Vec<String> = self.unanswered.iter().cloned().collect();
        let orders = Orders { boot: self.boots, again, ..orders };
        let mut process = self.guest.boot(&orders);
        wait_until(&mut process, orders.boot, moment);
        process.kill();
        self.read(&process.lines())
    }

    fn read(&mut self, console: &[String]) -> Found {
        let mut found = Found::default();
        let mut arrivals = Vec::new();
        for line in console {
            let Some((word, rest)) = said(line) else { continue };
            match word {
                words::OFFERED => {
                    let (name, bytes) = guest::file(rest);
                    self.oracle.offer(&name, &bytes);
                    self.unanswered.insert(rest.to_owned());
                }
                words::STORED => {
                    self.oracle.acknowledge(&guest::file(rest).1);
                    self.unanswered.remove(rest);
                }
                words::ARRIVED => arrivals.push(arrival(rest)),
                // What is sent after it has not arrived yet.
                words::SETTLED => found.verdict = Some(self.oracle.judge_listed(&arrivals)),
                words::FAILED | words::LEFT => found.complaints.push(line.clone()),
                _ => {}
            }
        }
        if !console.iter().any(|line| line.contains(words::MOUNTED)) {
            let last = &console[console.len().saturating_sub(20)..];
            found.complaints.push(format!("the disk was not mounted: {last:?}"));
        }
        found
    }
}

/// A word of the guest and what belongs to it. The end of a line that the power cut is missing, with its mark.
fn said(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_suffix(guest::END_OF_LINE)?;
    line.starts_with('#').then(|| line.split_once(' ').unwrap_or((line, "")))
}

fn arrival(rest: &str) -> (String, usize, Digest) {
    let mut fields = rest.rsplitn(3, ' ');
    let mut next = || fields.next().expect("an arrival has three fields");
    let (digest, size, name) = (next(), next(), next());
    let byte =
        |at: usize| u8::from_str_radix(&digest[2 * at..2 * at + 2], 16).expect("a digest is hexadecimal");
    (name.to_owned(), size.parse().expect("a size is a number"), std::array::from_fn(byte))
}

/// Polls more often than [`until`] does: a few milliseconds are many system calls.
fn wait_until(process: &mut Process, boot: u64, moment: Moment) {
    let start = Instant::now();
    let own = format!("{boot}.");
    let reached = |lines: &[String]| {
        let mut words = lines.iter().filter_map(|line| said(line));
        match moment {
            Moment::Word(awaited, _) => words.any(|(word, _)| word == awaited),
            Moment::Stored(count, _) => {
                let stored = words.filter(|(word, id)| *word == words::STORED && id.starts_with(&own));
                stored.count() as u64 >= count
            }
        }
    };
    let failed = |lines: &[String]| lines.iter().any(|line| line.contains(words::FAILED));
    loop {
        let lines = process.lines();
        if reached(&lines) {
            break;
        }
        // What is wrong is read from the console.
        if failed(&lines) || process.has_ended() || start.elapsed() > PATIENCE {
            return;
        }
        until::pause(Duration::from_millis(1));
    }
    let (Moment::Word(_, after) | Moment::Stored(_, after)) = moment;
    until::pause(after);
}
