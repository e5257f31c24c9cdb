//! `PROTOCOL.md` says what the code does: its tables and examples are compared with the constants and the codec.

use std::collections::BTreeMap;

use tidegate_proto::relay::frame::{Frame, KINDS, Sender, write_head};
use tidegate_proto::relay::{
    CloseCode, ContentState, Farewell, LossRecord, OutcomeCode, Purpose, SharedAnswer, SharedItem,
    SharedOutcome, SharedRequest, Status, limits,
};

use crate::pair::{hello, number, welcome};
use crate::shared::model::sha256;
use crate::shared::{buckets, item, name};

const DOCUMENT: &str = include_str!("../../PROTOCOL.md");
const LIMITS: &str = include_str!("../../src/relay/limits.rs");

/// The rows of the table under a heading: the first that stands there.
fn table(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = DOCUMENT.split_once(&format!("\n{heading}\n")).expect("the heading exists");
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let row = row.trim_matches('|');
        row.split(" | ").map(|cell| cell.trim_matches(['`', ' ', '|']).to_string()).collect()
    };
    rows.skip(2).map(cells).collect()
}

/// The first columns of a table.
fn columns<const N: usize>(heading: &str) -> Vec<[String; N]> {
    table(heading).into_iter().map(|row| std::array::from_fn(|column| row[column].clone())).collect()
}

#[test]
fn frames() {
    let kinds = KINDS.map(|kind| {
        let sender = match kind.sender {
            Sender::Puller => "puller",
            Sender::Node => "node",
            Sender::Both => "both",
        };
        let length = if kind.least == kind.most {
            kind.least.to_string()
        } else {
            format!("{} – {}", kind.least, kind.most)
        };
        [format!("0x{:02x}", kind.code), kind.name.into(), sender.into(), length]
    });
    let mut sorted = kinds.to_vec();
    sorted.sort();
    assert_eq!(columns::<4>("## Frames"), sorted);
}

#[test]
fn close_codes() {
    let codes = CloseCode::ALL.map(|(code, number, name)| {
        assert_eq!(code.to_string(), name);
        [number.to_string(), name.to_string()]
    });
    assert_eq!(columns::<2>("## Close codes"), codes);
}

#[test]
fn status_keys() {
    let keys: Vec<_> = Status::KEYS.iter().map(|(key, name)| [key.to_string(), name.to_string()]).collect();
    assert_eq!(columns::<2>("## Status"), keys);
}

#[test]
fn outcomes_and_states_of_content() {
    let outcomes = OutcomeCode::ALL.map(|(code, number, name)| {
        assert_eq!(code.to_string(), name);
        [number.to_string(), name.to_string()]
    });
    assert_eq!(columns::<2>("### Outcomes"), outcomes);
    let states = ContentState::ALL.map(|(_, number, name)| [number.to_string(), name.to_string()]);
    assert_eq!(columns::<2>("### Content"), states);
}

#[test]
fn buckets_and_the_sign() {
    let first = SharedItem { digest: sha256(b"abc"), ..item("a.conf", 3) };
    let second = SharedItem { digest: sha256(b""), fits: false, ..item("b.zip", 0) };
    let mut rows = vec![("sign of no file", format!("{:016x}", buckets::sign(&buckets::values(&[]))))];
    for (item, [bucket, value]) in [
        (&first, ["bucket of `a.conf`", "its value with `a.conf`, 3 bytes `abc`, fitting"]),
        (&second, ["bucket of `b.zip`", "its value with `b.zip`, of no bytes, not fitting"]),
    ] {
        let at = buckets::of(&item.name);
        let values = buckets::values(std::slice::from_ref(item));
        rows.push((bucket, at.to_string()));
        rows.push((value, format!("{:016x}", values[usize::from(at)])));
    }
    rows.push(("sign of both", format!("{:016x}", buckets::sign(&buckets::values(&[first, second])))));
    let given = columns::<2>("### Buckets and the sign");
    let given: Vec<_> = given.iter().map(|[of, value]| (of.as_str(), value.clone())).collect();
    let trimmed: Vec<_> = rows.into_iter().map(|(of, value)| (of.trim_matches('`'), value)).collect();
    assert_eq!(given, trimmed);
}

#[test]
fn limits_and_their_values() {
    let given: BTreeMap<_, _> =
        columns::<2>("## Limits").into_iter().map(|[name, value]| (name, value)).collect();
    let declared = LIMITS.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    assert_eq!(given.keys().map(String::as_str).collect::<Vec<_>>(), {
        let mut declared: Vec<_> = declared.collect();
        declared.sort_unstable();
        declared
    });
    for (name, value) in [
        ("VERSION", u64::from(limits::VERSION)),
        ("HEADER", limits::HEADER as u64),
        ("PAYLOAD_MAX", limits::PAYLOAD_MAX as u64),
        ("LABEL_MAX", limits::LABEL_MAX as u64),
        ("TEXT_MAX", limits::TEXT_MAX as u64),
        ("CLASS_MAX", limits::CLASS_MAX as u64),
        ("RECORD_COST", limits::RECORD_COST),
        ("WINDOW_LOG", limits::WINDOW_LOG.into()),
        ("BARREN_MAX", limits::BARREN_MAX as u64),
        ("INFLATED_STEP", limits::INFLATED_STEP as u64),
        ("OUTPUT_SOFT", limits::OUTPUT_SOFT as u64),
        ("WRITE_MAX", limits::WRITE_MAX as u64),
        ("IN_FLIGHT_MAX", limits::IN_FLIGHT_MAX as u64),
        ("LOSSES_IN_FLIGHT_MAX", limits::LOSSES_IN_FLIGHT_MAX as u64),
        ("LONE_MAX", limits::LONE_MAX as u64),
        ("PING_PART", limits::PING_PART.into()),
        ("BURST_MIN", limits::BURST_MIN),
        ("SHARED_BUCKETS", limits::SHARED_BUCKETS as u64),
        ("SHARED_PART", limits::SHARED_PART as u64),
        ("SHARED_AT_ONCE", limits::SHARED_AT_ONCE),
        ("SHARED_ITEMS_MAX", limits::SHARED_ITEMS_MAX as u64),
        ("SHARED_BURST_MIN", limits::SHARED_BURST_MIN),
        ("SHARED_IN_FLIGHT", limits::SHARED_IN_FLIGHT as u64),
    ] {
        assert_eq!(given[name], value.to_string(), "{name}");
    }
    for (name, value) in [
        ("KEEP_ALIVE_MIN", limits::KEEP_ALIVE_MIN),
        ("KEEP_ALIVE_MAX", limits::KEEP_ALIVE_MAX),
        ("REST", limits::REST),
        ("FLUSH_AFTER", limits::FLUSH_AFTER),
        ("BURST", limits::BURST),
    ] {
        assert!(
            given[name] == format!("{} s", value.as_secs())
                || given[name] == format!("{} ms", value.as_millis()),
            "{name}"
        );
    }
    assert_eq!(given["ALPN"].as_bytes(), limits::ALPN);
}

#[test]
fn examples() {
    let status = Status { packages: Some(3), limits_hit: Some(1), ..Status::default() };
    let loss = LossRecord {
        number: number(1),
        class: "data".into(),
        reason: 4,
        packages: 2,
        bytes: 3000,
        first: 1_700_000_000_000,
        last: 1_700_000_000_001,
    };
    let farewell = Farewell { code: CloseCode::EpochTooLow, number: 7, text: "the epoch is 7".into() };
    let samples = [
        Frame::Hello(hello(Purpose::Stream)),
        Frame::Credit(1 << 20),
        Frame::Ack(number(12)),
        Frame::LossAck(number(1)),
        Frame::List,
        Frame::Welcome(welcome()),
        Frame::Data(b"...".into()),
        Frame::Dry,
        Frame::Deleted(number(12)),
        Frame::Losses(vec![loss]),
        Frame::Listing { names: b"a.data\nb.data".into(), last: true },
        Frame::Ping(1),
        Frame::Pong(1),
        Frame::Close(farewell),
        Frame::Status(Box::new(status)),
        Frame::Yield,
        Frame::Ask(SharedRequest::Summary),
        Frame::Ask(SharedRequest::LookInto(vec![0, 1023])),
        Frame::Ask(SharedRequest::Fetch { name: name("a.conf"), digest: [0xaa; 32], offset: 16_384 }),
        Frame::Ask(SharedRequest::Place {
            name: name("a.conf"),
            expected: Some([0xaa; 32]),
            digest: [0xbb; 32],
            size: 3,
        }),
        Frame::Ask(SharedRequest::Part(b"abc".into())),
        Frame::Ask(SharedRequest::Remove { name: name("a.conf"), expected: [0xbb; 32] }),
        Frame::Answer(SharedAnswer::Items { items: vec![item("a.conf", 3)], last: true }),
        Frame::Answer(SharedAnswer::Content { state: ContentState::End, bytes: b"abc".into() }),
        Frame::Answer(SharedAnswer::Outcome(SharedOutcome::changed(Some([0xaa; 32])))),
        Frame::Answer(SharedAnswer::Outcome(SharedOutcome::refused("no room"))),
    ];
    let mut rows: Vec<_> = samples
        .iter()
        .map(|frame| {
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            assert_eq!(Frame::read(&bytes), Ok(Some((frame.clone(), bytes.len()))));
            [frame.kind().name.to_string(), hex(&bytes)]
        })
        .collect();
    let mut record = Vec::new();
    write_head(1, number(12), 1_700_000_000_000, 3, 0xba78_16bf_8f01_cfea, b"a.data", &mut record);
    record.extend_from_slice(b"abc");
    rows.push(["a record, uncompressed".into(), hex(&record)]);
    let listed: Vec<_> = rows.iter().map(|[name, bytes]| format!("| {name} | `{bytes}` |")).collect();
    assert_eq!(columns::<2>("## Examples"), rows, "they are:\n{}", listed.join("\n"));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
