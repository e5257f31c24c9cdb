//! The puller's side of shared files: what it has asked and not yet heard.

use alloc::collections::VecDeque;

use super::{Puller, PullerEvent};
use crate::{
    machine::out_of_turn,
    relay::{
        Purpose, SharedAnswer, SharedRequest, Violation,
        dialogue::{Dialogue, Due},
        either::Either as _,
        frame::{Frame, Kind},
        limits::{SHARED_IN_FLIGHT, SHARED_ITEMS_MAX},
    },
};

/// The requests that are unanswered, oldest first.
#[derive(Debug, Default)]
pub(super) struct Asking {
    due: VecDeque<(Due, usize)>,
    /// What they cost together.
    cost: usize,
    dialogue: Dialogue,
    /// Shared files that were told of.
    items: usize,
}

impl Asking {
    fn has_room(&self, request: &SharedRequest) -> bool {
        self.due.is_empty() || self.cost + request.cost() <= SHARED_IN_FLIGHT
    }

    fn ask(&mut self, request: &SharedRequest) {
        let cost = request.cost();
        self.cost += cost;
        self.due.push_back((Due::of(request), cost));
    }

    /// Whether the oldest request is answered by this.
    pub(super) fn awaits(&self, answer: &Kind) -> bool {
        self.due.front().is_some_and(|(due, _)| due.answer == *answer)
    }

    fn hear(&mut self, answer: &SharedAnswer) -> Result<(), Violation> {
        let Some((due, cost)) = self.due.front_mut() else {
            return Err(Violation::OutOfTurn(answer.kind().name));
        };
        if let SharedAnswer::Items { items, .. } = answer {
            self.items += items.len();
            if self.items > SHARED_ITEMS_MAX {
                return Err(Violation::TooManyItems);
            }
        }
        if self.dialogue.settle(due, answer)? {
            self.cost -= *cost;
            self.due.pop_front();
        }
        Ok(())
    }
}

impl Puller {
    /// Whether a request may be made now, beside those that are unanswered. Without any, each may.
    pub fn may_request(&self, request: &SharedRequest) -> bool {
        self.asking.has_room(request)
    }

    /// Asks about shared files, or orders a change: with [`Purpose::Shared`], when it [`may`](Self::may_request). Answers come
    /// as [`PullerEvent::Shared`], in the order of the requests.
    pub fn request(&mut self, request: SharedRequest) {
        if self.is_over() {
            return;
        }
        if self.purpose != Purpose::Shared || !request.is_sound() || !self.may_request(&request) {
            return out_of_turn("request");
        }
        self.asking.ask(&request);
        self.say(&Frame::Ask(request));
    }

    /// How many requests are unanswered.
    pub fn outstanding(&self) -> usize {
        self.asking.due.len()
    }

    pub(super) fn answered(&mut self, answer: SharedAnswer) -> Result<PullerEvent, Violation> {
        self.asking.hear(&answer)?;
        Ok(PullerEvent::Shared(answer))
    }
}
