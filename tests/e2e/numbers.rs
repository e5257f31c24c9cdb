//! What must arrive of packages that have a number, as over relay: each of them once, whichever spool it comes from, and
//! equal files under other numbers as packages of their own.
//!
//! One thing is open: a name with a time that comes again under another number is a repeat for 7 days of the server's
//! clock, so only the first one must arrive.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use tidegate_tests::files;
use tidegate_tests::oracle::{Arrival, Digest, Verdict, digest};

/// Run and counter, as a package's file name begins.
pub(crate) type Number = String;

/// Every package that a pull met.
#[derive(Debug, Default)]
pub(crate) struct Numbers(BTreeMap<Number, Package>);

#[derive(Debug)]
struct Package {
    file: Digest,
    timed: bool,
    /// Its bytes came under another number within the 7 days: nobody waits for it.
    is_repeat: bool,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A pull met it, and died.
    Begun,
    /// A pull met it and came to its end.
    Through,
    /// A pull met it and died, and so did the only disk that held it.
    Gone,
}

impl Numbers {
    /// A pull begins, and finds these.
    pub(crate) fn met(
        &mut self,
        held: &BTreeMap<Number, Digest>,
        is_timed: impl Fn(&Digest) -> bool,
        mut is_repeat: impl FnMut(&Digest) -> bool,
    ) {
        for (number, &file) in held {
            if !self.0.contains_key(number) {
                let timed = is_timed(&file);
                let package = Package { file, timed, is_repeat: is_repeat(&file), fate: Fate::Begun };
                self.0.insert(number.clone(), package);
            }
        }
    }

    /// It came to its end.
    pub(crate) fn through(&mut self, held: &BTreeMap<Number, Digest>) {
        held.keys().for_each(|number| self.0.get_mut(number).expect("it was met").fate = Fate::Through);
    }

    /// A disk with these is gone, and nobody else has them.
    pub(crate) fn gone<'a>(&mut self, numbers: impl Iterator<Item = &'a Number>) {
        for number in numbers {
            if let Some(package) = self.0.get_mut(number).filter(|package| package.fate == Fate::Begun) {
                package.fate = Fate::Gone;
            }
        }
    }

    /// Compares, when nothing is left anywhere.
    pub(crate) fn judge(&self, arrivals: &[Arrival]) -> Verdict {
        let mut times: HashMap<Digest, (u32, &str)> = HashMap::new();
        for arrival in arrivals {
            times.entry(digest(&arrival.bytes)).or_insert((0, &arrival.name)).0 += 1;
        }
        let mut verdict = Verdict::default();
        let files: HashSet<&Digest> = self.0.values().map(|package| &package.file).collect();
        for file in files {
            let (arrived, name) = times.get(file).copied().unwrap_or((0, "a file that did not arrive"));
            let packages = || self.0.values().filter(|package| package.file == *file);
            let through = packages().filter(|package| package.fate == Fate::Through).count() as u32;
            let timed = packages().any(|package| package.timed);
            let least = if timed { through.min(1) } else { through };
            let most = packages().filter(|package| !package.is_repeat).count() as u32;
            let shown = || format!("{name}: {arrived} times instead of {least} to {most}");
            if arrived < least {
                verdict.lost.push(shown());
            }
            if arrived > most {
                verdict.doubled.push(shown());
            }
        }
        verdict
    }
}

/// What lies in a spool: number and bytes. One that vanishes meanwhile is not there any more.
pub(crate) fn held(storage: &Path) -> BTreeMap<Number, Digest> {
    let package = |path: &std::path::PathBuf| {
        let name = path.file_name().expect("a package has a name").to_string_lossy().into_owned();
        let number = name.splitn(3, '-').take(2).collect::<Vec<_>>().join("-");
        Some((number, digest(&std::fs::read(path).ok()?)))
    };
    files::packages(storage).iter().filter_map(package).collect()
}
