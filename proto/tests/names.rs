//! Names: what is accepted is safe to join to a directory, and what is refused is refused for a reason of the page.

use proptest::prelude::*;
use tidegate_proto::limits::{LISTED_NAME_MAX, NAME_MAX};
use tidegate_proto::{Escaped, InvalidName, Name};

const REFUSED: &str = "?[]/\\=+<>:;',*~";

fn parse(text: &str) -> Result<Name, InvalidName> {
    Name::parse(text.as_bytes())
}

#[test]
fn the_names_of_the_field_are_accepted() {
    for name in [
        "web01.1700000000.data",
        "5f4dcc3b5aa765d61d8327deb882cf99.conf",
        "WIN SRV (2).12345.data",
        "host.conf.internal.5.data",
        ".hidden",
        "..x",
        "...",
        "a..b",
        "größe.1.data",
        "x",
        "a!\"#$%&()-.@^_`{|}z",
    ] {
        assert_eq!(parse(name).as_ref().map(Name::as_bytes), Ok(name.as_bytes()), "{name:?}");
    }
    assert!(Name::parse(b"\x80\xff.1.data").is_ok());
}

#[test]
fn every_refusal_has_its_reason() {
    assert_eq!(parse(""), Err(InvalidName::Empty));
    assert_eq!(parse("."), Err(InvalidName::Directory));
    assert_eq!(parse(".."), Err(InvalidName::Directory));
    assert_eq!(parse(" "), Err(InvalidName::OuterBlank));
    assert_eq!(parse(" a"), Err(InvalidName::OuterBlank));
    assert_eq!(parse("a "), Err(InvalidName::OuterBlank));
    for byte in REFUSED.bytes().chain(0x00..=0x1f).chain([0x7f]) {
        for name in [[b'a', byte, b'b'], [byte, b'a', b'b'], [b'a', b'b', byte]] {
            assert_eq!(Name::parse(&name), Err(InvalidName::Byte(byte)), "{}", Escaped(&name));
        }
    }
}

#[test]
fn listed_names_may_be_longer() {
    for (length, limit) in [(NAME_MAX, NAME_MAX), (LISTED_NAME_MAX, LISTED_NAME_MAX)] {
        let parse = if limit == NAME_MAX { Name::parse } else { Name::parse_listed };
        assert!(parse(&vec![b'n'; length]).is_ok());
        assert_eq!(parse(&vec![b'n'; length + 1]), Err(InvalidName::TooLong { length: length + 1, limit }));
    }
}

#[test]
fn names_print_without_surprises() {
    let name = Name::parse(b"a b\x9b31m\xe2\x80\xae.1.data").unwrap();
    assert_eq!(name.to_string(), r"a b\x9b31m\xe2\x80\xae.1.data");
    assert_eq!(format!("{name:?}"), r#""a b\x9b31m\xe2\x80\xae.1.data""#);
    assert_eq!(Escaped(b"\\x41\n\t\0").to_string(), r"\x5cx41\x0a\x09\x00");
}

/// Mostly plausible bytes, so that the interesting ones meet.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => prop::sample::select(&b"ab01._- "[..]), 1 => any::<u8>()];
    prop_oneof![8 => prop::collection::vec(byte, 0..12), 1 => prop::collection::vec(any::<u8>(), 190..220)]
}

proptest! {
    #[test]
    fn what_is_accepted_is_one_safe_path_component(bytes in bytes()) {
        if let Ok(name) = Name::parse_listed(&bytes) {
            let name = name.as_bytes();
            prop_assert_eq!(name, bytes.as_slice());
            prop_assert!((1..=LISTED_NAME_MAX).contains(&name.len()));
            prop_assert!(name != b"." && name != b"..");
            prop_assert!(!name.iter().any(|byte| REFUSED.as_bytes().contains(byte) || *byte < b' ' || *byte == 0x7f));
            prop_assert!(!name.starts_with(b" ") && !name.ends_with(b" "));
            prop_assert_eq!(Name::parse(name).is_ok(), name.len() <= NAME_MAX);
        }
    }

    #[test]
    fn what_is_refused_breaks_a_rule(bytes in bytes()) {
        if Name::parse(&bytes).is_err() {
            let rule_broken = bytes.is_empty()
                || bytes.len() > NAME_MAX
                || bytes == b"." || bytes == b".."
                || bytes.first() == Some(&b' ') || bytes.last() == Some(&b' ')
                || bytes.iter().any(|byte| REFUSED.as_bytes().contains(byte) || byte.is_ascii_control());
            prop_assert!(rule_broken);
        }
    }

    #[test]
    fn escapes_are_printable_and_tell_all_bytes_apart(one in bytes(), other in bytes()) {
        let escaped = Escaped(&one).to_string();
        prop_assert!(escaped.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        prop_assert_eq!(escaped == Escaped(&other).to_string(), one == other);
    }
}
