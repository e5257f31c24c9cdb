//! What a site that speaks relay told of itself, for people.

use serde_json::Value;

use crate::ledger::SiteRow;
use crate::report::{ago, lasting, utc};

/// From here on a site's clock is worth a line: certificates and the times in names depend on it. It is never corrected.
const CLOCK_OFFSET_TOLD: u64 = 60_000;

/// So long before its end a certificate is worth a line.
const EXPIRY_TOLD: i64 = 30 * 24 * 60 * 60;

/// What the bits of `limits_hit` stand for: the connections, and then the node's reasons for a loss, by their codes.
const LIMITS: [&str; 11] = [
    "max_connections",
    "spool or disk full",
    "quota of a class",
    "quota of an agent",
    "packages dropped for newer ones",
    "packages damaged",
    "packages purged",
    "max_size",
    "names",
    "disk errors",
    "bad archives",
];

/// What a site told, and when.
pub(super) struct There<'a> {
    row: &'a SiteRow,
    status: &'a Value,
    /// Seconds since 1970.
    at: i64,
    now: i64,
}

impl<'a> There<'a> {
    /// `None` for a site that never told.
    pub(super) fn of(row: &'a SiteRow, now: i64) -> Option<Self> {
        Some(Self { row, status: row.status.as_ref()?, at: row.status_at?, now })
    }

    fn number(&self, field: &str) -> Option<u64> {
        self.status.get(field)?.as_u64()
    }

    /// How many packages it holds.
    pub(super) fn packages(&self) -> Option<u64> {
        self.number("packages")
    }

    /// For how long the oldest of them had been there when it told, by the site's own clock.
    pub(super) fn oldest(&self) -> Option<u64> {
        let arrived = self.number("oldest_arrival").filter(|_| self.packages() != Some(0))?;
        Some(self.number("clock")?.saturating_sub(arrived) / 1_000)
    }

    /// What needs an operator's eye, a line each.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let hit = self.limits_hit();
        if !hit.is_empty() {
            lines.push(format!("limits hit there lately: {}", hit.join(", ")));
        }
        if let Some(end) = self.expiry()
            && end - self.now < EXPIRY_TOLD
        {
            lines.push(if end > self.now {
                let left = lasting(end.abs_diff(self.now));
                format!("its certificate expires in {left}: `tidegate-certs renew`")
            } else {
                format!("its certificate has expired: {}", utc(end))
            });
        }
        if let Some(offset) =
            self.row.clock_offset_ms.filter(|offset| offset.unsigned_abs() >= CLOCK_OFFSET_TOLD)
        {
            lines.push(format!("its clock is {}", off(offset)));
        }
        lines
    }

    fn limits_hit(&self) -> Vec<String> {
        let bits = self.number("limits_hit").unwrap_or_default();
        let name =
            |bit: u32| LIMITS.get(bit as usize).map_or_else(|| format!("limit {bit}"), |&name| name.into());
        (0..u64::BITS).filter(|bit| bits >> bit & 1 == 1).map(name).collect()
    }

    fn expiry(&self) -> Option<i64> {
        i64::try_from(self.number("cert_expiry")?).ok()
    }

    /// All of it, as pairs of a key and words.
    pub(super) fn details(&self) -> Vec<(&'static str, String)> {
        let number = |field| self.number(field).map_or_else(|| "-".to_owned(), |value| value.to_string());
        let limit = |field| self.number(field).map_or_else(String::new, |max| format!(" of {max}"));
        let oldest =
            self.oldest().map_or_else(String::new, |age| format!(", the oldest for {}", lasting(age)));
        let mut lines = vec![
            ("told", ago(self.now - self.at)),
            ("holds", format!("{}{} packages{oldest}", number("packages"), limit("max_packages"))),
            ("bytes", format!("{}{}", number("bytes"), limit("max_bytes"))),
            (
                "takes in",
                format!("{} a minute, {} since its start", number("intake_rate"), number("intake_packages")),
            ),
            (
                "gives",
                format!("{} a minute, {} since its start", number("drain_rate"), number("drained_packages")),
            ),
            (
                "free space",
                format!("{} bytes, {} of them reserved", number("free_bytes"), number("reserve_bytes")),
            ),
            ("connections", format!("{}{}", number("connections"), limit("max_connections"))),
            ("refused", number("refused")),
            ("dropped", number("dropped")),
            ("dead letters", number("held_back")),
        ];
        let hit = self.limits_hit();
        lines.push(("limits hit", if hit.is_empty() { "none lately".into() } else { hit.join(", ") }));
        if let Some(started) = self.number("started").and_then(|at| i64::try_from(at / 1_000).ok()) {
            lines.push(("started", utc(started)));
        }
        if let Some(end) = self.expiry() {
            lines.push(("certificate", format!("until {}", utc(end))));
        }
        if let Some(offset) = self.row.clock_offset_ms {
            lines.push(("clock", off(offset)));
        }
        lines
    }
}

/// How far a clock is off.
fn off(milliseconds: i64) -> String {
    let direction = if milliseconds < 0 { "behind" } else { "ahead of" };
    let size = milliseconds.unsigned_abs();
    let size = if size < 10_000 { format!("{size} ms") } else { lasting(size / 1_000) };
    format!("{size} {direction} this server's")
}
