//! What holds of a listening machine whatever a peer sends and however it arrives, and of a dialling one whatever
//! answers it; and that neither does anything when its owner calls it out of turn.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use tidegate_proto::{
    BodyRate, Close, Initiator, InitiatorEvent, InitiatorSettings, Machine, Name, Packing, PassDigest,
    Reason, Responder, ResponderEvent, ResponderSettings, Time,
};

const NOW: Time = Time::ZERO;

fn responder() -> Responder {
    let body_rate = BodyRate { bytes_per_second: 1, window: Time::from_secs(9) };
    let idle = Time::from_secs(9);
    let settings = ResponderSettings { max_size: 50, idle, body_rate, ..ResponderSettings::default() };
    Responder::new(settings, NOW)
}

fn initiator() -> Initiator {
    Initiator::new(InitiatorSettings { password: None, patience: Time::from_secs(9) }, NOW)
}

/// What a session with a listening machine came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Session {
    events: Vec<ResponderEvent>,
    bodies: Vec<u8>,
    output: Vec<u8>,
    /// How often the owner accepted or confirmed.
    agreed: usize,
    closed: Option<Close>,
}

impl Session {
    /// Feeds the packets to a machine, whose owner takes its decisions from a list.
    fn run<'a>(packets: impl IntoIterator<Item = &'a [u8]>, decisions: &[bool]) -> Session {
        let (mut session, mut machine) = (Session::default(), responder());
        let mut decisions = decisions.iter().copied().cycle();
        let mut input = Vec::new();
        for packet in packets {
            input.extend_from_slice(packet);
            if let Err(close) = session.consume(&mut machine, &mut input, || decisions.next().unwrap_or(true))
            {
                session.closed = Some(close);
                session.output.append(machine.output());
                break;
            }
        }
        session
    }

    fn consume(
        &mut self,
        machine: &mut Responder,
        input: &mut Vec<u8>,
        mut agrees: impl FnMut() -> bool,
    ) -> Result<(), Close> {
        loop {
            let step = machine.step(input, NOW)?;
            let used: Vec<u8> = input.drain(..step.used).collect();
            let wrote = !machine.output().is_empty();
            self.output.append(machine.output());
            match step.event {
                Some(ResponderEvent::Body) => self.bodies.extend(used),
                Some(event) => {
                    self.answer(machine, &event, &mut agrees);
                    self.events.push(event);
                }
                None if step.used > 0 || wrote => {}
                None => {
                    assert!(input.is_empty() && !machine.blocked(), "the machine waits for nobody");
                    return Ok(());
                }
            }
        }
    }

    fn answer(&mut self, machine: &mut Responder, event: &ResponderEvent, agrees: &mut impl FnMut() -> bool) {
        match event {
            ResponderEvent::Offer { .. } if agrees() => {
                self.agreed += 1;
                machine.accept(NOW);
            }
            ResponderEvent::BodyEnd if agrees() => {
                self.agreed += 1;
                machine.confirm(NOW);
            }
            ResponderEvent::Offer { .. } | ResponderEvent::BodyEnd => {
                machine.refuse(Reason::StorageFull, NOW)
            }
            ResponderEvent::Fetch { .. } | ResponderEvent::List { .. } | ResponderEvent::Move { .. } => {
                match agrees() {
                    true => machine.announce(5, NOW),
                    false => machine.refuse(Reason::NotFound, NOW),
                }
            }
            ResponderEvent::Proceed => machine.write_body(b"zzzzz", NOW),
            ResponderEvent::Released => machine.released(NOW),
            ResponderEvent::Refused { .. }
            | ResponderEvent::Body
            | ResponderEvent::Declined
            | ResponderEvent::Quit => {}
        }
    }
}

/// Every command, some refused, all in one stream.
const PIPELINE: &[u8] = b"SEND <a.1.data> SIZE 3\nabcSEND <b/c> SIZE 3\nZSEND <b.2.data> SIZE 5\nQUIT\nSEND <c> SIZE 51\n\
    RECV <a.conf>\nRECV OK\nZRECV <a.conf>\nno\nLS <.>\nLS OK\nLS <*>\nMV <a.1.data>\nMV OK\nMV <b.2.data>\nMV OK\nQUIT\n";

#[test]
fn a_stream_means_the_same_wherever_it_is_split() {
    let whole = Session::run([PIPELINE], &[true]);
    assert_eq!(whole.closed, Some(Close::Quit));
    assert_eq!(whole.bodies, b"abcQUIT\n");
    assert_eq!(whole.agreed, 4);
    assert_eq!(whole.events.iter().filter(|event| **event == ResponderEvent::Released).count(), 2);
    for first in 0..=PIPELINE.len() {
        let (head, tail) = PIPELINE.split_at(first);
        assert_eq!(Session::run([head, tail], &[true]), whole, "split at {first}");
    }
    assert_eq!(Session::run(PIPELINE.chunks(1), &[true]), whole);
}

/// Something a peer might send: now and then right.
fn hostile_stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            &b"SEND <a.1.data> SIZE 3\nabc"[..],
            b"ZSEND <a> SIZE 1\nx",
            b"SEND <a> SIZE 0\n",
            b"SEND <a> SIZE 99999999999999999999999\n",
            b"SEND <../a> SIZE 3\n",
            b"SEND OK\n",
            b"RECV <a>\n",
            b"RECV OK\n",
            b"MV <a>\n",
            b"MV OK\n",
            b"LS <.>\n",
            b"LS OK\n",
            b"QUIT\n",
            b"PASS x\n",
            b"\r\n",
            b"SEND <a> SIZE 9",
            b"\n",
        ])
        .prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..9),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).filter(|window| *window == needle).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_peer_hears_an_ok_that_the_owner_did_not_give(
        stream in hostile_stream(),
        decisions in prop::collection::vec(any::<bool>(), 1..9),
        size in 1..20_usize,
    ) {
        let session = Session::run(stream.chunks(size), &decisions);
        prop_assert_eq!(count(&session.output, b"SEND OK\n"), session.agreed);
        prop_assert_eq!(count(&session.output, b" OK\n"), session.agreed);
    }

    #[test]
    fn packets_carry_no_meaning(stream in hostile_stream(), decisions in prop::collection::vec(any::<bool>(), 1..9)) {
        let whole = Session::run([stream.as_slice()], &decisions);
        for size in [1, 2, 5] {
            let session = Session::run(stream.chunks(size), &decisions);
            prop_assert_eq!(&session, &whole);
        }
    }

    #[test]
    fn every_end_of_input_ends_the_session(stream in hostile_stream()) {
        let mut machine = responder();
        let (mut session, mut input) = (Session::default(), stream);
        if session.consume(&mut machine, &mut input, || true).is_ok() {
            prop_assert!(machine.end_of_input(NOW).is_err());
        }
    }

    #[test]
    fn an_initiator_survives_any_answer_and_never_writes_ahead(
        answers in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(vec![
                &b"SEND OK\n"[..], b"SEND ERR (x)\n", b"RECV SIZE 3\n", b"RECV ERR\n", b"LS SIZE 0\n", b"MV SIZE 2\n",
            ]).prop_map(<[u8]>::to_vec),
            1 => prop::collection::vec(any::<u8>(), 0..9),
        ], 0..20),
        requests in prop::collection::vec(0..4_u8, 1..9),
    ) {
        let (mut machine, mut requests) = (initiator(), requests.into_iter());
        let name = Name::parse(b"a.1.data").unwrap();
        let mut now = NOW;
        for answer in [vec![]].into_iter().chain(answers) {
            let mut input = answer;
            loop {
                now += Time::from_millis(10);
                let Ok(step) = machine.step(&input, now) else { return Ok(()) };
                input.drain(..step.used);
                match step.event {
                    Some(InitiatorEvent::Accepted) => machine.write_body(b"abc", now),
                    Some(InitiatorEvent::Size(_)) => machine.proceed(now),
                    Some(InitiatorEvent::Body) => {}
                    // The last request is over: only now the next one may be written.
                    Some(_) => {
                        prop_assert!(machine.output().is_empty());
                        match requests.next() {
                            Some(0) => machine.send(&name, 3, Packing::Plain, now),
                            Some(1) => machine.receive(&name, Packing::Plain, now),
                            Some(2) => machine.list(b"a\n*", now),
                            Some(_) => machine.take(&name, Time::from_millis(5), now),
                            None => return Ok(()),
                        }
                    }
                    None => {
                        prop_assert!(input.is_empty());
                        break;
                    }
                }
                prop_assert!(count(machine.output(), b"\n") <= 1);
                machine.output().clear();
            }
        }
    }
}

#[test]
fn a_responder_called_out_of_turn_says_nothing() {
    let calls: [fn(&mut Responder); 6] = [
        |machine| machine.accept(NOW),
        |machine| machine.confirm(NOW),
        |machine| machine.refuse(Reason::Exists, NOW),
        |machine| machine.announce(1, NOW),
        |machine| machine.write_body(b"SEND OK\n", NOW),
        |machine| machine.released(NOW),
    ];
    // What has come before, whether an offer was accepted, and which calls are then in turn.
    let situations: [(&[u8], bool, &[usize]); 4] = [
        (b"", false, &[]),
        (b"SEND <a> SIZE 3\n", false, &[0, 2]),
        (b"SEND <a> SIZE 3\n", true, &[]),
        (b"MV <a>\n", false, &[2, 3]),
    ];
    for (before, accepted, in_turn) in situations {
        for (index, call) in calls.iter().enumerate().filter(|(index, _)| !in_turn.contains(index)) {
            let mut machine = responder();
            machine.step(before, NOW).unwrap();
            if accepted {
                machine.accept(NOW);
                machine.output().clear();
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| call(&mut machine)));
            assert_eq!(outcome.is_err(), cfg!(debug_assertions), "{before:?}, call {index}");
            assert!(machine.output().is_empty(), "{before:?}, call {index}");
        }
    }
}

#[test]
fn an_initiator_called_out_of_turn_says_nothing() {
    let name = Name::parse(b"a").unwrap();
    let calls: [&dyn Fn(&mut Initiator); 8] = [
        &|machine| machine.send(&name, 1, Packing::Plain, NOW),
        &|machine| machine.receive(&name, Packing::Plain, NOW),
        &|machine| machine.list(b".", NOW),
        &|machine| machine.take(&name, NOW, NOW),
        &|machine| machine.quit(NOW),
        &|machine| machine.proceed(NOW),
        &|machine| machine.decline(NOW),
        &|machine| machine.write_body(b"x", NOW),
    ];
    for (index, call) in calls.iter().enumerate() {
        let mut machine = initiator();
        machine.step(&[], NOW).unwrap();
        machine.list(b".", NOW);
        machine.output().clear();
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&mut machine)));
        assert_eq!(outcome.is_err(), cfg!(debug_assertions), "call {index}");
        assert!(machine.output().is_empty(), "call {index}");
    }
}

#[test]
fn a_whole_body_outlives_the_end_of_input() {
    let mut machine = responder();
    machine.step(b"SEND <a> SIZE 1\n", NOW).unwrap();
    machine.accept(NOW);
    machine.step(b"x", NOW).unwrap();
    assert_eq!(machine.end_of_input(NOW).unwrap().event, Some(ResponderEvent::BodyEnd));
    assert_eq!(machine.end_of_input(NOW).unwrap().event, None);
    machine.confirm(NOW);
    assert_eq!(machine.end_of_input(NOW), Err(Close::PeerLeft));
}

#[test]
fn a_file_is_not_deleted_before_its_body_is_written() {
    let mut machine = responder();
    machine.step(b"MV <a>\n", NOW).unwrap();
    machine.announce(1, NOW);
    machine.step(b"MV OK\n", NOW).unwrap();
    machine.write_body(b"x", NOW);
    // The next command overtakes the body.
    assert_eq!(machine.step(b"QUIT\n", NOW).unwrap().event, None);
    assert_eq!(machine.end_of_input(NOW).unwrap().event, None);
    assert!(machine.blocked());
    machine.output().clear();
    assert_eq!(machine.deadline(), Some(Time::ZERO));
    assert_eq!(machine.step(b"", NOW).unwrap().event, Some(ResponderEvent::Released));
}

#[test]
fn machines_are_small() {
    let password = Some(PassDigest::of(b"secret"));
    let mut machine = Responder::new(ResponderSettings { password, ..ResponderSettings::default() }, NOW);
    assert!(size_of::<Responder>() <= 256, "{}", size_of::<Responder>());
    assert!(size_of::<Initiator>() <= 256, "{}", size_of::<Initiator>());
    assert_eq!(machine.output().capacity(), 0);
}

#[test]
fn the_room_of_a_body_is_given_back() {
    let mut machine = responder();
    machine.step(b"RECV <a>\n", NOW).unwrap();
    machine.announce(100_000, NOW);
    machine.step(b"RECV OK\n", NOW).unwrap();
    machine.write_body(&[0; 100_000], NOW);
    machine.output().clear();
    machine.step(b"", NOW).unwrap();
    assert!(machine.output().capacity() <= 1024);
}
