//! The link with real sockets. When bytes pass is tried in [`super::schedule`], where no clock is involved.

use std::io;

use super::*;
use crate::seed::Seed;
use crate::until::PATIENCE;

const FAST: Path = Path { round_trip: Duration::ZERO, rate: None };

/// A connection through a link like this: the link, the dialler's end, the listener's end.
fn connection(path: Path) -> (Wan, TcpStream, TcpStream) {
    let target = TcpListener::bind(address::unused_socket()).expect("an address of our own");
    let wan = Wan::new(target.local_addr().expect("it is bound"), path);
    let dialler = TcpStream::connect(wan.address()).expect("the link listens");
    let (listener, _) = target.accept().expect("the link dials");
    for end in [&dialler, &listener] {
        end.set_read_timeout(Some(PATIENCE)).expect("a socket has the option");
        end.set_write_timeout(Some(PATIENCE)).expect("a socket has the option");
    }
    (wan, dialler, listener)
}

fn all(mut from: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("everything comes within patience");
    bytes
}

#[test]
fn bytes_pass_unchanged_and_in_order_both_ways_at_once() {
    let paths = [
        FAST,
        Path { round_trip: Duration::from_millis(8), rate: None },
        Path { round_trip: Duration::from_millis(2), rate: Some(20_000_000) },
    ];
    for path in paths {
        let (wan, dialler, listener) = connection(path);
        let mut seed = Seed::of(7);
        let sent = [seed.bytes(3_000_000), seed.bytes(1_000_000)];
        std::thread::scope(|scope| {
            for (mut end, bytes) in [(&dialler, &sent[0]), (&listener, &sent[1])] {
                scope.spawn(move || {
                    end.write_all(bytes).expect("the link takes it");
                    end.shutdown(Shutdown::Write).expect("it is connected");
                });
            }
            let there = scope.spawn(|| all(&listener));
            assert!(all(&dialler) == sent[1], "{path:?}");
            assert!(there.join().expect("the reader ends") == sent[0], "{path:?}");
        });
        assert_eq!([wan.passed(From::Dialler), wan.passed(From::Listener)], [3_000_000, 1_000_000]);
        assert_eq!(wan.connections(), 1);
    }
}

/// Only what is too early is wrong: how late a loaded machine is says nothing about the link.
#[test]
fn nothing_is_earlier_than_the_link_allows() {
    let (_wan, mut dialler, mut listener) =
        connection(Path { round_trip: Duration::from_millis(40), rate: Some(100_000) });
    let begun = Instant::now();
    dialler.write_all(&[1; 1_000]).expect("the link takes it");
    let mut bytes = [0; 1_000];
    listener.read_exact(&mut bytes).expect("it comes");
    listener.write_all(&bytes).expect("the link takes it");
    dialler.read_exact(&mut bytes).expect("it comes");
    let least = Duration::from_millis(40 + 10 + 10);
    assert!(begun.elapsed() >= least, "there and back in {:?}", begun.elapsed());
}

#[test]
fn a_receiver_that_takes_nothing_holds_the_sender_up() {
    let (wan, mut dialler, listener) = connection(FAST);
    dialler.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket has the option");
    let refused = dialler.write_all(&vec![0; 256 << 20]).expect_err("nobody takes so much");
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    let entered = wan.passed(From::Dialler);
    dialler.shutdown(Shutdown::Write).expect("it is connected");
    assert!(all(&listener).len() as u64 >= entered, "what entered arrives all the same");
}

#[test]
fn an_end_passes_in_its_direction_and_a_break_ends_both() {
    let (_wan, dialler, mut listener) = connection(FAST);
    dialler.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(all(&listener), []);
    listener.write_all(b"the other direction goes on").expect("the link takes it");
    listener.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(all(&dialler), b"the other direction goes on");

    let (_wan, dialler, listener) = connection(FAST);
    rustix::net::sockopt::set_socket_linger(&dialler, Some(Duration::ZERO)).expect("it has the option");
    drop(dialler);
    let mut nothing = [0; 1];
    assert!(!matches!((&listener).read(&mut nothing), Ok(1..)));
}
