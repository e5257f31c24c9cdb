//! Whether the write-ahead log of a ledger is whole, found out before SQLite opens it.
//!
//! SQLite reads its log up to the first frame that is not in order and silently drops the rest: right after a power
//! cut, when the rest was never finished, and wrong after a flipped bit, when the rest was durable. The two can be told
//! apart. With `synchronous=FULL` the log is fsynced at every commit, so a power cut can tear the last transaction
//! only. Two commits behind the first bad frame in one unbroken chain of checksums prove damage: the first of the two
//! was durable before the second began. In two chains they prove nothing: SQLite overwrites a torn transaction from its
//! first frame on, and what it does not reach stays behind, until the log begins anew.
//!
//! The format is <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The first word of a log, for checksums over big-endian words; one less for little-endian ones.
const MAGIC: u32 = 0x377f_0683;

/// Pages as SQLite makes them; another size is not one.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=65_536;

/// What a log looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Log {
    /// Everything in it counts, or there is none.
    Whole,
    /// Its last transaction is torn: a power cut or a kill in the middle of a commit leaves that.
    Torn,
    /// Transactions that were durable are not readable any more.
    Damaged(String),
}

/// Reads the log at `path`. Nobody may be writing it.
pub(super) fn check(path: &Path) -> io::Result<Log> {
    let file = match File::open(path) {
        Ok(file) => BufReader::with_capacity(1 << 16, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Log::Whole),
        Err(error) => return Err(error),
    };
    check_log(file)
}

/// The two running sums of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sums(u32, u32);

impl Sums {
    fn over(mut self, bytes: &[u8], word: fn([u8; 4]) -> u32) -> Self {
        for pair in bytes.chunks_exact(8) {
            let [a, b, c, d, e, f, g, h] = *pair else { unreachable!("a chunk of eight has eight") };
            self.0 = self.0.wrapping_add(word([a, b, c, d])).wrapping_add(self.1);
            self.1 = self.1.wrapping_add(word([e, f, g, h])).wrapping_add(self.0);
        }
        self
    }
}

/// The big-endian number at `at`.
fn number(bytes: &[u8], at: usize) -> u32 {
    let word = bytes[at..].first_chunk().expect("headers are longer than their last word");
    u32::from_be_bytes(*word)
}

fn check_log(mut log: impl Read) -> io::Result<Log> {
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(Log::Whole);
    }
    let magic = number(&header, 0);
    let word = if magic & 1 == 1 { u32::from_be_bytes } else { u32::from_le_bytes };
    let page = number(&header, 8);
    let stored = Sums(number(&header, 24), number(&header, 28));
    let header_is_good = magic | 1 == MAGIC
        && PAGE_SIZES.contains(&page)
        && page.is_power_of_two()
        && Sums(0, 0).over(&header[..24], word) == stored;
    if !header_is_good {
        // A log is begun, header first and fsynced, before anything is written behind it.
        let mut rest = [0; 4096];
        while let read @ 1.. = log.read(&mut rest)? {
            if rest[..read].iter().any(|byte| *byte != 0) {
                return Ok(Log::Damaged("the header of its log (-wal) is not in order".into()));
            }
        }
        return Ok(Log::Whole);
    }
    let salts = &header[16..24];
    let mut frame = vec![0; FRAME_HEADER + page as usize];
    let mut sums = stored;
    let (mut at, mut bad, mut torn) = (0_u64, None, false);
    let (mut chained, mut commits) = (0_u32, 0);
    while fill(&mut log, &mut frame)? {
        let ours = frame[8..16] == *salts;
        let found = Sums(number(&frame, 16), number(&frame, 20));
        let good = ours && sums.over(&frame[..8], word).over(&frame[FRAME_HEADER..], word) == found;
        if !good && bad.is_none() {
            bad = Some(at);
        }
        if !good {
            chained = 0;
        }
        if bad.is_some() && ours && number(&frame, 4) != 0 {
            chained += 1;
            commits = commits.max(chained);
        }
        // Whether a frame follows on the one before it can be told even where that one is not in order.
        sums = found;
        at += 1;
        torn |= bad.is_some() && ours;
    }
    Ok(match bad {
        Some(bad) if commits > 1 => Log::Damaged(format!(
            "frame {bad} of its log (-wal) is not in order, and {commits} transactions that were durable stand behind it"
        )),
        Some(_) if torn => Log::Torn,
        // What else stands there is of an earlier round of the log.
        _ => Log::Whole,
    })
}

/// Fills `buffer`; `false` when not enough is left.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use rusqlite::Connection;
    use rusqlite::config::DbConfig;
    use tempfile::TempDir;

    use super::*;

    /// A database whose log has a few transactions, none of them in the database file.
    fn logged(transactions: u32) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let db = Connection::open(&path).unwrap();
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.execute_batch("CREATE TABLE t (x)").unwrap();
        for n in 1..transactions {
            db.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
        }
        drop(db);
        (directory, path.with_file_name("db-wal"))
    }

    fn with(log: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Log {
        let mut log = log.to_vec();
        change(&mut log);
        check_log(&*log).unwrap()
    }

    #[test]
    fn a_log_that_nobody_touched_is_whole_and_so_is_none() {
        let (directory, path) = logged(4);
        assert!(fs::metadata(&path).unwrap().len() > 4 * 4096, "the test needs a log");
        assert_eq!(check(&path).unwrap(), Log::Whole);
        assert_eq!(check(&directory.path().join("none")).unwrap(), Log::Whole);
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_only_the_last_transaction_may_be_a_torn_one() {
        let (_directory, path) = logged(5);
        let log = fs::read(path).unwrap();
        let frame = FRAME_HEADER + 4096;
        let last = log.len() - frame;
        // Page numbers beyond the first bytes are checked like the rest: one bit of every 97th byte will do.
        for at in (0..log.len()).step_by(97).chain(0..HEADER).chain(last..last + FRAME_HEADER) {
            let found = with(&log, |log| log[at] ^= 4);
            let one_before = last - frame;
            let expected = match at {
                at if at < one_before => matches!(found, Log::Damaged(_)),
                // A damaged salt hides its own frame's commit.
                at if at < last => found != Log::Whole,
                // As if the frame were of an earlier round: no other frame tells.
                at if (last + 8..last + 16).contains(&at) => found == Log::Whole,
                _ => found == Log::Torn,
            };
            assert!(expected, "byte {at} of {}: {found:?}", log.len());
        }
    }

    #[test]
    fn what_a_torn_transaction_leaves_behind_the_next_one_is_no_damage() {
        let (directory, path) = logged(3);
        let frame = FRAME_HEADER as u64 + 4096;
        let frames = || (fs::metadata(&path).unwrap().len() - HEADER as u64) / frame;
        // A start: SQLite reads what is in order, and goes on behind it.
        let transaction = |pages: u32| {
            let _ = fs::remove_file(directory.path().join("db-shm"));
            let mut db = Connection::open(directory.path().join("db")).unwrap();
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
            let tx = db.transaction().unwrap();
            for _ in 0..pages {
                tx.execute("INSERT INTO t VALUES (zeroblob(3900))", []).unwrap();
            }
            tx.commit().unwrap();
        };
        // A power cut: one frame never came to the disk.
        let tear = |at: u64| {
            let mut log = fs::read(&path).unwrap();
            let at = HEADER + usize::try_from(at * frame).unwrap();
            log[at..at + FRAME_HEADER + 4096].fill(7);
            fs::write(&path, log).unwrap();
            check(&path).unwrap()
        };
        let durable = frames();
        transaction(12);
        assert!(frames() > durable + 12, "the test needs a long one");
        assert_eq!(tear(durable), Log::Torn);
        transaction(3);
        assert_eq!(tear(durable), Log::Torn, "each of the two is the last of its log");
        assert!(matches!(tear(1), Log::Damaged(_)), "and what was durable is still looked after");
    }

    #[test]
    fn an_unfinished_end_and_an_earlier_round_are_no_damage() {
        let (_directory, path) = logged(5);
        let log = fs::read(path).unwrap();
        let frame = FRAME_HEADER + 4096;
        assert_eq!(with(&log, |log| log.truncate(log.len() - 100)), Log::Whole, "cut in a frame");
        assert_eq!(with(&log, |log| log.truncate(HEADER)), Log::Whole);
        assert_eq!(with(&log, |log| log.truncate(10)), Log::Whole);
        assert_eq!(with(&log, |log| log.fill(0)), Log::Whole, "the size came to the disk, the bytes did not");
        let earlier = |log: &mut Vec<u8>| {
            let from = log.len() - 2 * frame;
            log[from + 8..from + 16].fill(9);
            log[from + frame + 8..from + frame + 16].fill(9);
        };
        assert_eq!(with(&log, earlier), Log::Whole);
    }
}
