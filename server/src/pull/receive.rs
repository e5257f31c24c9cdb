//! Receiving a batch: `RECV` of the next names, over as many connections as there are.
//!
//! What is returned has no gap: a name whose `RECV` failed on two connections, or on the last one, ends the batch before
//! it, so that nothing behind it overtakes it. What came of the rest is dropped; it is still at the site.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use tidegate_net::shutdown::Shutdown;
use tidegate_proto::Name;

use super::crew::{self, Task};
use super::remote::{Fault, Fetched, Remote, Way};
use super::visit::Visit;
use crate::body::{Arrived, Arriving};
use crate::desk::Desk;
use crate::names;
use crate::pipeline::Received;

/// A batch ends with the first of these, or with as many files as [`super::Memory`] allows. They bound what one site
/// makes this server hold in memory, and what is repeated after a cut.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
const BATCH_TIME: Duration = Duration::from_secs(2);

/// For how long a file that is too big is not asked about again.
const TOO_BIG_MEMORY: Duration = Duration::from_secs(3_600);

/// The same for an empty file, which its sender may still fill. Each question costs a stock site's connection.
const EMPTY_MEMORY: Duration = Duration::from_secs(300);

/// The batch, while it arrives.
struct Receiving<'a> {
    desk: &'a Desk,
    stop: &'a Shutdown,
    begun: Instant,
    files: usize,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    names: &'a mut VecDeque<(Name, SystemTime)>,
    given: usize,
    /// Files that came or are under way.
    files: usize,
    bytes: u64,
    came: Vec<(Job, Came)>,
    /// A connection failed under these: another may do better.
    again: Vec<(Job, Fault)>,
    failed: Vec<(Job, Fault)>,
}

/// A name, when it was listed, and its place in the batch.
struct Job {
    place: usize,
    name: Name,
    listed: SystemTime,
    second: bool,
}

enum Came {
    Body(Arrived),
    Nothing(Fetched),
}

impl<R: Remote> Task<R> for Receiving<'_> {
    type Job = Job;

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().expect("no holder panics");
        if self.stop.is_draining() {
            return None;
        }
        if let Some((job, _)) = state.again.pop() {
            return Some(Job { second: true, ..job });
        }
        let is_full = state.files >= self.files
            || state.bytes >= BATCH_BYTES
            || self.begun.elapsed() >= BATCH_TIME
            || !state.failed.is_empty();
        let (name, listed) = if is_full { None } else { state.names.pop_front() }?;
        state.given += 1;
        state.files += 1;
        Some(Job { place: state.given, name, listed, second: false })
    }

    async fn work(&self, remote: &mut R, job: Job) {
        let mut body = Arriving::new(self.desk.staging());
        let fetched = remote.fetch(&job.name, &mut body).await;
        if fetched.is_ok() {
            self.desk.crash_point("after-recv");
        }
        let mut state = self.state.lock().expect("no holder panics");
        match fetched {
            Ok(Fetched::Whole) if body.size() > 0 => {
                state.bytes += body.size();
                state.came.push((job, Came::Body(body.finish())));
            }
            Ok(other) => {
                state.files -= 1;
                state.came.push((job, Came::Nothing(other)));
            }
            Err(fault @ Fault::Site(_)) if !job.second => state.again.push((job, fault)),
            Err(fault) => state.failed.push((job, fault)),
        }
    }
}

impl<W: Way> Visit<'_, W> {
    /// Receives the next batch of `names`, each with the modification time it is to have. A fault that no other
    /// connection mends ends the batch; what came whole before it counts, and [`Self::next`] tells.
    pub(super) async fn receive(
        &mut self,
        names: &mut VecDeque<(Name, SystemTime)>,
    ) -> Result<Vec<Received>, Fault> {
        let task = Receiving {
            desk: self.desk,
            stop: self.stop,
            begun: Instant::now(),
            files: self.memory.next_batch(),
            state: Mutex::new(State {
                names,
                given: 0,
                files: 0,
                bytes: 0,
                came: Vec::new(),
                again: Vec::new(),
                failed: Vec::new(),
            }),
        };
        crew::share(self.remotes(), &task).await;
        let State { mut came, again, mut failed, .. } = task.state.into_inner().expect("no holder panics");
        failed.extend(again);
        failed.sort_by_key(|(job, _)| job.place);
        came.sort_by_key(|(job, _)| job.place);
        let gap = failed.first().map_or(usize::MAX, |(job, _)| job.place);
        let mut batch = Vec::new();
        for (Job { place, name, listed, .. }, came) in came {
            match came {
                Came::Body(_) if place > gap => {}
                Came::Body(body) => {
                    let modified = names::time_in(&name, SystemTime::now()).unwrap_or(listed);
                    batch.push(Received { name, body, modified });
                }
                Came::Nothing(fetched) => self.is_left(name, fetched),
            }
        }
        self.regroup();
        self.memory.may_grow(failed.is_empty());
        if let Some((_, fault)) = failed.into_iter().next() {
            self.failed(fault);
        }
        // With nothing in hand it need not wait.
        match self.fault.take_if(|_| batch.is_empty()) {
            Some(fault) => Err(fault),
            None => Ok(batch),
        }
    }

    /// Nothing came of a name.
    fn is_left(&mut self, name: Name, fetched: Fetched) {
        match fetched {
            // Gone: a later listing tells.
            Fetched::Refused => {
                self.skipped.insert(name);
            }
            Fetched::Whole | Fetched::Empty => {
                tracing::debug!(site = self.site.name, package = %name, "empty: it stays at the site");
                self.leave(name, EMPTY_MEMORY);
            }
            Fetched::TooBig(size) => {
                let (site, max) = (&self.site.name, self.site.sync.max_size);
                tracing::warn!(site, package = %name, size, max, "larger than max_size: it stays at the site");
                self.leave(name, TOO_BIG_MEMORY);
            }
        }
    }
}
