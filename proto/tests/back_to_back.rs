//! The two ends against each other, over a wire that cuts as it likes, and beside a model that needs no wire.

use std::collections::BTreeMap;
use std::iter;

use proptest::prelude::*;
use tidegate_proto::{
    Close, Initiator, InitiatorEvent, InitiatorSettings, Machine, Name, Packing, PassDigest, Reason,
    Responder, ResponderEvent, ResponderSettings, Step, Time,
};

type Files = BTreeMap<Vec<u8>, Vec<u8>>;

const MAX_SIZE: usize = 200;
const QUIET: Time = Time::from_millis(5);

#[derive(Clone, Debug)]
enum Request {
    Send(Name, Vec<u8>, Packing),
    Receive(Name, Packing),
    List,
    Take(Name),
    /// Asks, but does not want the answer.
    Decline(Name),
}

/// What a request came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Stored,
    Got(Vec<u8>),
    Declined,
    Refused(String),
}

/// What the requests should come to, and leave behind.
fn model(requests: &[Request]) -> (Vec<Outcome>, Files) {
    let mut files = Files::new();
    let outcomes = requests.iter().map(|request| expected(request, &mut files)).collect();
    (outcomes, files)
}

fn expected(request: &Request, files: &mut Files) -> Outcome {
    let refused = |text: &str| Outcome::Refused(text.into());
    match request {
        Request::Send(_, body, packing) if body.is_empty() || body.len() > MAX_SIZE => match packing {
            Packing::Plain => refused("SEND ERR (file is too big)"),
            Packing::Zip => refused("ZSEND ERR (file is too big)"),
        },
        Request::Send(name, _, packing) if files.contains_key(name.as_bytes()) => match packing {
            Packing::Plain => refused("SEND ERR (file already exists)"),
            Packing::Zip => refused("ZSEND ERR (file already exists)"),
        },
        Request::Send(name, body, _) => {
            files.insert(name.as_bytes().into(), body.clone());
            Outcome::Stored
        }
        Request::Receive(name, packing) => match (files.get(name.as_bytes()), packing) {
            (Some(body), _) => Outcome::Got(body.clone()),
            (None, Packing::Plain) => refused("RECV ERR (file does not exist)"),
            (None, Packing::Zip) => refused("ZRECV ERR (file does not exist)"),
        },
        Request::List => Outcome::Got(listing(files)),
        Request::Take(name) => match files.remove(name.as_bytes()) {
            Some(body) => Outcome::Got(body),
            None => refused("MV ERR"),
        },
        Request::Decline(name) if files.contains_key(name.as_bytes()) => Outcome::Declined,
        Request::Decline(_) => refused("MV ERR"),
    }
}

fn listing(files: &Files) -> Vec<u8> {
    files.keys().cloned().collect::<Vec<_>>().join(&b'\n')
}

/// A store in memory behind a listening machine.
struct Server {
    machine: Responder,
    files: Files,
    /// The file that comes, or that goes.
    name: Vec<u8>,
    body: Vec<u8>,
}

impl Server {
    fn step(&mut self, input: &[u8], now: Time) -> Result<usize, Close> {
        let Step { used, event } = self.machine.step(input, now)?;
        match event {
            Some(event) => self.answer(event, &input[..used], now),
            None => assert!(used == input.len() || self.machine.blocked()),
        }
        Ok(used)
    }

    fn answer(&mut self, event: ResponderEvent, chunk: &[u8], now: Time) {
        match event {
            ResponderEvent::Offer { name, .. } if self.files.contains_key(name.as_bytes()) => {
                self.machine.refuse(Reason::Exists, now);
            }
            ResponderEvent::Offer { name, .. } => {
                (self.name, self.body) = (name.as_bytes().into(), Vec::new());
                self.machine.accept(now);
            }
            ResponderEvent::Body => self.body.extend_from_slice(chunk),
            ResponderEvent::BodyEnd => {
                self.files.insert(self.name.clone(), self.body.clone());
                self.machine.confirm(now);
            }
            ResponderEvent::Fetch { name, .. } | ResponderEvent::Move { name } => {
                self.name = name.as_bytes().into();
                let body = self.files.get(&self.name).cloned();
                self.announce(body, now);
            }
            ResponderEvent::List { .. } => self.announce(Some(listing(&self.files)), now),
            ResponderEvent::Proceed => {
                for part in self.body.chunks(7) {
                    self.machine.write_body(part, now);
                }
                assert_eq!(self.machine.remaining(), 0);
            }
            ResponderEvent::Released => {
                assert!(self.files.remove(&self.name).is_some());
                self.machine.released(now);
            }
            ResponderEvent::Refused { .. } | ResponderEvent::Declined | ResponderEvent::Quit => {}
        }
    }

    fn announce(&mut self, body: Option<Vec<u8>>, now: Time) {
        match body {
            Some(body) => {
                self.machine.announce(body.len() as u64, now);
                self.body = body;
            }
            None => self.machine.refuse(Reason::NotFound, now),
        }
    }
}

/// Requests, one after the other, before a dialling machine.
struct Client {
    machine: Initiator,
    requests: std::vec::IntoIter<Request>,
    current: Option<Request>,
    body: Vec<u8>,
    outcomes: Vec<Outcome>,
}

impl Client {
    fn step(&mut self, input: &[u8], now: Time) -> Result<usize, Close> {
        let Step { used, event } = self.machine.step(input, now)?;
        match event {
            None => assert!(used == input.len() || self.machine.blocked()),
            Some(InitiatorEvent::Ready) => self.ask(now),
            Some(InitiatorEvent::Accepted) => {
                let Some(Request::Send(_, body, _)) = &self.current else { panic!("{:?}", self.current) };
                for part in body.chunks(11) {
                    self.machine.write_body(part, now);
                }
            }
            Some(InitiatorEvent::Size(_)) if matches!(self.current, Some(Request::Decline(_))) => {
                self.machine.decline(now);
                self.note(Outcome::Declined, now);
            }
            Some(InitiatorEvent::Size(size)) => {
                self.body.clear();
                self.machine.proceed(now);
                assert_eq!(self.machine.remaining(), if size == 0 { 0 } else { size });
            }
            Some(InitiatorEvent::Body) => self.body.extend_from_slice(&input[..used]),
            Some(InitiatorEvent::BodyEnd { missing, surplus }) => {
                assert_eq!((missing, surplus), (0, 0));
                self.note(Outcome::Got(self.body.clone()), now);
            }
            Some(InitiatorEvent::Stored) => self.note(Outcome::Stored, now),
            Some(InitiatorEvent::Refused(refusal)) => self.note(Outcome::Refused(refusal.to_string()), now),
        }
        Ok(used)
    }

    fn note(&mut self, outcome: Outcome, now: Time) {
        self.outcomes.push(outcome);
        self.ask(now);
    }

    fn ask(&mut self, now: Time) {
        self.current = self.requests.next();
        match &self.current {
            Some(Request::Send(name, body, packing)) => {
                self.machine.send(name, body.len() as u64, *packing, now)
            }
            Some(Request::Receive(name, packing)) => self.machine.receive(name, *packing, now),
            Some(Request::List) => self.machine.list(b".", now),
            Some(Request::Take(name) | Request::Decline(name)) => self.machine.take(name, QUIET, now),
            None => self.machine.quit(now),
        }
    }
}

/// Runs the requests over a wire that carries so many bytes at a time, a millisecond each.
fn converse(requests: Vec<Request>, password: Option<PassDigest>, cuts: &[usize]) -> (Vec<Outcome>, Files) {
    let settings = ResponderSettings {
        password: password.clone(),
        max_size: MAX_SIZE as u64,
        ..ResponderSettings::default()
    };
    let (files, name, body) = (Files::new(), Vec::new(), Vec::new());
    let mut server = Server { machine: Responder::new(settings, Time::ZERO), files, name, body };
    let mut client = Client {
        machine: Initiator::new(InitiatorSettings { password, patience: Time::from_secs(4) }, Time::ZERO),
        requests: requests.into_iter(),
        current: None,
        body: Vec::new(),
        outcomes: Vec::new(),
    };

    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let clock = iter::successors(Some(Time::ZERO), |now| Some(*now + Time::from_millis(1)));
    for (now, cut) in clock.zip(cuts.iter().cycle()) {
        assert!(now < Time::from_secs(600), "the conversation does not end");
        match server.step(&to_server[..to_server.len().min(*cut)], now) {
            Ok(used) => drop(to_server.drain(..used)),
            Err(close) => {
                assert_eq!(close, Close::Quit);
                assert!(to_server.is_empty(), "the client wrote ahead");
                assert_eq!(client.machine.end_of_input(now), Err(Close::Quit));
                return (client.outcomes, server.files);
            }
        }
        to_client.append(server.machine.output());
        let used = client
            .step(&to_client[..to_client.len().min(*cut)], now)
            .expect("the server keeps to the protocol");
        to_client.drain(..used);
        to_server.append(client.machine.output());
    }
    unreachable!("time goes on")
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let name = || prop::sample::select(vec!["a.1.data", "b 2.2.data", "c.conf"]);
    let name = move || name().prop_map(|name| Name::parse(name.as_bytes()).expect("a valid name"));
    let packing = || prop::sample::select(vec![Packing::Plain, Packing::Zip]);
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..250),
        Just(b"QUIT\nSEND OK\n".to_vec()),
        Just(vec![b'\n'; MAX_SIZE]),
    ];
    let request = prop_oneof![
        4 => (name(), body, packing()).prop_map(|(name, body, packing)| Request::Send(name, body, packing)),
        2 => (name(), packing()).prop_map(|(name, packing)| Request::Receive(name, packing)),
        1 => Just(Request::List),
        2 => name().prop_map(Request::Take),
        1 => name().prop_map(Request::Decline),
    ];
    prop::collection::vec(request, 0..12)
}

proptest! {
    #[test]
    fn both_ends_agree_with_the_model(
        requests in requests(),
        password in prop::option::of(Just("secret")),
        cuts in prop::collection::vec(1..300_usize, 1..20),
    ) {
        let password = password.map(|password| PassDigest::of(password.as_bytes()));
        let expected = model(&requests);
        prop_assert_eq!(converse(requests, password, &cuts), expected);
    }
}
