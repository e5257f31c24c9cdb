//! A node that lies about shared files, in ways told by name, beside a good one: the server lives, the good site's next
//! edit arrives after each, nothing that was not the liar's to give is asked for, and nothing wrong is placed at the
//! centre.

mod cases;

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use tidegate_proto::relay::frame::Frame;
use tidegate_proto::relay::{
    ContentState, Hello, Purpose, SharedAnswer, SharedOutcome, SharedRequest, Status, Welcome,
};
use tidegate_tests::central::{Mode, Site};
use tidegate_tests::certificates::Authority;
use tidegate_tests::exchange::{Centre, Plant, QUICKLY, SETTINGS};
use tidegate_tests::relay::{End, node_config};
use tidegate_tests::shelf::conf;
use tidegate_tests::{address, sender, until};

use cases::{Case, SECRET, Said, item, offer};

/// The most memory that the server may ever have.
const MEMORY_KIB: u64 = 256 * 1024;

/// One case, as it is being played.
struct Played {
    case: Case,
    own: String,
    over: AtomicBool,
    /// How often it said what it had to say.
    told: AtomicUsize,
    fetched: Mutex<Vec<String>>,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Played {
    fn serve(self: &Arc<Self>, listener: &TcpListener, config: &Arc<ServerConfig>) {
        while !self.over.load(Ordering::SeqCst) {
            let Ok((socket, _)) = listener.accept() else { continue };
            let (played, config) = (Arc::clone(self), Arc::clone(config));
            std::thread::spawn(move || {
                played.sockets.lock().unwrap_or_else(PoisonError::into_inner).extend(socket.try_clone());
                // The server ends the connection, or the case does.
                let _ = End::answer(socket, &config).and_then(|mut end| played.connection(&mut end));
            });
        }
    }

    fn connection(&self, end: &mut End) -> io::Result<()> {
        let hello =
            end.hear_until(|frame| if let Frame::Hello(hello) = frame { Some(hello) } else { None })?;
        end.say(&Frame::Welcome(welcome(&hello)))?;
        if hello.purpose == Purpose::Stream {
            let sign = Some(self.told.load(Ordering::SeqCst) as u64 + 77);
            end.say(&Frame::Status(Box::new(Status { shared_sign: sign, ..Status::default() })))?;
        }
        while let Some(frame) = end.hear()? {
            if let Frame::Ask(request) = frame {
                self.answer(end, &request)?;
            }
        }
        Ok(())
    }

    fn answer(&self, end: &mut End, request: &SharedRequest) -> io::Result<()> {
        if let SharedRequest::Fetch { name, .. } = request {
            self.fetched.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_string());
        }
        let said = (self.case.lie)(request, &self.own);
        // Who lies about nothing has told what it has when it is asked for that.
        let is_told = !matches!(said, Said::Truth) || matches!(request, SharedRequest::LookInto(_));
        match said {
            Said::Truth => end.say(&Frame::Answer(self.truth(request)))?,
            Said::Answer(answer) => end.say(&Frame::Answer(answer))?,
            Said::Twice(answer) => {
                end.say(&Frame::Answer(answer.clone()))?;
                end.say(&Frame::Answer(answer))?;
            }
            Said::Raw(kind, payload) => end.raw(kind, &payload)?,
            Said::Nothing => {}
        }
        self.told.fetch_add(usize::from(is_told), Ordering::SeqCst);
        Ok(())
    }

    fn truth(&self, request: &SharedRequest) -> SharedAnswer {
        match request {
            SharedRequest::Summary => SharedAnswer::Buckets(Box::new([7; 1024])),
            SharedRequest::LookInto(buckets) => {
                let offered = self.case.foreign.iter().chain([&self.own]);
                let bytes = offer(&self.own);
                let mut items: Vec<_> =
                    offered.flat_map(|name| item(name, &bytes, bytes.len() as u64, buckets)).collect();
                items.sort_by(|one, other| one.name.cmp(&other.name));
                SharedAnswer::Items { items, last: true }
            }
            SharedRequest::Fetch { .. } => {
                SharedAnswer::Content { state: ContentState::End, bytes: offer(&self.own) }
            }
            SharedRequest::Place { .. } | SharedRequest::Part(_) | SharedRequest::Remove { .. } => {
                SharedAnswer::Outcome(SharedOutcome::refused("not here"))
            }
        }
    }
}

fn welcome(hello: &Hello) -> Welcome {
    Welcome { epoch: hello.epoch, oldest: None, clock: 0, name: "liar".into(), software: "liar 1".into() }
}

/// A site of a liar's, and the case's end for whatever it placed.
struct Lane {
    name: String,
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

impl Lane {
    /// The good site's next edit arrives while the case is played.
    fn play(self, bench: &Bench, case: Case) {
        let what = case.what;
        let played = Arc::new(Played {
            case,
            own: conf(&self.name),
            over: AtomicBool::default(),
            told: AtomicUsize::default(),
            fetched: Mutex::default(),
            sockets: Mutex::default(),
        });
        let address = self.listener.local_addr().expect("it listens");
        std::thread::scope(|scope| {
            scope.spawn(|| played.serve(&self.listener, &self.config));
            until::holds(&format!("{what}: it is asked"), || played.told.load(Ordering::SeqCst) > 0);
            bench.good_site_goes_on(what);
            played.over.store(true, Ordering::SeqCst);
            // Whoever accepts is woken.
            drop(TcpStream::connect(address));
        });
        for socket in played.sockets.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        let fetched = std::mem::take(&mut *played.fetched.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(fetched.iter().all(|name| *name == played.own), "{what}: it was asked for {fetched:?}");
    }
}

/// The server and its good site.
struct Bench {
    centre: Mutex<Centre>,
    good: Plant,
    edits: AtomicUsize,
}

impl Bench {
    fn good_site_goes_on(&self, what: &str) {
        let mut centre = self.centre.lock().unwrap_or_else(PoisonError::into_inner);
        let edit = format!("edit {}", self.edits.fetch_add(1, Ordering::SeqCst));
        centre.shelf.write(&conf("good"), &edit);
        until::holds(&format!("{what}: the good site has the edit"), || {
            assert!(!centre.central.process().has_ended(), "{what}: {}", centre.central.process().log());
            self.good.shelf.holds(&conf("good"), &edit)
        });
    }
}

#[test]
fn whatever_a_node_says_of_shared_files_nothing_wrong_is_placed_and_the_others_go_on() {
    let authority = Authority::new();
    let good = Plant::start(&authority, "good", "");
    let mut sites = vec![good.site(Mode::Standing, "agents = [\"good\"]")];
    let (mut lanes, mut expected) = (Vec::new(), BTreeMap::new());
    let all = cases::all();
    for number in 0..all.len() {
        let (name, address) = (format!("liar-{number}"), address::unused_socket());
        let pair = authority.node(&name, &[sender::ipv4(address)]);
        let mut site = Site::node(&name, address).over(Mode::Standing);
        site.settings = format!("agents = [\"{name}\"]\nsync_timeout = \"1s\"\n");
        sites.push(site);
        let listener = TcpListener::bind(address).expect("the address is ours");
        lanes.push(Lane { name, listener, config: node_config(&pair) });
    }
    let mut centre = Centre::new(&authority, &sites, &format!("{SETTINGS}{QUICKLY}"));
    for (lane, case) in lanes.iter().zip(&all).filter(|(_, case)| case.places) {
        centre.shelf.write(&conf(&lane.name), case.what);
        expected.insert(conf(&lane.name), case.what.as_bytes().to_vec());
    }
    centre.shelf.write(&conf("good"), SECRET);
    centre.central.run();
    until::holds("the good site has the first", || good.shelf.holds(&conf("good"), SECRET));
    let bench = Bench { centre: Mutex::new(centre), good, edits: AtomicUsize::default() };
    std::thread::scope(|scope| {
        for (lane, case) in lanes.into_iter().zip(all) {
            let bench = &bench;
            scope.spawn(move || lane.play(bench, case));
        }
    });
    let mut centre = bench.centre.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut placed = centre.shelf.all();
    placed.remove(&conf("good"));
    assert_eq!(placed, expected, "nothing that came is at the centre");
    let peak = centre.central.process().peak_memory_kib();
    assert!(peak < MEMORY_KIB, "the server had {peak} KiB of memory");
}
