//! Moving a held batch away from a stock site, over as many connections as there are.
//!
//! A `MV` that a cut ended is made again on another connection: either the file is still there, or the refusal shows
//! that the site has deleted it. What stays undecided is decided by the next listing, and with it what was moved behind
//! it and equals what is held: that listing lacks both, and delivers both in order. (Only if every connection ends at
//! once, and the site still has the file of the first, may those behind it arrive before it: one a connection.)

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tidegate_proto::Name;

use super::crew::{self, Task};
use super::remote::{Fault, Remote, Taken, Way};
use super::visit::Visit;
use crate::body::{Arrived, Arriving};
use crate::desk::Desk;
use crate::pipeline::{Kept, Moved};

/// The batch, while it is moved.
struct Taking<'a> {
    desk: &'a Desk,
    quiet: Duration,
    state: Mutex<State>,
}

struct State {
    kept: VecDeque<Kept>,
    given: usize,
    done: Vec<(Job, Done)>,
    /// A connection failed under these: another may find out more.
    again: Vec<(Job, Fault)>,
    failed: Vec<(Job, Fault)>,
}

/// A held file, its place in the batch, and what came of a `MV` that was cut.
struct Job {
    place: usize,
    kept: Kept,
    came: Option<Arrived>,
}

enum Done {
    Whole(Arrived),
    Refused,
}

impl<R: Remote> Task<R> for Taking<'_> {
    type Job = Job;

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().expect("no holder panics");
        if let Some((job, _)) = state.again.pop() {
            return Some(job);
        }
        let kept = if state.failed.is_empty() { state.kept.pop_front() } else { None }?;
        state.given += 1;
        Some(Job { place: state.given, kept, came: None })
    }

    async fn work(&self, remote: &mut R, job: Job) {
        let mut body = Arriving::new(self.desk.staging());
        let taken = remote.take(&job.kept.name, self.quiet, &mut body).await;
        if !matches!(taken, Ok(Taken::Refused)) {
            self.desk.crash_point("after-mv");
        }
        let body = body.finish();
        let mut state = self.state.lock().expect("no holder panics");
        match taken {
            Ok(Taken::Whole | Taken::Surplus) => state.done.push((job, Done::Whole(body))),
            Ok(Taken::Refused) => state.done.push((job, Done::Refused)),
            Err(fault) => {
                let is_first = job.came.is_none();
                // The second shows what was there last, if it shows anything.
                let came = job.came.filter(|_| body.size == 0).unwrap_or(body);
                let job = Job { came: Some(came), ..job };
                let to = if is_first && matches!(fault, Fault::Site(_)) {
                    &mut state.again
                } else {
                    &mut state.failed
                };
                to.push((job, fault));
            }
        }
    }
}

impl<W: Way> Visit<'_, W> {
    /// Moves a held batch away, and delivers what that leaves no doubt about. A fault that no other connection mends
    /// ends the moving; what came before it, and what came of the body that it cut, counts.
    pub(super) async fn take_away(
        &mut self,
        kept: Vec<Kept>,
        times: &HashMap<Name, SystemTime>,
    ) -> Result<(), Fault> {
        let task = Taking {
            desk: self.desk,
            quiet: self.site.sync.quiet,
            state: Mutex::new(State {
                kept: kept.into(),
                given: 0,
                done: Vec::new(),
                again: Vec::new(),
                failed: Vec::new(),
            }),
        };
        crew::share(self.remotes(), &task).await;
        self.regroup();
        let State { done, again, mut failed, .. } = task.state.into_inner().expect("no holder panics");
        failed.extend(again);
        failed.sort_by_key(|(job, _)| job.place);
        let mut fault = None;
        let mut undecided: Vec<Job> = Vec::new();
        for (job, error) in failed {
            fault.get_or_insert(error);
            undecided.push(job);
        }
        let mut whole = Vec::with_capacity(done.len());
        for (job, done) in done {
            match done {
                Done::Whole(body) => whole.push((job, body)),
                // The first MV deleted it, and was cut.
                Done::Refused if job.came.is_some() => undecided.push(job),
                Done::Refused => self.refused(job.kept.name),
            }
        }
        let gap = undecided.iter().map(|job| job.place).min().unwrap_or(usize::MAX);
        self.listing_is_old |= gap < usize::MAX;
        let mut moved = Vec::with_capacity(whole.len() + undecided.len());
        let mut sizes = Vec::with_capacity(whole.len());
        for (job, body) in whole {
            // Whatever shows under this name from now on is another file, which has to settle again.
            self.memory.seen.remove(&job.kept.name);
            self.skipped.insert(job.kept.name.clone());
            sizes.extend(Some(body.size).filter(|_| !job.kept.is_repeat()));
            let waits = job.place > gap && body.digest == job.kept.digest && !job.kept.is_repeat();
            if !waits {
                moved.push((job.place, job.kept, body, true));
            }
        }
        for job in undecided {
            let came = job.came.expect("what is undecided was asked for");
            moved.push((job.place, job.kept, came, false));
        }
        moved.sort_by_key(|(place, ..)| *place);
        let moved = moved.into_iter().map(|(_, kept, body, whole)| {
            let modified = times.get(&kept.name).copied().unwrap_or_else(SystemTime::now);
            let other = (body.digest != kept.digest).then_some(body);
            Moved { kept, other, whole, modified }
        });
        let (site, moved) = (self.site.name.clone(), moved.collect());
        self.disk(move |pipeline| pipeline.resolve(&site, moved)).await?;
        sizes.into_iter().for_each(|size| self.tally.received(size));
        if let Some(fault) = fault {
            self.failed(fault);
        }
        Ok(())
    }
}
