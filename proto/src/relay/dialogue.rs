//! Which answer a request about shared files may have: one rule for both ends. The node holds its owner to it, the
//! puller the node.
//!
//! ```text
//!  PLACE ──go_on──▶ placing ──PART, go_on──▶ placing ──the last PART──▶ done, damaged
//!    │                 └──PART: changed, refused; any other request──▶ nothing is placed
//!    └──done, changed, refused, damaged
//! ```

use super::{
    OutcomeCode, SharedAnswer, SharedOutcome, SharedRequest, Violation,
    frame::{Kind, PART, PLACE},
    limits::SHARED_AT_ONCE,
};
use crate::Name;

/// What is kept of a request until it is answered.
#[derive(Debug)]
pub(crate) struct Due {
    request: Kind,
    /// The frame that is to come.
    pub(crate) answer: Kind,
    /// The file of a `PLACE`, the bytes of a `PART`.
    size: u64,
    /// The last of the items that have come.
    last: Option<Name>,
}

impl Due {
    pub(crate) fn of(request: &SharedRequest) -> Self {
        let size = match request {
            SharedRequest::Place { size, .. } => *size,
            SharedRequest::Part(bytes) => bytes.len() as u64,
            _ => 0,
        };
        Due { request: request.kind(), answer: request.answer(), size, last: None }
    }
}

/// Where the dialogue stands: the file that is being placed.
#[derive(Debug, Default)]
pub(crate) struct Dialogue {
    placing: Option<Placing>,
}

#[derive(Clone, Copy, Debug)]
struct Placing {
    size: u64,
    have: u64,
}

impl Dialogue {
    /// Whether a part of so many bytes belongs to something.
    pub(crate) fn awaits(&self, part: usize) -> Result<bool, Violation> {
        match self.placing {
            Some(placing) if part as u64 > placing.size - placing.have => {
                Err(Violation::Overfull { size: placing.size })
            }
            placing => Ok(placing.is_some()),
        }
    }

    /// Takes an answer, or a part of one. Whether that was all of it.
    pub(crate) fn settle(&mut self, due: &mut Due, answer: &SharedAnswer) -> Result<bool, Violation> {
        if answer.kind() != due.answer {
            return Err(Violation::OutOfTurn(answer.kind().name));
        }
        let placing = self.placing.take();
        match answer {
            SharedAnswer::Buckets(_) | SharedAnswer::Content { .. } => Ok(true),
            SharedAnswer::Items { items, last } => {
                let names = due.last.iter().chain(items.iter().map(|item| &item.name));
                if !names.is_sorted_by(|one, next| one < next) {
                    return Err(Violation::ItemOrder);
                }
                // Only the last part may be empty.
                due.last = items.last().map(|item| item.name.clone());
                Ok(*last)
            }
            SharedAnswer::Outcome(outcome) => {
                self.placing = due.after(placing, outcome)?;
                Ok(true)
            }
        }
    }
}

impl Due {
    /// What is being placed after this outcome, if it may be one.
    fn after(&self, placing: Option<Placing>, outcome: &SharedOutcome) -> Result<Option<Placing>, Violation> {
        use OutcomeCode::{Changed, Damaged, Done, GoOn, Ignored, Refused};

        let &SharedOutcome { code, number, .. } = outcome;
        let wrong = Violation::Outcome { request: self.request.name, code };
        let Some(placing) = placing.filter(|_| self.request == PART) else {
            return match code {
                Ignored if self.request == PART => Ok(None),
                _ if self.request == PART => Err(wrong),
                GoOn if self.request == PLACE => {
                    let begun = Placing { size: self.size, have: number };
                    if begun.is_sound() { Ok(Some(begun)) } else { Err(Violation::GoOn { number }) }
                }
                // All of it had come before.
                Damaged if self.request == PLACE => Ok(None),
                Done | Changed | Refused => Ok(None),
                GoOn | Damaged | Ignored => Err(wrong),
            };
        };
        let have = placing.have.saturating_add(self.size);
        match code {
            GoOn if have != number => Err(Violation::GoOn { number }),
            GoOn if have < placing.size => Ok(Some(Placing { have, ..placing })),
            Done | Damaged if have >= placing.size => Ok(None),
            Changed | Refused => Ok(None),
            GoOn | Done | Damaged | Ignored => Err(wrong),
        }
    }
}

impl Placing {
    /// Something is missing; and of what may be sent without waiting, everything.
    fn is_sound(self) -> bool {
        self.have < self.size && (self.have == 0 || self.size > SHARED_AT_ONCE)
    }
}
