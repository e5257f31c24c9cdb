//! What a puller does not take from a node.

use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::{CloseCode, Farewell, Hello, LossRecord, PullerEvent, Purpose};
use tidegate_proto::{Close, Machine};
use zstd_safe::CParameter;

use crate::pair::{hello, number, welcome};
use crate::wire::{
    CREDIT, PACKAGE, SKIPPED, assert_violation, data, frames, head, hear, puller, puller_with, raw, record,
    said, stream, zstd, zstd_with,
};

/// However the bytes are cut, the puller closes over them, and says why.
fn refused(bytes: &[u8], text: &str) -> Vec<PullerEvent> {
    refused_by(&hello(Purpose::Stream), bytes, text)
}

fn refused_by(hello: &Hello, bytes: &[u8], text: &str) -> Vec<PullerEvent> {
    let mut all = Vec::new();
    for chunk in [1, 7, usize::MAX] {
        if chunk == 1 && bytes.len() > 100_000 {
            continue;
        }
        let mut puller = puller_with(hello.clone());
        let (events, close) = hear(&mut puller, bytes, chunk);
        assert_violation(&mut puller, close, text);
        assert!(puller.received() <= CREDIT);
        all = events;
    }
    all
}

fn loss(counter: u64) -> LossRecord {
    LossRecord {
        number: number(counter),
        class: "data".into(),
        reason: 1,
        packages: 2,
        bytes: 3,
        first: 4,
        last: 5,
    }
}

#[test]
fn frames_that_are_not_known_or_not_its_own() {
    refused(&raw(0x40, b""), "frame 0x40 is not known");
    refused(&raw(0x00, b""), "frame 0x00 is not known");
    for frame in [
        Frame::Hello(hello(Purpose::Stream)),
        Frame::Credit(1),
        Frame::Ack(number(1)),
        Frame::LossAck(number(1)),
        Frame::List,
    ] {
        refused(&frames(std::slice::from_ref(&frame)), &format!("{} came out of turn", frame.kind().name));
    }
    refused(&frames(&[Frame::Welcome(welcome())]), "WELCOME came out of turn");
    refused(&frames(&[Frame::Listing { names: b"a".into(), last: true }]), "LISTING came out of turn");
}

#[test]
fn unknown_frames_that_may_be_skipped_are() {
    let mut bytes = raw(0xc0, &[9; 65_536]);
    bytes.extend(raw(0xff, b""));
    bytes.extend(frames(&[Frame::Dry]));
    for chunk in [7, usize::MAX] {
        let mut puller = puller(Purpose::Stream);
        assert_eq!(hear(&mut puller, &bytes, chunk), (vec![PullerEvent::Dry], None));
    }
    refused(&raw(0xc0, &[0; 65_537]), "an unknown frame has a payload of 65537 bytes");
}

#[test]
fn payloads_of_a_wrong_length() {
    refused(&raw(0x12, b""), "DATA has a payload of 0 bytes, it may have 1 to 65536");
    refused(&raw(0x12, &[0; 65_537])[..4], "DATA has a payload of 65537 bytes");
    refused(&[0x12, 0xff, 0xff, 0xff], "DATA has a payload of 16777215 bytes");
    refused(&raw(0x13, b"x"), "DRY has a payload of 1 bytes");
    refused(&raw(0x14, &[0; 15]), "DELETED has a payload of 15 bytes");
    refused(&raw(0x15, &[0; 49]), "LOSSES has a payload of 49 bytes");
    refused(&raw(0x91, &[0; 4097]), "STATUS has a payload of 4097 bytes");
    refused(&raw(0x21, &[0; 9]), "PING has a payload of 9 bytes");
    refused(&raw(0x23, &[0; 210]), "CLOSE has a payload of 210 bytes");
}

#[test]
fn nothing_but_the_answer_before_the_welcome() {
    for (bytes, text) in [
        (frames(&[Frame::Dry]), "DRY came out of turn"),
        (frames(&[Frame::Ping(1)]), "PING came out of turn"),
        (stream(&record(1, b"x")), "DATA came out of turn"),
        (raw(0x11, &[0; 37]), "version 0 is not spoken"),
        (
            raw(
                0x11,
                &[
                    0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                    0, 0, 0, 0, 0, 0, 0,
                ],
            ),
            "version 2 is not spoken",
        ),
    ] {
        let mut puller =
            tidegate_proto::relay::Puller::new(hello(Purpose::Stream), tidegate_proto::Time::ZERO);
        puller.output().clear();
        let (_, close) = hear(&mut puller, &bytes, 1);
        assert_violation(&mut puller, close, text);
    }
}

#[test]
fn other_purposes_get_no_stream() {
    for (purpose, frame) in [
        (Purpose::List, Frame::Dry),
        (Purpose::List, Frame::Data(vec![1])),
        (Purpose::Look, Frame::Dry),
        (Purpose::Look, Frame::Status(Box::default())),
    ] {
        refused_by(&hello(purpose), &frames(std::slice::from_ref(&frame)), "came out of turn");
    }
}

#[test]
fn what_is_no_zstd() {
    refused(&data(b"PK\x03\x04 this is a zip"), "is not zstd");
    refused(&data(&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]), "skippable");
    refused(&data(&[0x5f, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff]), "skippable");
    // One byte, two and four of a dictionary's id.
    for id in 1..4 {
        refused(&data(&[0x28, 0xb5, 0x2f, 0xfd, id, 0x50, 1, 2, 3, 4]), "dictionary");
    }
    refused(&data(&[&zstd(&record(1, b"x"))[..6], &[0xff; 40]].concat()), "cannot be decompressed");
    refused(&data(&[zstd(&record(1, b"x")), b"rest".to_vec()].concat()), "is not zstd");
}

#[test]
fn large_windows_before_a_decoder_exists() {
    let window = |log: u8| vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3];
    for log in [21, 27, 31, 41] {
        let events = refused(&data(&window(log)), &format!("a window of {} bytes", 1_u64 << log));
        assert_eq!(events, [], "the owner is not even asked");
    }
    refused(&data(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, (10 << 3) | 1]), "a window of 1179648 bytes");
    let single = [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &[1, 0, 16, 0]].concat();
    assert_eq!(refused(&data(&single), "a window of 1048577 bytes"), []);
    let single = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &[0xff; 8]].concat();
    assert_eq!(refused(&data(&single), "a window of 18446744073709551615 bytes"), []);
    let made = zstd_with(&record(1, &[0; 100]), &[CParameter::WindowLog(23)]);
    refused(&data(&made), "a window of 8388608 bytes");
}

#[test]
fn small_windows_are_taken() {
    for log in [10, 17, 20] {
        let bytes = zstd_with(&record(1, &[7; 100_000]), &[CParameter::WindowLog(log)]);
        let mut puller = puller(Purpose::Stream);
        let (_, close) = hear(&mut puller, &data(&bytes), usize::MAX);
        assert_eq!((close, puller.received()), (None, 101_024));
    }
}

#[test]
fn a_frame_that_begins_in_the_data_in_which_another_ends_is_taken() {
    let first = record(1, b"x");
    let block = &(first.len() as u32 * 8).to_le_bytes()[..3];
    let open = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50][..], block, &first].concat();
    // The last block of the first one is empty, and comes with the second.
    let rest = [&[1, 0, 0][..], &zstd(&record(2, b"y"))].concat();
    for chunk in [1, 7, usize::MAX] {
        let mut puller = puller(Purpose::Stream);
        let (_, close) = hear(&mut puller, &[data(&open), data(&rest)].concat(), chunk);
        assert_eq!((close, puller.received()), (None, 2 * 1025));
    }
}

#[test]
fn compressed_nothing() {
    refused(&data(&zstd(b"")), "an empty zstd frame");
    // Blocks of nothing, without end.
    let header = &zstd(b"x")[..6];
    let endless = [header, &[0; 300_000]].concat();
    refused(&data(&endless), "262144 compressed bytes came to nothing");
}

#[test]
fn bombs_cost_one_step() {
    // A gibibyte of zeros within the size asked for, in blocks of one repeated byte: 128 KiB from 4 bytes.
    let mut block = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    let start = head(PACKAGE, 1, 1 << 30, b"bomb.data");
    block.extend(((start.len() as u32) << 3).to_le_bytes()[..3].iter());
    block.extend(&start);
    for _ in 0..8192 {
        block.extend((((128 << 10) << 3 | 0b010_u32).to_le_bytes())[..3].iter());
        block.push(0);
    }
    let greedy = Hello { max_package: 1 << 40, ..hello(Purpose::Stream) };
    let events = refused_by(&greedy, &data(&block), "more came than the credit of 1048576");
    let body: usize =
        events.iter().map(|event| if let PullerEvent::Body(bytes) = event { bytes.len() } else { 0 }).sum();
    assert!(body as u64 <= CREDIT && body as u64 > CREDIT - 2 * 65_536, "{body}");
    refused(
        &data(&block),
        "package 0000000000000007-0000000001 has 1073741824 bytes, at most 1000000 were asked for",
    );
}

#[test]
fn records_that_are_none() {
    refused(&stream(&head(0, 1, 1, b"a")), "a record of kind 0");
    refused(&stream(&head(3, 1, 1, b"a")), "a record of kind 3");
    refused(&stream(&[0xff; 5000]), "a record of kind 255");
}

#[test]
fn numbers_that_do_not_grow() {
    for second in [1, 0] {
        let text =
            format!("package 0000000000000007-000000000{second} came after 0000000000000007-0000000001");
        refused(&stream(&[record(1, b"x"), record(second, b"y")].concat()), &text);
        refused(&[stream(&record(1, b"x")), stream(&record(second, b"y"))].concat(), &text);
        refused(&stream(&[head(SKIPPED, 1, 2_000_000, b"a"), record(second, b"y")].concat()), &text);
    }
}

#[test]
fn sizes_and_names() {
    let (mut most, mut least) = (head(PACKAGE, 1, 1_000_000, b"a"), head(PACKAGE, 1, 0, b"a"));
    most.extend(vec![1; 1_000_000]);
    least.extend(record(2, b"x"));
    for good in [most, least] {
        assert_eq!(hear(&mut puller(Purpose::Stream), &stream(&good), usize::MAX).1, None);
    }
    refused(&stream(&head(PACKAGE, 1, 1_000_001, b"a")), "has 1000001 bytes, at most 1000000");
    refused(&stream(&head(PACKAGE, 1, u64::MAX, b"a")), "has 18446744073709551615 bytes");
    refused(&stream(&head(SKIPPED, 1, 1_000_000, b"a")), "of 1000000 bytes was passed over");
    for (name, text) in [
        (&b""[..], "the name is empty"),
        (b"..", "stands for a directory"),
        (b"../../etc/passwd", "holds the byte '/'"),
        (b"a\0b", "holds the byte '\\x00'"),
        (b"a\nb", "holds the byte '\\x0a'"),
        (b" a", "begins or ends with a blank"),
        (&[b'a'; 211], "the name has 211 bytes, at most 210"),
        (&[b'a'; 255], "the name has 255 bytes"),
    ] {
        refused(&stream(&head(PACKAGE, 1, 1, name)), text);
        refused(&stream(&head(SKIPPED, 1, 2_000_000, name)), text);
    }
}

#[test]
fn more_than_the_credit() {
    let many: Vec<u8> = (1..2000).flat_map(|counter| record(counter, b"")).collect();
    let events = refused(&stream(&many), "more came than the credit of 1048576");
    let begun = events.iter().filter(|event| matches!(event, PullerEvent::Package(_))).count();
    assert_eq!(begun as u64, CREDIT / 1024);
    let skipped: Vec<u8> = (1..2000).flat_map(|counter| head(SKIPPED, counter, 2_000_000, b"a")).collect();
    refused(&stream(&skipped), "more came than the credit");
    // The last byte that is allowed, and one more.
    let body = vec![b'x'; 999_000];
    let rest = (CREDIT - 999_000 - 2048) as usize;
    let exact = [record(1, &body), record(2, &vec![b'y'; rest])].concat();
    let mut puller = puller(Purpose::Stream);
    assert_eq!(hear(&mut puller, &stream(&exact), usize::MAX).1, None);
    assert_eq!(puller.received(), CREDIT);
    let over = [record(1, &body), record(2, &vec![b'y'; rest + 1])].concat();
    refused(&stream(&over), "more came than the credit");
}

#[test]
fn deletions_of_what_was_not_acknowledged() {
    refused(&frames(&[Frame::Deleted(number(1))]), "is said to be deleted, which was not acknowledged");
    for (acked, deleted) in [(1, vec![2]), (2, vec![2, 2]), (2, vec![2, 1])] {
        let mut puller = puller(Purpose::Stream);
        hear(&mut puller, &stream(&[record(1, b"x"), record(2, b"y")].concat()), usize::MAX);
        puller.ack(number(acked));
        let deleted: Vec<_> = deleted.into_iter().map(|counter| Frame::Deleted(number(counter))).collect();
        let (_, close) = hear(&mut puller, &frames(&deleted), 1);
        assert_violation(&mut puller, close, "is said to be deleted");
    }
}

#[test]
fn loss_records_out_of_order_or_too_many() {
    refused(&frames(&[Frame::Losses(vec![loss(2), loss(2)])]), "loss record");
    refused(
        &frames(&[Frame::Losses(vec![loss(2)]), Frame::Losses(vec![loss(1)])]),
        "their numbers must grow",
    );
    let flood: Vec<_> =
        (0..41).map(|part| Frame::Losses((part * 100..part * 100 + 100).map(loss).collect())).collect();
    refused(&frames(&flood), "more than 4096 loss records");
    let mut cut = frames(&[Frame::Losses(vec![loss(1)])]);
    cut.pop();
    cut[3] -= 1;
    refused(&cut, "LOSSES ends too early");
    let mut long = frames(&[Frame::Losses(vec![LossRecord { class: "x".repeat(32), ..loss(1) }])]);
    let length = long.len() - 33;
    long[length] = 33;
    refused(&long, "LOSSES holds a text that is too long");
}

#[test]
fn answers_to_no_question() {
    refused(&frames(&[Frame::Pong(1)]), "PONG answers a PING that was not sent");
}

#[test]
fn a_ping_flood_is_answered_within_bounds() {
    let mut puller = puller(Purpose::Stream);
    let (_, close) = hear(&mut puller, &frames(&vec![Frame::Ping(1); 100_000]), usize::MAX);
    assert_eq!(close, None);
    assert!(puller.blocked() && puller.output().len() < 300_000, "{}", puller.output().len());
}

#[test]
fn farewells_are_heard_whatever_they_say() {
    for (payload, code, text) in [
        (&[9, 0, 0, 0, 0, 0, 0, 0, 0, b'f', b'u', b'l', b'l'][..], CloseCode::Busy, "full"),
        (&[99, 0, 0, 0, 0, 0, 0, 0, 0][..], CloseCode::Trouble, ""),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, b'\n', b'x'][..], CloseCode::Done, "\u{fffd}\u{fffd}x"),
    ] {
        let mut puller = puller(Purpose::Stream);
        let (events, close) = hear(&mut puller, &[raw(0x23, payload), b"more".to_vec()].concat(), 1);
        assert_eq!(events, []);
        assert_eq!(close, Some(Close::Farewell(Farewell { code, number: 0, text: text.into() })));
        assert_eq!(said(&mut puller), []);
    }
}

#[test]
fn endings_inside_something() {
    let whole = stream(&record(1, &[b'x'; 1000]));
    for cut in 1..whole.len() {
        let mut puller = puller(Purpose::Stream);
        let (events, close) = hear(&mut puller, &whole[..cut], usize::MAX);
        assert_eq!(close, None);
        assert!(!events.contains(&PullerEvent::PackageEnd) || cut > whole.len() - 8, "{cut}");
        assert_eq!(puller.end_of_input(tidegate_proto::Time::ZERO), Err(Close::FrameCut));
    }
    let mut puller = puller(Purpose::Stream);
    hear(&mut puller, &whole, usize::MAX);
    assert_eq!(puller.end_of_input(tidegate_proto::Time::ZERO), Err(Close::HungUp));
}
