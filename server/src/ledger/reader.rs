//! The ledger, read beside a running server: what `find` and `verify` ask it.
//!
//! Constraints: nothing is written; no transaction stays open for longer than a bounded piece of work, because the
//! server's log of changes can only shrink between readers; a damaged row is told, and hides no other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Params, params};
use tidegate_proto::Name;

use super::package::COLUMNS;
use super::{LedgerError, OF_FEW, OPEN, Package, open, schema};

/// Rows whose sums are verified in one piece.
const ROWS_AT_ONCE: i64 = 10_000;

/// What `PRAGMA integrity_check` says at most.
const COMPLAINTS_MAX: u32 = 20;

/// A ledger that is only read.
#[derive(Debug)]
pub(crate) struct Reader {
    db: Connection,
}

/// Packages that were asked for, and what is wrong with rows among them.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) packages: Vec<Package>,
    pub(crate) damaged: Vec<String>,
}

/// The answer to "where is".
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The newest, newest first.
    pub(crate) rows: Rows,
    /// How many there are.
    pub(crate) total: usize,
}

/// What the ledger says of a name of a site, over all rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was never received, or is forgotten.
    Unknown,
    /// A row says that the site may have it.
    Expected,
    /// Every row says that the site has deleted it.
    Deleted,
}

impl Reader {
    /// Opens the ledger in `directory`; `None` when there is none yet.
    pub(crate) fn open(directory: &Path) -> Result<Option<Self>, LedgerError> {
        let Some(db) = open::database_to_read(directory)? else { return Ok(None) };
        schema::is_up_to_date(&db)?;
        Ok(Some(Self { db }))
    }

    /// What this ledger knows of itself: `id`, `staging`.
    pub(crate) fn fact(&self, name: &str) -> Result<Option<String>, LedgerError> {
        let query = "SELECT value FROM fact WHERE name = ?1";
        Ok(self.db.query_row(query, [name], |row| row.get(0)).optional()?)
    }

    /// When the oldest package that is still known was received.
    pub(crate) fn oldest(&self) -> Result<Option<i64>, LedgerError> {
        let query = "SELECT received FROM package ORDER BY id LIMIT 1";
        Ok(self.db.query_row(query, [], |row| row.get(0)).optional()?)
    }

    /// How many packages were left at a site at its last pull.
    pub(crate) fn held_back(&self, site: &str) -> Result<u64, LedgerError> {
        let query = "SELECT held_back FROM site WHERE name = ?1";
        Ok(self.db.query_row(query, [site], |row| row.get(0)).optional()?.unwrap_or_default())
    }

    /// The epoch under which a site is pulled.
    pub(crate) fn epoch(&self, site: &str) -> Result<u64, LedgerError> {
        let query = "SELECT epoch FROM site WHERE name = ?1";
        Ok(self.db.query_row(query, [site], |row| row.get(0)).optional()?.unwrap_or(1))
    }

    /// The sites of rows that are not history.
    pub(crate) fn unfinished_sites(&self) -> Result<Vec<String>, LedgerError> {
        let mut query = self.db.prepare(&format!(
            "SELECT site FROM package WHERE {OPEN} UNION SELECT site FROM package WHERE state = 'quarantined'"
        ))?;
        let sites = query.query_map([], |row| row.get(0))?;
        Ok(sites.collect::<Result<_, _>>()?)
    }

    /// Packages by their listed or delivered name, and those of an agent of that name; the newest `limit` of them.
    pub(crate) fn find(&self, name: &[u8], site: Option<&str>, limit: usize) -> Result<Found, LedgerError> {
        let mut newest = Newest { ids: BinaryHeap::new(), limit, total: 0 };
        for query in BY_NAME {
            let mut query = self.db.prepare_cached(query)?;
            let mut rows = query.query(params![name, site])?;
            while let Some(row) = rows.next()? {
                newest.add(row.get(0)?);
            }
        }
        for separator in [b'.', b'_'] {
            let first = [name, &[separator]].concat();
            let end = [name, &[separator + 1]].concat();
            let mut query = self.db.prepare_cached(BY_AGENT)?;
            let mut rows = query.query(params![first, end, site])?;
            while let Some(row) = rows.next()? {
                // A damaged value is no blob; `verify` finds it.
                let is_the_agents = |name: &[u8]| is_number_and_ending(&name[first.len()..]);
                if row.get_ref(1)?.as_blob().is_ok_and(is_the_agents) {
                    newest.add(row.get(0)?);
                }
            }
        }
        let total = newest.total;
        let mut rows = Rows::default();
        for Reverse(id) in newest.ids.into_sorted_vec() {
            // Between the two questions history may have been trimmed.
            self.add("id = ?1", [id], &mut rows)?;
        }
        Ok(Found { rows, total })
    }

    /// All packages with a file in the staging directory, in arrival order: held, committed, quarantined.
    pub(crate) fn staged(&self, site: Option<&str>) -> Result<Rows, LedgerError> {
        let mut rows = Rows::default();
        let of_site = "(?1 IS NULL OR site = ?1)";
        self.add(
            &format!("{OPEN} AND state IN ('held', 'committed') AND {of_site} {OF_FEW}"),
            [site],
            &mut rows,
        )?;
        self.add(&format!("state = 'quarantined' AND {of_site} {OF_FEW}"), [site], &mut rows)?;
        Ok(rows)
    }

    /// A site's packages that are not history.
    pub(crate) fn unfinished(&self, site: &str) -> Result<Rows, LedgerError> {
        let mut rows = Rows::default();
        self.add(&format!("site = ?1 AND {OPEN} {OF_FEW}"), [site], &mut rows)?;
        self.add("site = ?1 AND state = 'quarantined' AND on_site = 0", [site], &mut rows)?;
        Ok(rows)
    }

    /// What is known of a name that a site lists.
    pub(crate) fn standing(&self, site: &str, name: &Name) -> Result<Standing, LedgerError> {
        let mut query = self.db.prepare_cached(STANDING)?;
        let answer: Option<bool> = query.query_row(params![name.as_bytes(), site], |row| row.get(0))?;
        Ok(match answer {
            None => Standing::Unknown,
            Some(true) => Standing::Expected,
            Some(false) => Standing::Deleted,
        })
    }

    /// What SQLite finds wrong with its file.
    pub(crate) fn complaints(&self) -> Result<Vec<String>, LedgerError> {
        let mut query = self.db.prepare(&format!("PRAGMA integrity_check({COMPLAINTS_MAX})"))?;
        let lines = query.query_map([], |row| row.get::<_, String>(0))?;
        let mut lines = lines.collect::<Result<Vec<_>, _>>()?;
        lines.retain(|line| line != "ok");
        Ok(lines)
    }

    /// Rows that are not what was written.
    pub(crate) fn damaged_rows(&self) -> Result<Vec<String>, LedgerError> {
        let ends = "SELECT min(id), max(id) FROM package";
        let (first, last) = self.db.query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (Some(mut first), Some(last)): (Option<i64>, Option<i64>) = (first, last) else {
            return Ok(Vec::new());
        };
        let mut damaged = Vec::new();
        while first <= last {
            let end = first.saturating_add(ROWS_AT_ONCE);
            let found = self.rows("id >= ?1 AND id < ?2", [first, end])?;
            damaged.extend(found.damaged);
            first = end;
        }
        Ok(damaged)
    }

    fn rows(&self, rest: &str, params: impl Params) -> Result<Rows, LedgerError> {
        let mut rows = Rows::default();
        self.add(rest, params, &mut rows)?;
        Ok(rows)
    }

    /// Adds the packages for which the rest of an SQL query holds.
    fn add(&self, rest: &str, params: impl Params, rows: &mut Rows) -> Result<(), LedgerError> {
        let mut query = self.db.prepare_cached(&format!("SELECT {COLUMNS} FROM package WHERE {rest}"))?;
        for package in query.query_map(params, Package::of)? {
            match package.map_err(LedgerError::from) {
                Ok(package) => rows.packages.push(package),
                // A damaged page, unlike a damaged row, ends the query too.
                Err(LedgerError::Damaged(what)) => rows.damaged.push(what),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Both are answered by an index, whatever the size of the ledger: few targets differ from their names.
const BY_NAME: [&str; 2] = [
    "SELECT id FROM package WHERE name = ?1 AND (?2 IS NULL OR site = ?2)",
    "SELECT id FROM package WHERE target = ?1 AND target <> name AND (?2 IS NULL OR site = ?2)",
];

/// Reads the index alone, in the part of it that belongs to the agent.
const BY_AGENT: &str =
    "SELECT id, name FROM package WHERE name >= ?1 AND name < ?2 AND (?3 IS NULL OR site = ?3)";

const STANDING: &str =
    "SELECT max(on_site = 1 OR state IN ('held', 'committed')) FROM package WHERE name = ?1 AND site = ?2";

/// The greatest ids, bounded.
struct Newest {
    ids: BinaryHeap<Reverse<i64>>,
    limit: usize,
    total: usize,
}

impl Newest {
    fn add(&mut self, id: i64) {
        self.total += 1;
        self.ids.push(Reverse(id));
        if self.ids.len() > self.limit {
            self.ids.pop();
        }
    }
}

/// Whether this is what follows the agent in a name: digits and `.data`.
fn is_number_and_ending(rest: &[u8]) -> bool {
    let number = rest.strip_suffix(b".data").unwrap_or_default();
    !number.is_empty() && number.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
pub(super) const QUESTIONS: [(&str, &str); 4] = [
    (BY_NAME[0], "package_name (name=?"),
    (BY_NAME[1], "package_renamed (target=?)"),
    (BY_AGENT, "COVERING INDEX package_name (name>? AND name<?)"),
    (STANDING, "package_name (name=? AND site=?)"),
];

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::{Ledger, NewPackage, Retention, State};
    use super::*;
    use crate::body::Digest;

    fn filled(names: &[(&str, &str)]) -> (tempfile::TempDir, Ledger) {
        let directory = tempfile::tempdir().unwrap();
        let forever = Retention { max: u64::MAX, keep: Duration::from_secs(1_000_000_000) };
        let ledger = Ledger::open(directory.path()).unwrap().keeping(forever);
        ledger
            .write(|batch| {
                for (n, (site, name)) in names.iter().enumerate() {
                    let name = Name::parse_listed(name.as_bytes()).unwrap();
                    let (digest, staged) = (Digest::from([7; 32]), format!("{n}.staged"));
                    let modified = SystemTime::now();
                    let new =
                        NewPackage { site, name: &name, digest: &digest, size: 1, staged: &staged, modified };
                    batch.hold(&new)?;
                }
                Ok(())
            })
            .unwrap();
        (directory, ledger)
    }

    fn found(directory: &Path, name: &str, site: Option<&str>, limit: usize) -> (Vec<i64>, usize) {
        let found = Reader::open(directory).unwrap().unwrap().find(name.as_bytes(), site, limit).unwrap();
        (found.rows.packages.iter().map(|package| package.id).collect(), found.total)
    }

    #[test]
    fn a_file_is_found_by_its_name_an_agent_by_its_files_newest_first() {
        let (directory, ledger) = filled(&[
            ("a", "web01.5.data"),
            ("a", "web01_1700000000.data"),
            ("b", "web01.3.data"),
            ("a", "web01.data"),
            ("a", "web01.x.5.data"),
            ("a", "web01.5.xml"),
            ("a", "web011.5.data"),
            ("a", "web01.5.data"),
        ]);
        let directory = directory.path();
        assert_eq!(found(directory, "web01", None, 10), (vec![8, 3, 2, 1], 4));
        assert_eq!(found(directory, "web01", None, 2), (vec![8, 3], 4));
        assert_eq!(found(directory, "web01", Some("b"), 10), (vec![3], 1));
        assert_eq!(found(directory, "web01.5.data", None, 10), (vec![8, 1], 2));
        assert_eq!(found(directory, "web01.5.data", Some("b"), 10), (vec![], 0));
        assert_eq!(found(directory, "web01.x", None, 10), (vec![5], 1));
        assert_eq!(found(directory, "web0", None, 10), (vec![], 0));
        assert_eq!(found(directory, "", None, 10), (vec![], 0));
        let first = ledger.select("id = 1", []).unwrap().remove(0);
        ledger
            .write(|batch| batch.commit(&first).and_then(|()| batch.retarget(&first, b"web01.50001.data")))
            .unwrap();
        assert_eq!(found(directory, "web01.50001.data", None, 10), (vec![1], 1), "as delivered");
        assert_eq!(found(directory, "web01.5.data", None, 10), (vec![8, 1], 2), "as listed");
    }

    #[test]
    fn a_million_rows_need_no_scan() {
        let (directory, _ledger) = filled(&[]);
        let reader = Reader::open(directory.path()).unwrap().unwrap();
        for (question, index) in QUESTIONS {
            let mut query = reader.db.prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
            let nothing = vec![rusqlite::types::Null; query.parameter_count()];
            let lines =
                query.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3)).unwrap();
            let plan = lines.map(Result::unwrap).collect::<Vec<_>>().join("; ");
            assert!(plan.contains(index), "{question}: {plan}");
            assert!(!plan.contains("SCAN"), "{question}: {plan}");
        }
    }

    #[test]
    fn damaged_rows_are_told_and_hide_no_other() {
        let (directory, _ledger) =
            filled(&[("a", "web01.1.data"), ("a", "web01.2.data"), ("a", "web01.3.data")]);
        let db = Connection::open(directory.path().join("ledger.sqlite")).unwrap();
        db.execute("UPDATE package SET digest = zeroblob(32) WHERE id = 2", []).unwrap();
        let reader = Reader::open(directory.path()).unwrap().unwrap();
        assert_eq!(reader.complaints().unwrap(), Vec::<String>::new());
        let damaged = reader.damaged_rows().unwrap();
        assert!(damaged.len() == 1 && damaged[0].contains("row 2"), "{damaged:?}");
        let staged = reader.staged(None).unwrap();
        assert_eq!((staged.packages.len(), staged.damaged), (2, damaged.clone()));
        let found = reader.find(b"web01", None, 10).unwrap();
        assert_eq!((found.rows.packages.len(), found.rows.damaged, found.total), (2, damaged, 3));
    }

    #[test]
    fn a_name_is_deleted_when_no_row_says_that_the_site_may_have_it() {
        let (directory, ledger) = filled(&[("a", "web01.1.data"), ("a", "web01.1.data")]);
        let reader = Reader::open(directory.path()).unwrap().unwrap();
        let standing =
            |site, name: &str| reader.standing(site, &Name::parse_listed(name.as_bytes()).unwrap()).unwrap();
        assert_eq!(standing("a", "web01.1.data"), Standing::Expected);
        assert_eq!(standing("b", "web01.1.data"), Standing::Unknown);
        for package in ledger.select("true", []).unwrap() {
            assert_eq!(standing("a", "web01.1.data"), Standing::Expected);
            assert_eq!(package.state, State::Held);
            ledger
                .write(|batch| {
                    batch.commit(&package)?;
                    batch.deliver(&package)?;
                    batch.gone(&package)
                })
                .unwrap();
        }
        assert_eq!(standing("a", "web01.1.data"), Standing::Deleted);
    }
}
