//! Sites in memory, stock and Tidegate, that can be cut at any command; and a server around them that can be
//! crashed at any step and started again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tidegate_net::shutdown::Shutdown;
use tidegate_proto::Name;
use tokio::time::Instant;

use crate::body::Arriving;
use crate::config::{Incoming, Ownership, PullMode, Site};
use crate::crash::Crash;
use crate::desk::Desk;
use crate::pipeline::Pipeline;
use crate::pull::listing::Listing;
use crate::pull::remote::{Fault, Fetched, Remote, Taken, Way};
use crate::pull::visit::{Ended, Memory, Visit};
use crate::pull::{Kind, Tally};

/// What happens to one `MV`.
#[derive(Debug, Clone, Default)]
pub(super) struct Mishap {
    /// The file is rewritten just before.
    pub(super) rewritten: Option<&'static [u8]>,
    /// The connection breaks after this many bytes.
    pub(super) cut_after: Option<usize>,
    /// A stock site has deleted the file nevertheless.
    pub(super) deleted: bool,
}

/// A site's disk, and what it will do.
#[derive(Debug, Default)]
pub(super) struct Disk {
    files: RefCell<BTreeMap<Name, Vec<u8>>>,
    mishaps: RefCell<BTreeMap<Name, Mishap>>,
    /// The site hangs up instead of answering this command, counted over all connections.
    cut_at: Cell<Option<u32>>,
    commands: Cell<u32>,
    /// The cut ends all connections, not the one that asked alone.
    cuts_all: Cell<bool>,
    /// Counts such cuts: what was open before the last one is over.
    cuts: Cell<u32>,
    /// How many connections it serves at once.
    slots: Cell<Option<u32>>,
    open: Cell<u32>,
    most_open: Cell<u32>,
    never_deletes: Cell<bool>,
    /// Every listing shows one more package.
    refills: Cell<bool>,
    /// A directory of the server that goes away during the next `MV`.
    loses: RefCell<Option<PathBuf>>,
}

impl Disk {
    pub(super) fn put(&self, text: &str, bytes: &[u8]) {
        self.files.borrow_mut().insert(name(text), bytes.to_vec());
    }

    pub(super) fn mishap(&self, text: &str, mishap: Mishap) {
        self.mishaps.borrow_mut().insert(name(text), mishap);
    }

    pub(super) fn cut_at(&self, command: u32) {
        self.cut_at.set(Some(command));
    }

    /// A cut is one of the way, not of one connection.
    pub(super) fn cuts_all(&self) {
        self.cuts_all.set(true);
    }

    /// It serves so many connections at once.
    pub(super) fn has_slots(&self, slots: u32) {
        self.slots.set(Some(slots));
    }

    /// The most connections that were open at once.
    pub(super) fn most_open(&self) -> u32 {
        self.most_open.get()
    }

    pub(super) fn commands(&self) -> u32 {
        self.commands.get()
    }

    /// Its directory became read-only.
    pub(super) fn never_deletes(&self) {
        self.never_deletes.set(true);
    }

    /// Its agents never rest.
    pub(super) fn refills(&self) {
        self.refills.set(true);
    }

    /// A directory goes away during the next `MV`.
    pub(super) fn loses(&self, directory: PathBuf) {
        *self.loses.borrow_mut() = Some(directory);
    }

    fn delete(&self, name: &Name) {
        if !self.never_deletes.get() {
            self.files.borrow_mut().remove(name);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.borrow().is_empty()
    }
}

/// A connection to it.
struct Connection {
    disk: Rc<Disk>,
    kind: Kind,
    /// A node deletes this one at the next command.
    unproven: Option<Name>,
    /// How many cuts there had been when it was made.
    cuts: u32,
    over: bool,
}

impl Connection {
    fn new(disk: &Rc<Disk>, kind: Kind) -> Result<Self, Fault> {
        if disk.slots.get().is_some_and(|slots| disk.open.get() >= slots) {
            return Err(Fault::Site("no slot is free".into()));
        }
        disk.open.set(disk.open.get() + 1);
        disk.most_open.set(disk.most_open.get().max(disk.open.get()));
        Ok(Self { disk: Rc::clone(disk), kind, unproven: None, cuts: disk.cuts.get(), over: false })
    }

    /// A request reaches the site, while the other connections go on.
    async fn command(&mut self) -> Result<(), Fault> {
        assert!(!self.over, "no request on a connection that is over");
        tokio::task::yield_now().await;
        if self.cuts < self.disk.cuts.get() {
            self.over = true;
            return Err(Fault::Site("the way is cut".into()));
        }
        if let Some(name) = self.unproven.take() {
            if self.disk.never_deletes.get() {
                // Its answer would say that the package is gone.
                self.over = true;
                return Err(Fault::Site("the node could not delete".into()));
            }
            self.disk.delete(&name);
        }
        self.disk.commands.set(self.disk.commands.get() + 1);
        if self.disk.cut_at.get() == Some(self.disk.commands.get()) {
            self.over = true;
            if self.disk.cuts_all.get() {
                self.disk.cuts.set(self.disk.cuts.get() + 1);
            }
            return Err(Fault::Site("cut".into()));
        }
        Ok(())
    }

    fn content(&self, name: &Name) -> Option<Vec<u8>> {
        self.disk.files.borrow().get(name).cloned()
    }
}

impl Remote for Connection {
    async fn list(&mut self, listing: &mut Listing) -> Result<(), Fault> {
        self.command().await?;
        if self.disk.refills.get() {
            self.disk.put(&format!("more.{}.data", self.disk.commands()), b"more");
        }
        for name in self.disk.files.borrow().keys() {
            listing.push(&[name.as_bytes(), b"\n"].concat());
        }
        Ok(())
    }

    async fn fetch(&mut self, name: &Name, body: &mut Arriving) -> Result<Fetched, Fault> {
        self.command().await?;
        let Some(content) = self.content(name) else { return Ok(Fetched::Refused) };
        if content.is_empty() {
            self.over = self.kind == Kind::Stock;
            return Ok(Fetched::Empty);
        }
        body.write(&content).await.unwrap();
        Ok(Fetched::Whole)
    }

    async fn take(&mut self, name: &Name, _quiet: Duration, body: &mut Arriving) -> Result<Taken, Fault> {
        self.command().await?;
        let Some(announced) = self.content(name).map(|content| content.len()) else {
            return Ok(Taken::Refused);
        };
        if let Some(directory) = self.disk.loses.take() {
            fs::remove_dir_all(directory).unwrap();
        }
        let mishap = self.disk.mishaps.borrow_mut().remove(name).unwrap_or_default();
        if let Some(bytes) = mishap.rewritten {
            self.disk.files.borrow_mut().insert(name.clone(), bytes.to_vec());
        }
        let content = self.content(name).unwrap();
        body.reserve(announced as u64).await.unwrap();
        if let Some(at) = mishap.cut_after {
            body.write(&content[..at.min(content.len())]).await.unwrap();
            if mishap.deleted {
                self.disk.delete(name);
            }
            self.over = true;
            return Err(Fault::Site("cut in a body".into()));
        }
        body.write(&content).await.unwrap();
        match self.kind {
            Kind::Tidegate => self.unproven = Some(name.clone()),
            Kind::Stock => self.disk.delete(name),
        }
        if content.len() > announced {
            self.over = true;
            return Ok(Taken::Surplus);
        }
        Ok(Taken::Whole)
    }

    async fn quit(&mut self) {
        if let Some(name) = self.unproven.take() {
            self.disk.delete(&name);
        }
        self.over = true;
    }

    fn hang_up(&mut self) {
        self.unproven = None;
        self.over = true;
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn silent_since(&self) -> Instant {
        Instant::now()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.disk.open.set(self.disk.open.get() - 1);
    }
}

/// The way to it.
struct Road {
    disk: Rc<Disk>,
    kind: Kind,
}

impl Way for Road {
    type Remote = Connection;

    async fn open(&self) -> Result<Connection, Fault> {
        Connection::new(&self.disk, self.kind)
    }
}

/// A server's directories, one site, and a pipeline that eats what it finds.
pub(super) struct World {
    root: TempDir,
    pub(super) disk: Rc<Disk>,
    kind: Kind,
    site: Site,
    eaten: RefCell<Vec<(String, Vec<u8>)>>,
}

impl World {
    pub(super) fn new(kind: Kind, mode: PullMode) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("incoming")).unwrap();
        Self { root, disk: Rc::default(), kind, site: site(mode), eaten: RefCell::default() }
    }

    /// Sets `sync_connections`.
    pub(super) fn connections(&mut self, most: usize) {
        self.site.sync.connections = most;
    }

    pub(super) fn incoming(&self) -> Incoming {
        let directory = self.root.path().join("incoming");
        Incoming {
            staging: directory.join(".tidegate"),
            directory,
            state: self.root.path().join("state"),
            ownership: Ownership { user: None, group: None, mode: 0o640 },
            max_files: None,
            after_power_loss: crate::config::AfterPowerLoss::Deliver,
            history: crate::ledger::Retention::default(),
        }
    }

    /// A life of the server: it connects up to `connections` times, and crashes where `crash` says. Returns whether
    /// it lived to pull everything.
    pub(super) fn live(&self, crash: Crash, connections: u32) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let life = || {
            let desk = Desk::new(Pipeline::open(&self.incoming(), crash).unwrap(), 2);
            let mut memory = Memory::default();
            (0..connections)
                .any(|_| runtime.block_on(self.visit(&desk, &mut memory)).is_ok_and(|end| end == Ended::Done))
        };
        catch_unwind(AssertUnwindSafe(life)).unwrap_or(false)
    }

    async fn visit(&self, desk: &Desk, memory: &mut Memory) -> Result<Ended, Fault> {
        let mut visit = Visit {
            remote: Connection::new(&self.disk, self.kind)?,
            helpers: Vec::new(),
            way: Road { disk: Rc::clone(&self.disk), kind: self.kind },
            alone: false,
            site: &self.site,
            desk,
            memory,
            tally: &Tally::default(),
            stop: &Shutdown::new(),
            settling: Duration::ZERO,
            skipped: HashSet::new(),
            kind: self.kind,
            listings: 0,
            refusals: 0,
            listing_is_old: false,
            fault: None,
        };
        visit.pull(self.kind).await
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    /// The delivered files by their modification times.
    pub(super) fn modified(&self) -> Vec<(SystemTime, String)> {
        let entries = fs::read_dir(self.incoming().directory).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        let mut found: Vec<_> = files
            .map(|entry| {
                (entry.metadata().unwrap().modified().unwrap(), entry.file_name().into_string().unwrap())
            })
            .collect();
        found.sort();
        found
    }

    /// The pipeline eats everything that is there, in the order it reads.
    pub(super) fn eat(&self) {
        let directory = self.incoming().directory;
        let mut found: Vec<(SystemTime, String, Vec<u8>)> = Vec::new();
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let name = String::from_utf8_lossy(&entry.file_name().into_vec()).into_owned();
            if name.ends_with(".data") {
                let bytes = fs::read(entry.path()).unwrap();
                found.push((entry.metadata().unwrap().modified().unwrap(), name, bytes));
                fs::remove_file(entry.path()).unwrap();
            }
        }
        found.sort();
        self.eaten.borrow_mut().extend(found.into_iter().map(|(_, name, bytes)| (name, bytes)));
    }

    /// What the pipeline has eaten so far, sorted by name.
    pub(super) fn eaten(&self) -> Vec<(String, Vec<u8>)> {
        self.eat();
        let mut eaten = self.eaten.borrow().clone();
        eaten.sort();
        eaten
    }

    /// The same, without names.
    pub(super) fn contents(&self) -> Vec<String> {
        self.eat();
        let mut contents: Vec<_> = self
            .eaten
            .borrow()
            .iter()
            .map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
            .collect();
        contents.sort();
        contents
    }

    /// Files that wait in the staging directory.
    pub(super) fn staged(&self) -> usize {
        let names = fs::read_dir(self.incoming().staging).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".staged")).count()
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn site(mode: PullMode) -> Site {
    let mut sync = crate::config::SyncKeys::default();
    sync.mode = mode;
    Site { name: "plant-7".into(), host: "unused".into(), port: 1, tls: None, sync }
}

/// A server that does not crash.
pub(super) fn alive() -> Crash {
    Crash::default()
}
