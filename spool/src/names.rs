//! What the spool reads out of a package's name: its number.
//!
//! The number is the digits before the extension, after a `.` or `_`: `web.1700000000.data`, `web_12.data`. The
//! data server behind us takes what stands before it (`^(.*)[\._]\d+\.data$`) for the agent, so a name is only ever
//! made unique *inside* the number. A name without a number gets `.<digits>` at its very end: behind the
//! extension, because `notes.data` must not turn into a file that looks like a data file of an agent `notes`.
//!
//! The digits that make a name unique come from the package's digest, so that name and digest together lead back to
//! the name sent ([`made_from`]): the directory needs no second record of it.

use std::borrow::Cow;

/// Longest name a sender may give, in bytes. Longer ones are refused.
pub const NAME_MAX: usize = 200;
/// Longest name a package is listed by: room to make the longest name unique. With 44 bytes of number and digest
/// before it, it just fits the 255 bytes of a file name.
pub const LISTED_NAME_MAX: usize = NAME_MAX + 10;
/// Equal packages that can be told apart by a made name, beside the one listed by its own: six weeks of one every
/// quarter of an hour. Their names form a ring, so it limits what is stored at a time only. Beyond it the sender is
/// refused ([`crate::CommitError::NoFreeName`]), never taken for a repeat. Tests get there sooner.
pub(crate) const COPIES: u32 = if cfg!(test) { 128 } else { 4_096 };
/// Bytes that make a name unique.
const EXTRA: usize = LISTED_NAME_MAX - NAME_MAX;
/// Numbers of at least this many digits are times, so that a repeat is the same package sent again. Shorter ones
/// are used again and again by some senders.
const TIME_DIGITS: usize = 9;

/// Whether the spool can store this name: it must be one file name, and one line of a listing.
pub(crate) fn valid(name: &[u8]) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && one_line_one_component(name)
}

/// Whether this may stand in `ready/` as a listed name.
pub(crate) fn valid_listed(name: &[u8]) -> bool {
    (1..=LISTED_NAME_MAX).contains(&name.len()) && one_line_one_component(name)
}

fn one_line_one_component(name: &[u8]) -> bool {
    !name.iter().any(|byte| matches!(byte, b'/' | 0 | b'\n'))
}

/// Whether the name carries a time.
pub(crate) fn timed(name: &[u8]) -> bool {
    number(name).is_some_and(|digits| digits.len() >= TIME_DIGITS)
}

/// Whether a listed package's name, as it was sent, carries a time: then its sender gives it to one package only.
/// `digest` is made of the first eight bytes of the SHA-256 of its content.
#[must_use]
pub fn is_timed(listed: &[u8], digest: u64) -> bool {
    timed(&sent(listed, digest))
}

/// The listed names that a package may get, in the order they are tried: its own, then those made from its digest.
/// After equal packages it is `next` and what follows around the ring. A name that looks made already is not used as it
/// is: it would lead back to another one.
pub(crate) fn candidates(name: &[u8], digest: u64, next: Option<u32>) -> impl Iterator<Item = Vec<u8>> + '_ {
    let own = (next.is_none() && made_from(name, digest).is_none()).then(|| name.to_vec());
    let first_step = next.unwrap_or(0);
    let made = (0..COPIES).map(move |probe| made(name, digest, (first_step + probe) % COPIES));
    own.into_iter().chain(made)
}

/// The name that was sent of a package listed as `listed`.
pub(crate) fn sent(listed: &[u8], digest: u64) -> Cow<'_, [u8]> {
    made_from(listed, digest).map_or(Cow::Borrowed(listed), |(sent, _)| Cow::Owned(sent))
}

/// The step whose name is tried after the package listed as `listed`.
pub(crate) fn step_after(listed: &[u8], digest: u64) -> u32 {
    made_from(listed, digest).map_or(0, |(_, step)| (step + 1) % COPIES)
}

/// The one of two steps that lies further on around the ring, seen over the shorter way.
pub(crate) fn later_step(a: u32, b: u32) -> u32 {
    if (b + COPIES - a) % COPIES < COPIES / 2 { b } else { a }
}

fn made(name: &[u8], digest: u64, step: u32) -> Vec<u8> {
    let extra = |modulus: u64| (digest % modulus + u64::from(step)) % modulus;
    match number(name) {
        Some(digits) => {
            let extra = format!("{:010}", extra(10_000_000_000));
            [&name[..digits.end], extra.as_bytes(), &name[digits.end..]].concat()
        }
        // One digit fewer: with the dot it is the same ten bytes.
        None => [name, format!(".{:09}", extra(1_000_000_000)).as_bytes()].concat(),
    }
}

/// The name and step that [`made`] a listed name, if it did.
pub(crate) fn made_from(listed: &[u8], digest: u64) -> Option<(Vec<u8>, u32)> {
    let in_number = number(listed).map(|digits| digits.end);
    [in_number, Some(listed.len())].into_iter().flatten().find_map(|end| {
        let start = end.checked_sub(EXTRA)?;
        let digits = listed[start..end].strip_prefix(b".").unwrap_or(&listed[start..end]);
        let extra: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
        let modulus = 10_u64.pow(digits.len() as u32);
        let step = u32::try_from((extra + modulus - digest % modulus) % modulus).ok()?;
        let sent = [&listed[..start], &listed[end..]].concat();
        (step < COPIES && made(&sent, digest, step) == listed).then_some((sent, step))
    })
}

/// Where the number stands.
fn number(name: &[u8]) -> Option<std::ops::Range<usize>> {
    let end = name.iter().rposition(|&byte| byte == b'.')?;
    let start = name[..end].iter().rposition(|byte| !byte.is_ascii_digit())? + 1;
    (start < end && matches!(name[start - 1], b'.' | b'_')).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(name: &str, digest: u64) -> String {
        String::from_utf8(candidates(name.as_bytes(), digest, None).nth(1).unwrap()).unwrap()
    }

    #[test]
    fn unique_names_grow_inside_the_number() {
        assert_eq!(second("web.1700000000.data", 7), "web.17000000000000000007.data");
        assert_eq!(second("web_5.data", 12_345_678_901), "web_52345678901.data");
        assert_eq!(second("a.1.2.data", 7), "a.1.20000000007.data");
        assert_eq!(second("report_3.xml", 7), "report_30000000007.xml");
    }

    #[test]
    fn names_without_a_number_grow_at_the_end() {
        for name in ["notes.data", "notes", "web17.data", "17.data", "web-17.data", ".data", "a."] {
            assert_eq!(second(name, 7), format!("{name}.000000007"));
        }
    }

    #[test]
    fn while_a_unique_name_is_taken_the_next_number_follows() {
        let names: Vec<_> = candidates(b"w.1.data", 9_999_999_999, None).take(3).collect();
        assert_eq!(names[0], b"w.1.data");
        assert_eq!(names[1], b"w.19999999999.data");
        assert_eq!(names[2], b"w.10000000000.data");
    }

    #[test]
    fn made_names_form_a_ring() {
        let from = |step| candidates(b"notes", 7, Some(step)).collect::<Vec<_>>();
        let (mut first, later) = (from(0), from(COPIES - 1));
        assert_eq!((first.len(), &later[0][..]), (COPIES as usize, b"notes.000000134".as_slice()));
        first.rotate_right(1);
        assert_eq!(later, first);
    }

    #[test]
    fn the_later_step_is_found_around_the_ring() {
        assert_eq!((later_step(3, 5), later_step(5, 3), later_step(4, 4)), (5, 5, 4));
        assert_eq!((later_step(COPIES - 1, 1), later_step(1, COPIES - 1)), (1, 1));
        assert_eq!(step_after(b"notes", 7), 0);
        assert_eq!(step_after(&candidates(b"notes", 7, Some(3)).next().unwrap(), 7), 4);
    }

    /// Somebody sends under the name that he saw in a listing.
    #[test]
    fn a_name_that_looks_made_is_not_used_as_it_is() {
        let listed = second("host.0.data", 7);
        assert_eq!(
            candidates(listed.as_bytes(), 7, None).next().unwrap(),
            b"host.000000000070000000007.data"
        );
        assert_eq!(
            candidates(listed.as_bytes(), 8, None).next().unwrap(),
            listed.as_bytes(),
            "of other bytes"
        );
    }

    #[test]
    fn nine_digits_are_a_time() {
        assert!(timed(b"web.1700000000.data") && timed(b"web_123456789.data"));
        assert!(!timed(b"web.12345678.data") && !timed(b"host.0.data") && !timed(b"1700000000.data"));
    }

    #[test]
    fn a_name_is_one_line_and_one_component() {
        assert!(valid(b"a") && valid(&[0xff; 200]));
        assert!(!valid(b"") && !valid(b"a/b") && !valid(b"a\0") && !valid(b"a\nb") && !valid(&[b'a'; 201]));
    }

    /// What the data server takes for the agent: `^(.*)[\._]\d+\.data$`.
    fn agent(name: &[u8]) -> Option<&[u8]> {
        let stem = name.strip_suffix(b".data")?;
        let digits = stem.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (separator, prefix) = stem[..stem.len() - digits].split_last()?;
        (digits > 0 && matches!(separator, b'.' | b'_')).then_some(prefix)
    }

    proptest! {
        #[test]
        fn every_candidate_keeps_the_agent_fits_and_differs(
            name in "[a-c0-9._-]{0,195}([._][0-9]{0,3})?(\\.data)?", digest: u64,
        ) {
            prop_assume!(valid(name.as_bytes()));
            let names: Vec<_> = candidates(name.as_bytes(), digest, None).take(4).collect();
            for candidate in &names {
                prop_assert_eq!(&*sent(candidate, digest), name.as_bytes());
                prop_assert!(valid_listed(candidate));
                prop_assert_eq!(agent(candidate), agent(name.as_bytes()));
                prop_assert_eq!(names.iter().filter(|other| *other == candidate).count(), 1);
            }
        }
    }
}
