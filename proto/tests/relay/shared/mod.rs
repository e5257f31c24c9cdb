//! Shared files: what the tests say about them, as text and as values.

pub(crate) mod buckets;
mod hostile_node;
mod hostile_puller;
mod joined;
pub(crate) mod model;
mod outcomes;
mod owners;
mod properties;
mod transcripts;

use tidegate_proto::Name;
use tidegate_proto::relay::{ContentState, Digest, SharedAnswer, SharedItem, SharedOutcome, SharedRequest};

pub(crate) fn name(text: &str) -> Name {
    Name::parse_listed(text.as_bytes()).expect("a valid name")
}

/// A file whose digest is its size, over and over.
pub(crate) fn item(text: &str, size: u8) -> SharedItem {
    SharedItem { name: name(text), digest: [size; 32], size: size.into(), fits: true }
}

fn byte(digest: &Digest) -> String {
    assert_eq!(digest, &[digest[0]; 32]);
    format!("{:02x}", digest[0])
}

fn byte_if_any(digest: Option<&Digest>) -> String {
    digest.map_or("-".into(), byte)
}

/// A digest of one repeated byte.
fn digest(text: &str) -> Digest {
    [u8::from_str_radix(text, 16).expect("two hex digits"); 32]
}

fn digest_if_any(text: &str) -> Option<Digest> {
    (text != "-").then(|| digest(text))
}

/// How transcripts show a request.
pub(crate) fn asked(request: &SharedRequest) -> String {
    match request {
        SharedRequest::Summary => "summary".into(),
        SharedRequest::LookInto(buckets) => format!("look_into {buckets:?}"),
        SharedRequest::Fetch { name, digest, offset } => format!("fetch {name} {} {offset}", byte(digest)),
        SharedRequest::Place { name, expected, digest, size } => {
            format!("place {name} {} {} {size}", byte_if_any(expected.as_ref()), byte(digest))
        }
        SharedRequest::Part(bytes) => format!("part {}", String::from_utf8_lossy(bytes)),
        SharedRequest::Remove { name, expected } => format!("remove {name} {}", byte(expected)),
    }
}

/// A request as a transcript's owner makes it.
pub(crate) fn request(words: &[&str]) -> SharedRequest {
    match words {
        ["summary"] => SharedRequest::Summary,
        ["look_into", buckets @ ..] => {
            SharedRequest::LookInto(buckets.iter().map(|bucket| bucket.parse().expect("a number")).collect())
        }
        ["fetch", file, sum, offset] => SharedRequest::Fetch {
            name: name(file),
            digest: digest(sum),
            offset: offset.parse().expect("a number"),
        },
        ["place", file, expected, sum, size] => SharedRequest::Place {
            name: name(file),
            expected: digest_if_any(expected),
            digest: digest(sum),
            size: size.parse().expect("a number"),
        },
        ["part", bytes] => SharedRequest::Part(bytes.as_bytes().into()),
        ["remove", file, expected] => SharedRequest::Remove { name: name(file), expected: digest(expected) },
        _ => panic!("the puller's owner cannot ask {words:?}"),
    }
}

/// How transcripts show an answer.
pub(crate) fn told(answer: &SharedAnswer) -> String {
    match answer {
        SharedAnswer::Buckets(values) => {
            let set: Vec<_> = values.iter().enumerate().filter(|(_, value)| **value != 0).collect();
            format!("buckets {set:?}")
        }
        SharedAnswer::Items { items, last } => {
            let items: Vec<_> = items
                .iter()
                .map(|item| format!("{} {} {} {}", item.name, byte(&item.digest), item.size, item.fits))
                .collect();
            format!("items [{}] {last}", items.join(", "))
        }
        SharedAnswer::Content { state, bytes } => {
            format!("content {state:?} {}", String::from_utf8_lossy(bytes)).trim_end().into()
        }
        SharedAnswer::Outcome(SharedOutcome { code, number, digest, text }) => {
            format!("{code} {number} {} {text}", byte_if_any(digest.as_ref())).trim_end().into()
        }
    }
}

/// An answer as a transcript's owner gives it.
pub(crate) fn answer(words: &[&str]) -> SharedAnswer {
    let outcome = match words {
        ["buckets", at, value] => {
            let mut values = Box::new([0; 1024]);
            values[at.parse::<usize>().expect("a number")] = value.parse().expect("a number");
            return SharedAnswer::Buckets(values);
        }
        ["items", names @ .., last] => {
            let items = names.iter().zip(1..).map(|(name, size)| item(name, size)).collect();
            return SharedAnswer::Items { items, last: *last == "true" };
        }
        ["content", state, bytes @ ..] => {
            let state = ContentState::ALL.iter().find(|(.., name)| name == state).expect("a state").0;
            return SharedAnswer::Content { state, bytes: bytes.concat().into() };
        }
        ["go_on", number] => SharedOutcome::go_on(number.parse().expect("a number")),
        ["done"] => SharedOutcome::done(),
        ["changed", there] => SharedOutcome::changed(digest_if_any(there)),
        ["refused", text @ ..] => SharedOutcome::refused(text.join(" ")),
        ["damaged"] => SharedOutcome::damaged(),
        _ => panic!("the node's owner cannot answer {words:?}"),
    };
    SharedAnswer::Outcome(outcome)
}
