//! The node's side of shared files: the request that is to be answered. Nothing further is read before that, so what a
//! puller asks in one go waits with the puller.

use super::{Node, NodeEvent};
use crate::relay::{
    SharedAnswer, SharedItem, SharedOutcome, SharedRequest, Violation,
    dialogue::{Dialogue, Due},
    either::Either as _,
    frame::Frame,
    limits::PAYLOAD_MAX,
};

/// The items that fit a frame, beside the byte that says whether it is the last.
const ITEMS: usize = (PAYLOAD_MAX - 1) / SharedItem::MAX;

/// The request that is unanswered, if one is.
#[derive(Debug, Default)]
pub(super) struct Answering {
    due: Option<Due>,
    dialogue: Dialogue,
}

impl Answering {
    /// Whether the owner has still to answer.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_some()
    }

    /// Takes note of a request. Whether it is for the owner.
    fn ask(&mut self, request: &SharedRequest) -> Result<bool, Violation> {
        if let SharedRequest::Part(bytes) = request
            && !self.dialogue.awaits(bytes.len())?
        {
            return Ok(false);
        }
        self.due = Some(Due::of(request));
        Ok(true)
    }

    /// Whether that may be said.
    fn settle(&mut self, answer: &SharedAnswer) -> bool {
        let Some(mut due) = self.due.take() else { return false };
        match self.dialogue.settle(&mut due, answer) {
            Ok(whole) => {
                self.due = (!whole).then_some(due);
                answer.is_sound()
            }
            Err(_) => false,
        }
    }
}

impl Node {
    /// Whether a part of an answer may be told now; when it was not, [`NodeEvent::Room`] says that it may again. Only
    /// [`SharedAnswer::Items`] need to ask: other answers are short.
    pub fn answer_room(&self) -> bool {
        self.answering.is_due() && self.outbox.has_room()
    }

    /// Answers [`NodeEvent::Shared`]: once, items in any number of parts. What the request cannot be answered with
    /// ends the connection.
    pub fn answer(&mut self, answer: SharedAnswer) {
        if self.is_over() {
            return;
        }
        if !self.answering.settle(&answer) {
            return self.misused("answer");
        }
        match answer {
            SharedAnswer::Items { items, last } if items.len() > ITEMS => {
                let mut parts = items.chunks(ITEMS).peekable();
                while let Some(items) = parts.next() {
                    let last = last && parts.peek().is_none();
                    self.say(&Frame::Answer(SharedAnswer::Items { items: items.into(), last }));
                }
            }
            answer => self.say(&Frame::Answer(answer)),
        }
    }

    /// A request has come. A part that belongs to nothing is answered here: its sender did not wait to hear that it is not
    /// wanted.
    pub(super) fn asked(&mut self, request: SharedRequest) -> Result<Option<NodeEvent>, Violation> {
        if !self.answering.ask(&request)? {
            self.say(&Frame::Answer(SharedAnswer::Outcome(SharedOutcome::ignored())));
            return Ok(None);
        }
        // The owner looks for itself; it is told only when that has changed.
        self.told_room = self.answer_room();
        Ok(Some(NodeEvent::Shared(request)))
    }
}
