//! Users and groups by name, from the local files alone: a directory service must not decide whether the server
//! starts. Accounts from elsewhere are given by number.

use std::fs;

/// The id of a user, by name or number.
pub(super) fn user(text: &str) -> Result<u32, String> {
    id(text, "user", "/etc/passwd")
}

/// The id of a group, by name or number.
pub(super) fn group(text: &str) -> Result<u32, String> {
    id(text, "group", "/etc/group")
}

fn id(text: &str, what: &str, file: &str) -> Result<u32, String> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let accounts =
        fs::read_to_string(file).map_err(|error| format!("cannot be looked up in {file}: {error}"))?;
    find(&accounts, text)
        .ok_or_else(|| format!("names the {what} {text:?}, which is not in {file}; write its number"))
}

fn find(accounts: &str, name: &str) -> Option<u32> {
    let mut lines = accounts.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| if fields.next() == Some(name) { fields.nth(1)?.parse().ok() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_or_number() {
        let accounts =
            "root:x:0:0:root:/root:/bin/sh\npandora:x:998:997::/var/spool/pandora:/usr/sbin/nologin\n";
        assert_eq!(find(accounts, "pandora"), Some(998));
        assert_eq!(find(accounts, "nobody"), None);
        assert_eq!(user("1234"), Ok(1234));
        assert_eq!(user("root"), Ok(0));
        assert_eq!(group("root"), Ok(0));
        assert!(group("no-such-group").expect_err("absent").contains("write its number"));
    }
}
