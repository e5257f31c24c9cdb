//! Slowness, silence, floods, and ends at any point.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use tidegate_proto::relay::frame::Frame;
use tidegate_tests::relay::{Blocks, packed};
use tidegate_tests::until;

use super::Ending::{Any, Ends, Lives};
use super::{Case, after_welcome, instead_of_welcome, on_socket};
use crate::rogue::Rogue;

/// Longer than the server waits for anything.
const LONG: Duration = Duration::from_secs(20);

/// Between two bytes of somebody slow.
const DRIP: Duration = Duration::from_millis(150);

pub(super) fn cases() -> Vec<Case> {
    [before_tls(), silence(), drips(), floods(), ends()].into_iter().flatten().collect()
}

/// The server gives up by itself.
fn until_ended(mut socket: TcpStream) -> io::Result<()> {
    socket.set_read_timeout(Some(LONG))?;
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(io::Error::other("the server does not end the connection"))
        }
        _ => Ok(()),
    }
}

fn before_tls() -> Vec<Case> {
    let saying = |what: &str, bytes: &'static [u8]| {
        on_socket(what, move |mut socket| {
            let _ = socket.write_all(bytes);
            until_ended(socket)
        })
    };
    vec![
        saying("silence instead of TLS", b""),
        saying("Tentacle instead of TLS", b"LS SIZE 3\n"),
        saying("HTTP instead of TLS", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        saying("half a ServerHello", b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03"),
        saying("a TLS record of 64 KiB", b"\x16\x03\x03\xff\xff\x02\x00\x00\x76\x03\x03"),
        saying("a fatal alert", b"\x15\x03\x03\x00\x02\x02\x28"),
        saying("a relay frame instead of TLS", b"\x11\x00\x00\x25"),
        on_socket("the end instead of TLS", |socket| socket.shutdown(Shutdown::Both)),
        on_socket("a reset instead of TLS", |socket| {
            rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).map_err(io::Error::from)
        }),
        on_socket("a ServerHello that drips", |mut socket| {
            socket.write_all(b"\x16\x03\x03\x3f\xff")?;
            for _ in 0..60 {
                if socket.write_all(b"\x02").is_err() {
                    return Ok(());
                }
                until::pause(DRIP);
            }
            until_ended(socket)
        }),
    ]
}

fn silence() -> Vec<Case> {
    let body = |rogue: &mut Rogue| {
        let record = rogue.package().record();
        rogue.data(&Rogue::open(&record[..record.len() - 10]))
    };
    vec![
        instead_of_welcome("silence instead of WELCOME", Ends, |_| Ok(())),
        after_welcome("silence after WELCOME", Ends, |_| Ok(())),
        after_welcome("silence in a frame's header", Ends, |rogue| rogue.bytes([0x12, 0])),
        after_welcome("silence in a frame", Ends, |rogue| rogue.bytes([0x12, 0, 1, 0, 0x28, 0xB5])),
        after_welcome("silence in a compressed frame", Ends, |rogue| rogue.data(&Blocks::new(17).open())),
        after_welcome("silence in a body", Ends, body),
        after_welcome("silence instead of DELETED", Ends, |rogue| rogue.delivered().map(drop)),
        after_welcome("pings in a body, and no more of it", Any, move |rogue| {
            body(rogue)?;
            for _ in 0..40 {
                rogue.say(&Frame::Ping(1))?;
                until::pause(DRIP);
            }
            Ok(())
        }),
        after_welcome("pings instead of DELETED", Any, |rogue| {
            rogue.delivered()?;
            for _ in 0..40 {
                rogue.say(&Frame::Ping(1))?;
                until::pause(DRIP);
            }
            Ok(())
        }),
    ]
}

fn drips() -> Vec<Case> {
    let drip = |rogue: &mut Rogue, bytes: &[u8]| {
        bytes.chunks(1).try_for_each(|byte| {
            until::pause(DRIP);
            rogue.bytes(byte)
        })
    };
    vec![
        instead_of_welcome("a WELCOME that drips", Any, move |rogue| {
            let mut bytes = Vec::new();
            Frame::Welcome(rogue.good_welcome()).write(&mut bytes);
            drip(rogue, &bytes)
        }),
        after_welcome("a header that drips", Any, move |rogue| drip(rogue, &[0x12, 0, 0, 40])),
        after_welcome("an endless optional frame that drips", Any, move |rogue| {
            rogue.bytes([0xFE, 1, 0, 0])?;
            drip(rogue, &[0; 40])
        }),
        after_welcome("a compressed stream that drips in frames of a byte", Any, move |rogue| {
            let package = rogue.package();
            rogue.may_arrive(&package);
            packed(&package.record())[..40].chunks(1).try_for_each(|byte| {
                until::pause(DRIP);
                rogue.data(byte)
            })
        }),
    ]
}

fn floods() -> Vec<Case> {
    vec![
        after_welcome("fifty megabytes of pings in one go", Any, |rogue| {
            let mut ping = Vec::new();
            Frame::Ping(1).write(&mut ping);
            let many = ping.repeat(100_000);
            (0..42).try_for_each(|_| rogue.bytes(&many))
        }),
        after_welcome("good packages, one after the other, and no ACK is read", Any, |rogue| {
            for _ in 0..500 {
                rogue.send_honest()?;
            }
            rogue.ponged()
        }),
        after_welcome("good packages up to the credit, and nothing more", Any, |rogue| {
            let credit = rogue.until_credit(1)?;
            let mut spent = 0;
            while spent + 3_000 < credit.min(1 << 20) {
                let package = rogue.send_honest()?;
                spent += 1_024 + package.bytes.len() as u64;
            }
            rogue.ponged()
        }),
        after_welcome("a package, and it never reads again", Any, |rogue| {
            rogue.send_honest()?;
            until::pause(Duration::from_secs(3));
            Ok(())
        }),
        after_welcome("an empty DATA", Ends, |rogue| rogue.raw(0x12, b"")),
        after_welcome("a good package in the middle of pings", Lives, |rogue| {
            let package = rogue.package();
            rogue.must_arrive(&package);
            for part in packed(&package.record()).chunks(100) {
                rogue.say(&Frame::Ping(5))?;
                rogue.data(part)?;
            }
            Ok(())
        }),
    ]
}

/// A good session that ends after so many bytes.
fn ends() -> Vec<Case> {
    let case = |(at, reset): (usize, bool)| {
        let how = if reset { "reset" } else { "ended" };
        instead_of_welcome(format!("a good session that is {how} after byte {at}"), Ends, move |rogue| {
            let [first, second] = [rogue.package(), rogue.package()];
            let mut session = Vec::new();
            Frame::Welcome(rogue.good_welcome()).write(&mut session);
            Frame::Data(Rogue::open(&first.record())).write(&mut session);
            Frame::Dry.write(&mut session);
            Frame::Data(packed(&second.record())[6..].to_vec()).write(&mut session);
            rogue.may_arrive(&first);
            rogue.may_arrive(&second);
            rogue.bytes(&session[..at.min(session.len())])?;
            if reset {
                rustix::net::sockopt::set_socket_linger(rogue.socket(), Some(Duration::ZERO))?;
                return rogue.socket().shutdown(Shutdown::Read);
            }
            rogue.hang_up()
        })
    };
    let bytes = [0, 1, 3, 4, 20, 53, 54, 57, 58, 62, 70, 100, 104, 113, 400, 700, 1_000, 1_200, 2_000];
    bytes.into_iter().flat_map(|at| [(at, false), (at, true)]).map(case).collect()
}
