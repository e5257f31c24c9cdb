//! Whether this process runs as the user that the state directory belongs to.
//!
//! A `pull --once` as root would leave a lock and a ledger behind that the service may not open. It only reads.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cli::Failure;

/// The ledger's file, whose owner decides.
const DATABASE: &str = "ledger.sqlite";

/// Refuses to work on the ledger in `state` as another user than its owner. Without a ledger, what root makes would
/// be root's in a directory that is meant for somebody else.
pub(crate) fn check(state: &Path, user: u32) -> Result<(), Failure> {
    let owner_of = |path: &Path| fs::metadata(path).ok().map(|found| found.uid());
    let ledger = owner_of(&state.join(DATABASE));
    let owner = ledger.or_else(|| if user == 0 { state.ancestors().find_map(owner_of) } else { None });
    match owner {
        Some(owner) if owner != user => Err(Failure::Permission(format!(
            "the state directory {} belongs to the user {}, and this is {}; run it as that user: sudo -u {} \
             tidegate-server …",
            state.display(),
            name(owner),
            name(user),
            name(owner),
        ))),
        _ => Ok(()),
    }
}

/// The user's name if the local accounts have one, else its number as sudo takes it.
fn name(user: u32) -> String {
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of_user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == user.to_string()).then(|| name.to_owned())
    };
    accounts.lines().find_map(of_user).unwrap_or_else(|| format!("'#{user}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_for_its_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let ledger = state.path().join(DATABASE);
        fs::write(&ledger, "").unwrap();
        let owner = fs::metadata(&ledger).unwrap().uid();
        check(state.path(), owner).unwrap();
        let refused = check(state.path(), owner + 1).expect_err("somebody else");
        assert!(matches!(refused, Failure::Permission(_)));
        assert!(refused.to_string().contains(&format!("sudo -u {} ", name(owner))), "{refused}");
    }

    #[test]
    fn a_user_without_an_account_is_named_by_number() {
        assert_eq!(name(0), "root");
        assert_eq!(name(4_000_000_000), "'#4000000000'");
    }
}
