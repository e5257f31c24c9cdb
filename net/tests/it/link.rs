//! The loop between a machine and a stream: Tentacle's two ends, and a toy machine for the corners.

use std::time::Duration;

use tidegate_net::tls::{self, ClientFiles, ServerFiles, Verify};
use tidegate_net::{Link, LinkError};
use tidegate_proto::{
    BodyRate, Close, Initiator, InitiatorEvent, InitiatorSettings, Machine, Name, Packing, Reason, Responder,
    ResponderEvent, ResponderSettings, Step, Time,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};

use crate::pki::Pki;

const PATIENCE: Duration = Duration::from_secs(20);

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), TcpStream::connect(address));
    (accepted.unwrap().0, connected.unwrap())
}

fn responder() -> Responder {
    let body_rate = BodyRate { bytes_per_second: 100, window: PATIENCE };
    let settings =
        ResponderSettings { max_size: 10_000_000, idle: PATIENCE, body_rate, ..ResponderSettings::default() };
    Responder::new(settings, Time::ZERO)
}

fn initiator() -> Initiator {
    Initiator::new(InitiatorSettings { password: None, patience: PATIENCE }, Time::ZERO)
}

/// Takes every file it is offered, refuses to give any, and tells what it got when the peer quits.
async fn listen<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> (Vec<Vec<u8>>, LinkError) {
    let mut link = Link::new(stream, responder(), PATIENCE);
    let mut files = Vec::new();
    let mut body = Vec::new();
    let over = loop {
        let event = match link.next().await {
            Ok(event) => event,
            Err(over) => break over,
        };
        let now = link.now();
        match event {
            ResponderEvent::Offer { .. } => link.machine().accept(now),
            ResponderEvent::Body => body.extend_from_slice(link.chunk()),
            ResponderEvent::BodyEnd => {
                files.push(std::mem::take(&mut body));
                link.machine().confirm(now);
            }
            ResponderEvent::Fetch { .. } => link.machine().refuse(Reason::NotFound, now),
            _ => {}
        }
    };
    link.shutdown().await;
    (files, over)
}

/// Sends the files and asks for one that is not there.
async fn dial<S: AsyncRead + AsyncWrite + Unpin>(stream: S, files: &[Vec<u8>]) {
    let mut link = Link::new(stream, initiator(), PATIENCE);
    assert_eq!(link.next().await.unwrap(), InitiatorEvent::Ready);
    for (number, file) in files.iter().enumerate() {
        let name = Name::parse(format!("host.{number}.data").as_bytes()).unwrap();
        let now = link.now();
        link.machine().send(&name, file.len() as u64, Packing::Plain, now);
        assert_eq!(link.next().await.unwrap(), InitiatorEvent::Accepted);
        for part in file.chunks(50_000) {
            let now = link.now();
            link.machine().write_body(part, now);
            link.flush().await.unwrap();
        }
        assert_eq!(link.next().await.unwrap(), InitiatorEvent::Stored);
    }
    let now = link.now();
    link.machine().receive(&Name::parse(b"absent.conf").unwrap(), Packing::Plain, now);
    assert!(matches!(link.next().await.unwrap(), InitiatorEvent::Refused(_)));
    let now = link.now();
    link.machine().quit(now);
    link.shutdown().await;
}

fn bodies() -> Vec<Vec<u8>> {
    [1, 1000, 16 * 1024, 1_000_000].map(|size| (0..size).map(|at: u32| (at % 251) as u8).collect()).to_vec()
}

#[tokio::test]
async fn files_travel_over_a_plain_link() {
    let (near, far) = sockets().await;
    let files = bodies();
    let ((got, over), ()) = tokio::join!(listen(near), dial(far, &files));
    assert!(got == files, "the bodies differ");
    assert!(matches!(&over, LinkError::Closed(close) if close.is_clean()), "{over}");
}

#[tokio::test]
async fn files_travel_over_a_tls_link() {
    let pki = Pki::new();
    let (node, server) = (pki.node(), pki.server());
    let listening = tls::server_config(&ServerFiles {
        cert: node.cert,
        key: node.key,
        ca: Some(pki.ca()),
        require_client_cert: true,
        pinned: Vec::new(),
    });
    let dialling = tls::client_config(&ClientFiles {
        ca: Some(pki.ca()),
        cert: Some(server.cert),
        key: Some(server.key),
        verify: Verify::NodeIdentity("plant-7".to_owned()),
        protocols: vec![tls::ALPN_TENTACLE],
    });
    let (listening, dialling) = (listening.unwrap(), dialling.unwrap());
    let (near, far) = sockets().await;
    let files = bodies();
    let ((got, over), ()) =
        tokio::join!(async { listen(tls::accept(&listening, near).await.unwrap()).await }, async {
            dial(tls::connect(&dialling, "127.0.0.1", far).await.unwrap(), &files).await
        });
    assert!(got == files, "the bodies differ");
    assert!(matches!(&over, LinkError::Closed(close) if close.is_clean()), "{over}");
}

/// Echoes lines; `hold` waits for the owner's `go`; `bang` ends the connection after a last word. A chatty one has
/// something to tell whenever there is no input.
#[derive(Default)]
struct Toy {
    chatty: bool,
    output: Vec<u8>,
    blocked: bool,
    deadline: Option<Time>,
    deadline_calls: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum ToyEvent {
    Line,
    Deadline,
    LastWord,
    Chat,
}

impl Machine for Toy {
    type Event = ToyEvent;

    fn step(&mut self, input: &[u8], now: Time) -> Result<Step<ToyEvent>, Close> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline_calls += 1;
            if self.deadline_calls == 2 {
                self.deadline = None;
                return Ok(Step { used: 0, event: Some(ToyEvent::Deadline) });
            }
        }
        if self.chatty && input.is_empty() {
            return Ok(Step { used: 0, event: Some(ToyEvent::Chat) });
        }
        let Some(end) = input.iter().position(|byte| *byte == b'\n').filter(|_| !self.blocked) else {
            return Ok(Step { used: if self.blocked { 0 } else { input.len() }, event: None });
        };
        self.output.extend_from_slice(&input[..=end]);
        self.blocked = input.starts_with(b"hold");
        if input.starts_with(b"bang") {
            return Err(Close::LineTooLong);
        }
        Ok(Step { used: end + 1, event: Some(ToyEvent::Line) })
    }

    fn end_of_input(&mut self, _now: Time) -> Result<Step<ToyEvent>, Close> {
        match self.output.is_empty() {
            true => Err(Close::PeerLeft),
            false => Ok(Step { used: 0, event: Some(ToyEvent::LastWord) }),
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    fn blocked(&self) -> bool {
        self.blocked
    }
}

#[tokio::test]
async fn events_of_one_read_come_one_by_one() {
    let (near, mut far) = duplex(1024);
    let mut link = Link::new(near, Toy::default(), PATIENCE);
    far.write_all(b"one\ntwo\n").await.unwrap();
    for line in [b"one\n", b"two\n"] {
        assert_eq!(link.next().await.unwrap(), ToyEvent::Line);
        assert_eq!(link.chunk(), line);
    }
}

#[tokio::test]
async fn a_machine_that_always_has_something_to_tell_hears_its_peer() {
    let (near, mut far) = duplex(1024);
    let mut link = Link::new(near, Toy { chatty: true, ..Toy::default() }, PATIENCE);
    assert_eq!(link.next().await.unwrap(), ToyEvent::Chat);
    far.write_all(b"one\n").await.unwrap();
    assert_eq!(link.next().await.unwrap(), ToyEvent::Line);
    assert_eq!(link.chunk(), b"one\n");
    // A machine that waits is not fed by that either.
    far.write_all(b"hold\nafter\n").await.unwrap();
    assert_eq!(link.next().await.unwrap(), ToyEvent::Line);
    far.write_all(b"more\n").await.unwrap();
    link.machine().blocked = false;
    for line in [&b"after\n"[..], b"more\n"] {
        assert_eq!(link.next().await.unwrap(), ToyEvent::Line);
        assert_eq!(link.chunk(), line);
    }
}

/// Making a body durable may take longer than the 4 s that a stock client waits for a reply.
#[tokio::test(start_paused = true)]
async fn a_reply_does_not_wait_for_what_its_owner_does_next() {
    let (near, mut far) = duplex(1024);
    let mut link = Link::new(near, responder(), PATIENCE);
    far.write_all(b"SEND <a.1.data> SIZE 4\nbodyQUIT\n").await.unwrap();
    assert!(matches!(link.next().await.unwrap(), ResponderEvent::Offer { .. }));
    let now = link.now();
    link.machine().accept(now);
    assert_eq!(link.next().await.unwrap(), ResponderEvent::Body);
    assert_eq!(link.next().await.unwrap(), ResponderEvent::BodyEnd);
    // The final reply is still due.
    let mut reply = [0; 64];
    let read = tokio::time::timeout(PATIENCE, far.read(&mut reply)).await.expect("it has left").unwrap();
    assert_eq!(&reply[..read], b"SEND OK\n");
}

#[tokio::test(start_paused = true)]
async fn a_blocked_machine_is_not_fed_and_the_peer_feels_it() {
    let (near, mut far) = duplex(8);
    let mut link = Link::new(near, Toy::default(), PATIENCE);
    far.write_all(b"hold\n").await.unwrap();
    assert_eq!(link.next().await.unwrap(), ToyEvent::Line);
    // Eight bytes fit into the pipe, the ninth waits for a reader.
    let waiting = tokio::spawn(async move {
        far.write_all(b"123456789\n").await.unwrap();
        far
    });
    let wait = tokio::time::timeout(Duration::from_secs(5), link.next()).await;
    assert!(wait.is_err() && !waiting.is_finished());
    link.machine().blocked = false;
    assert_eq!(link.next().await.unwrap(), ToyEvent::Line);
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_calls_the_machine_and_one_that_stays_does_not_spin() {
    let (near, _far) = duplex(8);
    let deadline = Some(Duration::from_secs(60));
    let mut link = Link::new(near, Toy { deadline, ..Toy::default() }, PATIENCE);
    assert_eq!(link.next().await.unwrap(), ToyEvent::Deadline);
    assert_eq!(link.machine().deadline_calls, 2);
    assert!(link.now() > Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_output_is_given_up() {
    let (near, mut far) = duplex(4);
    let mut link = Link::new(near, Toy::default(), PATIENCE);
    let flood = tokio::spawn(async move {
        // Never reads, so the echoes soon have nowhere to go.
        let _ = far.write_all(&[b'\n'; 100]).await;
        std::future::pending::<()>().await;
    });
    let stalled = loop {
        if let Err(stalled) = link.next().await {
            break stalled;
        }
    };
    assert!(matches!(stalled, LinkError::Stalled), "{stalled}");
    assert!(link.now() >= PATIENCE);
    flood.abort();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_output_is_given_up_also_by_an_owner_with_other_things_to_do() {
    let (near, _far) = duplex(4);
    let mut link = Link::new(near, Toy::default(), PATIENCE);
    link.machine().output.extend_from_slice(&[b'x'; 100]);
    let stalled = loop {
        // Shorter than the patience, so the wait is always given up.
        if let Ok(event) = tokio::time::timeout(PATIENCE / 10, link.next()).await {
            break event.unwrap_err();
        }
        assert!(link.now() < PATIENCE * 2, "it is never given up");
    };
    assert!(matches!(stalled, LinkError::Stalled), "{stalled}");
    assert!(link.now() >= PATIENCE);
}

/// A link with 10,000 bytes to write, to a peer that takes so many at once and then waits.
async fn written_to_a_reader(at_once: usize, pause: Duration) -> Result<(), LinkError> {
    let (near, mut far) = duplex(at_once);
    let mut link = Link::new(near, Toy::default(), PATIENCE);
    let reader = tokio::spawn(async move {
        let mut taken = vec![0; at_once];
        loop {
            tokio::time::sleep(pause).await;
            far.read_exact(&mut taken).await.unwrap();
        }
    });
    link.machine().output.extend_from_slice(&[b'x'; 10_000]);
    let written = link.flush().await;
    reader.abort();
    written
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_too_slowly_is_given_up_and_one_that_reads_slowly_is_not() {
    let trickle = written_to_a_reader(1, Duration::from_secs(1)).await;
    assert!(matches!(trickle, Err(LinkError::Stalled)), "{trickle:?}");
    written_to_a_reader(1_200, Duration::from_secs(8)).await.unwrap();
}

#[tokio::test]
async fn the_last_word_of_a_machine_reaches_the_peer() {
    let (near, mut far) = sockets().await;
    let mut link = Link::new(near, Toy::default(), PATIENCE);
    // Behind the fatal line is more than the link reads: closing at once would reset the connection.
    far.write_all(b"bang\n").await.unwrap();
    far.write_all(&[b'x'; 100_000]).await.unwrap();
    assert!(matches!(link.next().await, Err(LinkError::Closed(Close::LineTooLong))));
    let reader = tokio::spawn(async move {
        let mut words = Vec::new();
        far.read_to_end(&mut words).await.map(|_| words)
    });
    link.shutdown().await;
    assert_eq!(reader.await.unwrap().unwrap(), b"bang\n");
}

#[tokio::test]
async fn the_end_of_input_is_handed_on_after_the_last_line() {
    let (near, mut far) = sockets().await;
    let mut link = Link::new(near, Toy::default(), PATIENCE);
    far.write_all(b"one\nrest").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(link.next().await.unwrap(), ToyEvent::Line);
    assert!(matches!(link.next().await, Err(LinkError::Closed(Close::PeerLeft))));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_loses_nothing() {
    let (near, mut far) = duplex(1024);
    let mut link = Link::new(near, Toy::default(), PATIENCE);
    let mut echo = Vec::new();
    let mut lines = 0;
    for byte in b"one\ntwo\nthree\n".chunks(1) {
        far.write_all(byte).await.unwrap();
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(1), link.next()).await {
            assert_eq!(event.unwrap(), ToyEvent::Line);
            echo.extend_from_slice(link.chunk());
            lines += 1;
        }
    }
    assert_eq!((lines, &echo[..]), (3, &b"\n\n\n"[..]));
}
