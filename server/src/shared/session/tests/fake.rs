//! A node in memory, which can be cut at every call, edited in between, and can lie.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::rc::Rc;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tidegate_proto::Name;
use tidegate_spool::shared::{Buckets, Digest, Seen};

use crate::pull::Fault;
use crate::shared::objects::Objects;
use crate::shared::remote::{Fetched, Known, Listing, Order, Remote, Reply, Wanted};

/// A pair at the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) content: Vec<u8>,
    pub(super) fits: bool,
}

/// Something that other hands do at the node just before a call.
type Edit = Box<dyn FnMut(&Node)>;

/// A node's disk, and what it will do.
#[derive(Default)]
pub(super) struct Node {
    pairs: RefCell<BTreeMap<Name, Held>>,
    /// What it says that it holds, whatever that is.
    pub(super) lies: RefCell<BTreeMap<Name, Seen>>,
    /// It gives these bytes instead.
    pub(super) gives: RefCell<BTreeMap<Name, Vec<u8>>>,
    pub(super) refuses: RefCell<Option<String>>,
    calls: Cell<u32>,
    cut_at: Cell<Option<u32>>,
    /// The call that is cut was carried out all the same.
    cut_after: Cell<bool>,
    edit: RefCell<Option<Edit>>,
    /// The names that were asked for and placed, in order.
    pub(super) log: RefCell<Vec<String>>,
}

impl Node {
    pub(super) fn put(&self, name: &Name, content: &[u8]) {
        self.put_as(name, content, true);
    }

    pub(super) fn put_as(&self, name: &Name, content: &[u8], fits: bool) {
        self.pairs.borrow_mut().insert(name.clone(), Held { content: content.to_vec(), fits });
    }

    pub(super) fn remove(&self, name: &Name) {
        self.pairs.borrow_mut().remove(name);
    }

    pub(super) fn get(&self, name: &Name) -> Option<Held> {
        self.pairs.borrow().get(name).cloned()
    }

    pub(super) fn pairs(&self) -> BTreeMap<Name, Held> {
        self.pairs.borrow().clone()
    }

    /// What it says of itself.
    pub(super) fn sign(&self) -> u64 {
        let mut buckets = Buckets::new();
        self.seen().iter().for_each(|(name, seen)| buckets.add(name.as_bytes(), seen));
        buckets.sign()
    }

    pub(super) fn calls(&self) -> u32 {
        self.calls.get()
    }

    /// The connection breaks at this call, before or after it was carried out.
    pub(super) fn cut_at(&self, call: u32, carried_out: bool) {
        self.calls.set(0);
        self.cut_at.set(Some(call));
        self.cut_after.set(carried_out);
    }

    /// Other hands work there before every call.
    pub(super) fn edited_by(&self, edit: impl FnMut(&Self) + 'static) {
        *self.edit.borrow_mut() = Some(Box::new(edit));
    }

    pub(super) fn left_alone(&self) {
        *self.edit.borrow_mut() = None;
        self.cut_at.set(None);
    }

    fn seen(&self) -> BTreeMap<Name, Seen> {
        let pairs = self.pairs.borrow();
        let mut seen: BTreeMap<_, _> = pairs.iter().map(|(name, held)| (name.clone(), held.seen())).collect();
        seen.extend(self.lies.borrow().clone());
        seen
    }

    /// A call reaches the node. Whether it is the one that is cut.
    fn call(&self) -> Result<bool, Fault> {
        if let Some(mut edit) = self.edit.take() {
            edit(self);
            self.edit.borrow_mut().get_or_insert(edit);
        }
        self.calls.set(self.calls.get() + 1);
        let is_cut = self.cut_at.get() == Some(self.calls.get());
        if is_cut && !self.cut_after.get() { Err(cut()) } else { Ok(is_cut) }
    }

    fn obey(&self, order: &Order) -> Reply {
        let digest = |name| self.get(name).map(|held| held.seen().digest);
        match order {
            Order::Place { name, expected, digest: wanted, size, content } => {
                self.log.borrow_mut().push(format!("place {name}"));
                if let Some(why) = self.refuses.borrow().clone() {
                    return Reply::Refused(why);
                }
                if digest(name) != *expected && digest(name) != Some(*wanted) {
                    return Reply::Changed;
                }
                if digest(name) == Some(*wanted) {
                    self.pairs.borrow_mut().get_mut(name).expect("it is there").fits = true;
                    return Reply::Done;
                }
                let bytes = fs::read(content).expect("what is placed can be read");
                if digest_of(&bytes) != *wanted || bytes.len() as u64 != *size {
                    return Reply::Damaged;
                }
                self.put(name, &bytes);
            }
            Order::Remove { name, expected } => {
                self.log.borrow_mut().push(format!("remove {name}"));
                match digest(name) {
                    Some(there) if there == *expected => self.remove(name),
                    Some(_) => return Reply::Changed,
                    None => {}
                }
            }
        }
        Reply::Done
    }
}

impl Held {
    pub(super) fn seen(&self) -> Seen {
        Seen { digest: digest_of(&self.content), size: self.content.len() as u64, fits: self.fits }
    }
}

pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

fn cut() -> Fault {
    Fault::Site("cut".into())
}

/// A connection to it.
pub(super) struct Connection(pub(super) Rc<Node>);

impl Remote for Connection {
    async fn list(&mut self, known: &Known) -> Result<Listing, Fault> {
        let is_cut = self.0.call()?;
        let seen = self.0.seen();
        let mut theirs = Buckets::new();
        seen.iter().for_each(|(name, seen)| theirs.add(name.as_bytes(), seen));
        let is_as_here =
            |bucket: &u16| known.here.values()[usize::from(*bucket)] == theirs.values()[usize::from(*bucket)];
        let differing = known.there.differing(theirs.values()).into_iter();
        let (as_here, buckets): (Vec<_>, Vec<_>) = differing.partition(is_as_here);
        let is_in = |name: &Name| buckets.contains(&Buckets::of(name.as_bytes()));
        let items = seen.into_iter().filter(|(name, _)| is_in(name)).collect();
        if is_cut { Err(cut()) } else { Ok(Listing { as_here, buckets, items, more: false }) }
    }

    async fn fetch(
        &mut self,
        objects: &Arc<Objects>,
        wanted: &[Wanted],
        came: &mut Vec<Fetched>,
    ) -> Result<(), Fault> {
        for one in wanted {
            let is_cut = self.0.call()?;
            self.0.log.borrow_mut().push(format!("fetch {}", one.name));
            let lie = self.0.gives.borrow().get(&one.name).cloned();
            let held = self.0.get(&one.name).filter(|held| held.seen().digest == one.digest);
            let Some(bytes) = lie.or(held.map(|held| held.content)) else {
                came.push(Fetched::Another);
                continue;
            };
            came.push(keep(objects, one, &bytes));
            if is_cut {
                return Err(cut());
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, orders: &[Order], replies: &mut Vec<Reply>) -> Result<(), Fault> {
        for order in orders {
            let is_cut = self.0.call()?;
            let reply = self.0.obey(order);
            if is_cut {
                return Err(cut());
            }
            replies.push(reply);
        }
        Ok(())
    }

    async fn idle(&mut self) -> Fault {
        std::future::pending().await
    }
}

/// Puts what came among the objects, as a connection does.
fn keep(objects: &Objects, one: &Wanted, bytes: &[u8]) -> Fetched {
    if bytes.len() as u64 != one.size {
        return Fetched::Another;
    }
    if objects.keep(&one.digest, bytes).expect("there is room") { Fetched::Here } else { Fetched::Damaged }
}
