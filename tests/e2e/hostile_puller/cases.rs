//! What misusers do, each under a name of its own.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use tidegate_proto::Time;
use tidegate_proto::relay::frame::{Frame, KINDS, Sender as Side};
use tidegate_proto::relay::{CloseCode, Farewell, Hello, Number, Purpose};
use tidegate_tests::sender::Sender;
use tidegate_tests::until;

use crate::puller::Misuser;

/// Enough for some small packages.
const SOME: u64 = 20_000;

type Act = dyn Fn(&mut Misuser) -> io::Result<()>;
type Change = fn(&mut Hello);

/// A misbehaviour, from the handshake of TLS on.
pub(crate) struct Case {
    pub(crate) what: String,
    pub(crate) act: Box<Act>,
    pub(crate) ending: Ending,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The node ends it.
    Ends,
    /// It goes on.
    Lives,
    /// The misuser ends it, or nobody cares.
    Any,
}

use Ending::{Any, Ends, Lives};

pub(crate) fn all() -> Vec<Case> {
    [acks(), credits(), hellos(), turns(), pace(), connections()].into_iter().flatten().collect()
}

fn case(
    what: impl Into<String>,
    ending: Ending,
    act: impl Fn(&mut Misuser) -> io::Result<()> + 'static,
) -> Case {
    Case { what: what.into(), act: Box::new(act), ending }
}

/// After the welcome.
fn greeted(
    what: impl Into<String>,
    ending: Ending,
    act: impl Fn(&mut Misuser) -> io::Result<()> + 'static,
) -> Case {
    case(what, ending, move |misuser| {
        misuser.greet()?;
        act(misuser)
    })
}

fn acks() -> Vec<Case> {
    let never_sent = |what: &str, number: Number| {
        greeted(format!("ACK of {what}, nothing was sent"), Ends, move |misuser| {
            misuser.say(&Frame::Ack(number))
        })
    };
    let beyond = |what: &str, number: fn(&[Number]) -> Number| {
        greeted(format!("ACK of {what}"), Ends, move |misuser| {
            let numbers = misuser.take(SOME, 3)?;
            misuser.say(&Frame::Ack(number(&numbers)))
        })
    };
    vec![
        never_sent("number 0", Number { run: 0, counter: 0 }),
        never_sent("the greatest number", Number { run: u64::MAX, counter: u64::MAX }),
        never_sent("the greatest run", Number { run: u64::MAX, counter: 0 }),
        beyond("everything there may ever be", |_| Number { run: u64::MAX, counter: u64::MAX }),
        beyond("a run before the first", |numbers| Number { run: numbers[0].run - 1, counter: u64::MAX }),
        beyond("a counter before the first", |numbers| Number {
            counter: numbers[0].counter.wrapping_sub(1),
            ..numbers[0]
        }),
        beyond("a package far behind those that were sent", |numbers| Number {
            counter: numbers[0].counter + 43,
            ..numbers[0]
        }),
        beyond("a run after the last", |numbers| Number { run: numbers[0].run + 1, counter: 0 }),
        greeted("ACK of a body that is still coming", Ends, |misuser| {
            // The large ones lie behind the small ones: less credit than one of them has.
            let numbers = misuser.take(400_000, 40)?;
            let next = numbers.last().map(|last| Number { counter: last.counter + 1, ..*last });
            misuser.say(&Frame::Ack(next.expect("forty came")))
        }),
        greeted("ACK twice", Ends, |misuser| {
            let numbers = misuser.take(SOME, 2)?;
            misuser.acknowledge(numbers[0])?;
            misuser.say(&Frame::Ack(numbers[0]))
        }),
        greeted("ACK backwards", Ends, |misuser| {
            let numbers = misuser.take(SOME, 3)?;
            misuser.acknowledge(numbers[2])?;
            misuser.say(&Frame::Ack(numbers[0]))
        }),
        greeted("ACK of what another connection was sent", Ends, |misuser| {
            let numbers = misuser.take(SOME, 3)?;
            misuser.connect()?;
            misuser.greet()?;
            misuser.say(&Frame::Ack(numbers[2]))
        }),
        greeted("ACK, and hanging up before DELETED", Any, |misuser| {
            let numbers = misuser.take(SOME, 2)?;
            misuser.acknowledge(numbers[1])?;
            misuser.hang_up()
        }),
        greeted("ACK, and nothing is read any more", Any, |misuser| {
            let numbers = misuser.take(SOME, 2)?;
            misuser.acknowledge(numbers[1])
        }),
        greeted("ACK as it should be", Lives, |misuser| {
            let numbers = misuser.take(SOME, 2)?;
            misuser.acknowledge(numbers[1])?;
            misuser.until_deleted(numbers[1])
        }),
        greeted("LOSS_ACK of what was never told", Ends, |misuser| {
            misuser.say(&Frame::LossAck(Number { run: u64::MAX, counter: u64::MAX }))
        }),
        greeted("LOSS_ACK of number 0", Ends, |misuser| {
            misuser.say(&Frame::LossAck(Number { run: 0, counter: 0 }))
        }),
    ]
}

fn credits() -> Vec<Case> {
    let credits = |what: &str, ending: Ending, totals: &'static [u64]| {
        greeted(what, ending, move |misuser| {
            totals.iter().try_for_each(|total| misuser.say(&Frame::Credit(*total)))
        })
    };
    vec![
        credits("a credit of 0", Any, &[0]),
        credits("a credit that shrinks", Ends, &[50_000, 40_000]),
        credits("the same credit twice", Ends, &[50_000, 50_000]),
        credits("the greatest credit", Lives, &[u64::MAX]),
        credits("a credit beyond the greatest", Ends, &[u64::MAX, u64::MAX]),
        greeted("the greatest credit, and nothing is read", Any, |misuser| {
            misuser.say(&Frame::Credit(u64::MAX))?;
            until::pause(Duration::from_secs(2));
            Ok(())
        }),
        greeted("a hundred thousand credits", Any, |misuser| {
            (1..=100_000).try_for_each(|total| misuser.say(&Frame::Credit(total)))
        }),
        greeted("credit for a byte more, again and again", Lives, |misuser| {
            (1_000..1_400).try_for_each(|total| misuser.say(&Frame::Credit(total)))
        }),
        greeted("everything is read and nothing acknowledged", Lives, |misuser| {
            misuser.take(u64::MAX, 44).map(drop)
        }),
        greeted("half of a large body is read, then the end", Any, |misuser| {
            misuser.take(1_200_000, 20)?;
            misuser.hang_up()
        }),
    ]
}

fn hellos() -> Vec<Case> {
    let written = |change: &dyn Fn(&mut Hello)| {
        let mut hello = Misuser::hello();
        change(&mut hello);
        let mut bytes = Vec::new();
        Frame::Hello(hello).write(&mut bytes);
        bytes.split_off(4)
    };
    let mut cases = Vec::new();
    for length in [0, 1, 2, 3, 4, 11, 12, 16, 24, 32, 40, 41, 47] {
        cases.push(case(format!("a HELLO of {length} bytes"), Ends, move |misuser| {
            misuser.raw(0x01, &written(&|_| {})[..length])
        }));
    }
    cases.push(case("a HELLO of version 0", Ends, move |misuser| {
        let mut payload = written(&|_| {});
        payload[..2].copy_from_slice(&[0, 0]);
        misuser.raw(0x01, &payload)
    }));
    for purpose in [0, 4, 0xFF] {
        cases.push(case(format!("a HELLO of purpose {purpose}"), Ends, move |misuser| {
            let mut payload = written(&|_| {});
            payload[2] = purpose;
            misuser.raw(0x01, &payload)
        }));
    }
    for (what, name) in [
        ("too long a name", &[b'n'; 65][..]),
        ("control characters", b"\x1b[2J\n"),
        ("broken UTF-8", b"\xff"),
    ] {
        cases.push(case(format!("a HELLO with {what}"), Ends, move |misuser| {
            let mut payload = written(&|_| {});
            payload.truncate(40);
            payload.push(name.len() as u8);
            payload.extend_from_slice(name);
            payload.push(0);
            misuser.raw(0x01, &payload)
        }));
    }
    for epoch in [0, 3, 1_000_001, u64::MAX] {
        cases.push(case(format!("epoch {epoch}"), Ends, move |misuser| {
            misuser.say(&Frame::Hello(Hello { epoch, ..Misuser::hello() }))
        }));
    }
    let odd: [(&str, Change); 7] = [
        ("a keep-alive of nothing", |hello| hello.keep_alive = Time::ZERO),
        ("a keep-alive of 49 days", |hello| hello.keep_alive = Time::from_millis(u64::from(u32::MAX))),
        ("packages of no bytes at most", |hello| hello.max_package = 0),
        ("packages of 2^64 - 1 bytes at most", |hello| hello.max_package = u64::MAX),
        ("a rate of one byte a second", |hello| hello.rate = 1),
        ("a rate of 2^64 - 1 bytes a second", |hello| hello.rate = u64::MAX),
        ("a clock before all time", |hello| hello.clock = i64::MIN),
    ];
    for (what, change) in odd {
        cases.push(case(format!("a HELLO with {what}"), Lives, move |misuser| {
            let mut hello = Misuser::hello();
            change(&mut hello);
            misuser.greet_as(hello)?;
            misuser.say(&Frame::Credit(SOME))
        }));
    }
    cases.push(case("a HELLO with what a newer puller adds", Lives, move |misuser| {
        let payload = [written(&|_| {}), b"and more".to_vec()].concat();
        misuser.raw(0x01, &payload)?;
        misuser.end().hear_until(|frame| matches!(frame, Frame::Welcome(_)).then_some(()))
    }));
    cases.push(greeted("HELLO twice", Ends, |misuser| misuser.say(&Frame::Hello(Misuser::hello()))));
    cases.push(case("a thousand HELLOs", Ends, |misuser| {
        (0..1_000).try_for_each(|_| misuser.say(&Frame::Hello(Misuser::hello())))
    }));
    cases
}

fn turns() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS.into_iter().filter(|kind| kind.sender == Side::Node) {
        let ending = if kind.code & 0x80 == 0 { Ends } else { Any };
        cases.push(greeted(format!("{}, the node's", kind.name), ending, move |misuser| {
            misuser.raw(kind.code, &vec![0; kind.least])
        }));
    }
    for kind in KINDS.into_iter().filter(|kind| kind.sender == Side::Puller && kind.name != "HELLO") {
        cases.push(case(format!("{} before HELLO", kind.name), Any, move |misuser| {
            misuser.raw(kind.code, &vec![0; kind.least])?;
            misuser.greet()
        }));
    }
    for kind in [0x00, 0x06, 0x10, 0x17, 0x24, 0x7F] {
        cases.push(greeted(format!("kind 0x{kind:02x}, unknown and mandatory"), Ends, move |misuser| {
            misuser.raw(kind, b"what is this?")
        }));
    }
    cases.push(greeted("kind 0xfe, unknown and optional", Lives, |misuser| misuser.raw(0xFE, &[0; 65_536])));
    cases.push(greeted("an optional kind that is too long", Ends, |misuser| {
        misuser.bytes([0xFE, 0xFF, 0xFF, 0xFF])
    }));
    for purpose in [Purpose::Look, Purpose::List] {
        cases.push(case(format!("ACK with purpose {purpose:?}"), Ends, move |misuser| {
            misuser.greet_as(Hello { purpose, ..Misuser::hello() })?;
            misuser.say(&Frame::Ack(Number { run: u64::MAX, counter: u64::MAX }))
        }));
        cases.push(case(format!("CREDIT with purpose {purpose:?}"), Any, move |misuser| {
            misuser.greet_as(Hello { purpose, ..Misuser::hello() })?;
            misuser.say(&Frame::Credit(u64::MAX))
        }));
    }
    cases.push(greeted("LIST in a stream", Any, |misuser| misuser.say(&Frame::List)));
    cases.push(case("ten thousand LISTs", Any, |misuser| {
        misuser.greet_as(Hello { purpose: Purpose::List, ..Misuser::hello() })?;
        (0..10_000).try_for_each(|_| misuser.say(&Frame::List))
    }));
    cases.push(case("HTTP", Ends, |misuser| misuser.bytes("GET / HTTP/1.1\r\nHost: node\r\n\r\n")));
    cases.push(case("Tentacle, where relay was agreed on", Ends, |misuser| {
        misuser.bytes("MV <web0.1700000000.data>\nMV OK\n")
    }));
    cases.push(case("a megabyte of noise", Ends, |misuser| {
        misuser.bytes(tidegate_tests::seed::Seed::of(5).bytes(1 << 20))
    }));
    cases.push(greeted("PONG that answers nothing", Ends, |misuser| misuser.say(&Frame::Pong(0xFFFF))));
    for (code, _, name) in CloseCode::ALL {
        cases.push(greeted(format!("CLOSE({name})"), Ends, move |misuser| {
            misuser.say(&Frame::Close(Farewell { code, number: u64::MAX, text: "evil\x1b[2J".into() }))
        }));
    }
    cases
}

fn pace() -> Vec<Case> {
    let drip = |misuser: &mut Misuser, bytes: &[u8]| {
        bytes.chunks(1).try_for_each(|byte| {
            until::pause(Duration::from_millis(100));
            misuser.bytes(byte)
        })
    };
    vec![
        case("silence instead of HELLO", Ends, |_| Ok(())),
        case("a HELLO that drips", Any, move |misuser| {
            let mut hello = Vec::new();
            Frame::Hello(Misuser::hello()).write(&mut hello);
            drip(misuser, &hello)
        }),
        greeted("silence after the welcome", Ends, |_| Ok(())),
        greeted("silence in a frame's header", Ends, |misuser| misuser.bytes([0x02, 0])),
        greeted("an optional frame that drips", Any, move |misuser| {
            misuser.bytes([0xFE, 1, 0, 0])?;
            drip(misuser, &[0; 30])
        }),
        greeted("a hundred thousand pings, and no pong is read", Any, |misuser| {
            (0..100_000).try_for_each(|n| misuser.say(&Frame::Ping(n)))
        }),
        greeted("fifty megabytes of pings in one go", Any, |misuser| {
            let mut ping = Vec::new();
            Frame::Ping(1).write(&mut ping);
            let many = ping.repeat(100_000);
            (0..42).try_for_each(|_| misuser.bytes(&many))
        }),
    ]
}

fn connections() -> Vec<Case> {
    let mut cases = vec![
        case("a hundred streams, each of which takes over from the last", Any, |misuser| {
            let mut others = Vec::new();
            for _ in 0..100 {
                let mut another = misuser.another()?;
                another.say(&Frame::Hello(Misuser::hello()))?;
                others.push(another);
            }
            misuser.greet()
        }),
        case("a hundred connections that say nothing", Any, |misuser| {
            let others: io::Result<Vec<Misuser>> = (0..100).map(|_| misuser.another()).collect();
            misuser.greet()?;
            drop(others);
            Ok(())
        }),
        case("fifty streams that take packages and hang up", Any, |misuser| {
            for _ in 0..50 {
                let mut another = misuser.another()?;
                another.greet()?;
                another.take(SOME, 2)?;
            }
            Ok(())
        }),
        greeted("a second stream while the first has packages", Any, |misuser| {
            let numbers = misuser.take(SOME, 3)?;
            let mut another = misuser.another()?;
            another.greet()?;
            another.take(SOME, 3)?;
            // Its stream is over: this must count for nothing.
            misuser.say(&Frame::Ack(numbers[2]))
        }),
        case("relay without TLS", Any, |misuser| {
            let mut plain = Sender::connect(misuser.address())?;
            let mut hello = Vec::new();
            Frame::Hello(Misuser::hello()).write(&mut hello);
            plain.say(hello)?;
            plain.rest().map(drop)
        }),
    ];
    let points = [0, 1, 3, 4, 20, 57, 58, 61, 66, 70, 74, 90];
    for (at, reset) in points.into_iter().flat_map(|at| [(at, false), (at, true)]) {
        let how = if reset { "reset" } else { "ended" };
        cases.push(case(format!("a good session that is {how} after byte {at}"), Ends, move |misuser| {
            let mut session = Vec::new();
            Frame::Hello(Misuser::hello()).write(&mut session);
            Frame::Credit(SOME).write(&mut session);
            Frame::Ping(1).write(&mut session);
            misuser.bytes(&session[..at.min(session.len())])?;
            if reset {
                let socket = misuser.end().socket();
                rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
                return socket.shutdown(Shutdown::Read);
            }
            misuser.hang_up()
        }));
    }
    cases
}
