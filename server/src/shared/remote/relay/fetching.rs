//! Contents that come from a node.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_proto::relay::limits::SHARED_PART;
use tidegate_proto::relay::{ContentState, SharedAnswer, SharedRequest};
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::{Fetched, Wanted};
use super::SMALL;
use super::dialogue::{Dialogue, unasked};
use crate::pull::Fault;
use crate::shared::objects::Objects;
use crate::shared::turn::Turn;

/// A content of which some was asked for.
struct Coming<'a> {
    wanted: &'a Wanted,
    /// How much has been asked for, and has come.
    asked: u64,
    came: u64,
    /// How many answers are to come.
    awaited: u32,
    another: bool,
}

impl<'a> Coming<'a> {
    fn from(wanted: &'a Wanted, offset: u64) -> Self {
        Self { wanted, asked: offset, came: offset, awaited: 0, another: false }
    }

    fn is_asked(&self) -> bool {
        self.another || self.asked >= self.wanted.size
    }

    /// Asks for the next part.
    async fn ask<S>(&mut self, dialogue: &mut Dialogue<S>) -> Result<(), Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Wanted { name, digest, .. } = self.wanted;
        let request = SharedRequest::Fetch { name: name.clone(), digest: *digest, offset: self.asked };
        dialogue.ask(request).await?;
        self.asked += part(self.wanted.size, self.asked);
        self.awaited += 1;
        Ok(())
    }

    /// Looks at the next answer. Bytes that are not those of the content, by their number, are not taken.
    fn take(&mut self, answer: SharedAnswer) -> Result<Vec<u8>, Fault> {
        let SharedAnswer::Content { state, bytes } = answer else { return Err(unasked(&answer)) };
        self.awaited -= 1;
        let expected = part(self.wanted.size, self.came);
        let is_last = self.came + expected == self.wanted.size;
        let state_expected = if is_last { ContentState::End } else { ContentState::More };
        if self.another || state != state_expected || bytes.len() as u64 != expected {
            self.another = true;
            return Ok(Vec::new());
        }
        self.came += expected;
        Ok(bytes)
    }
}

/// How long the part at `offset` is.
fn part(size: u64, offset: u64) -> u64 {
    size.saturating_sub(offset).min(SHARED_PART as u64)
}

/// Fetches all of them, small ones beside each other.
pub(super) async fn fetch<S: AsyncRead + AsyncWrite + Unpin>(
    dialogue: &mut Dialogue<S>,
    turn: Option<&Turn>,
    objects: &Arc<Objects>,
    wanted: &[Wanted],
    came: &mut Vec<Fetched>,
) -> Result<(), Fault> {
    let mut small = Small { objects, coming: VecDeque::new(), came };
    for one in wanted {
        if one.size > SMALL {
            small.settle(dialogue).await?;
            let fetched = large(dialogue, turn, objects, one).await?;
            small.came.push(fetched);
            continue;
        }
        let mut coming = Coming::from(one, 0);
        while !coming.is_asked() {
            coming.ask(dialogue).await?;
        }
        small.coming.push_back((coming, Vec::new()));
        while let Some(answer) = dialogue.answered() {
            small.take(answer)?;
        }
        small.finish(dialogue).await?;
    }
    small.settle(dialogue).await
}

/// Contents that are held until they are whole.
struct Small<'a, 'b> {
    objects: &'a Arc<Objects>,
    coming: VecDeque<(Coming<'a>, Vec<u8>)>,
    came: &'b mut Vec<Fetched>,
}

impl Small<'_, '_> {
    /// An answer belongs to the oldest of them that has not all of its own.
    fn take(&mut self, answer: SharedAnswer) -> Result<(), Fault> {
        let Some((coming, content)) = self.coming.iter_mut().find(|(coming, _)| coming.awaited > 0) else {
            return Err(unasked(&answer));
        };
        content.extend_from_slice(&coming.take(answer)?);
        Ok(())
    }

    /// Puts those that are whole among the objects.
    async fn finish<S>(&mut self, dialogue: &mut Dialogue<S>) -> Result<(), Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        while self.coming.front().is_some_and(|(coming, _)| coming.awaited == 0)
            && let Some((coming, content)) = self.coming.pop_front()
        {
            let fetched = if coming.another {
                Fetched::Another
            } else {
                let (objects, digest) = (Arc::clone(self.objects), coming.wanted.digest);
                dialogue.during(move || objects.keep(&digest, &content).map(Fetched::kept)).await?
            };
            self.came.push(fetched);
        }
        Ok(())
    }

    async fn settle<S>(&mut self, dialogue: &mut Dialogue<S>) -> Result<(), Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            self.finish(dialogue).await?;
            if self.coming.is_empty() {
                return Ok(());
            }
            let answer = dialogue.answer().await?;
            self.take(answer)?;
        }
    }
}

/// Fetches one that is never held whole, on from where an earlier connection left it.
async fn large<S: AsyncRead + AsyncWrite + Unpin>(
    dialogue: &mut Dialogue<S>,
    turn: Option<&Turn>,
    objects: &Arc<Objects>,
    wanted: &Wanted,
) -> Result<Fetched, Fault> {
    let (digest, size) = (wanted.digest, wanted.size);
    let mut partial = {
        let objects = Arc::clone(objects);
        let source = [dialogue.site().as_bytes(), b"\0", wanted.name.as_bytes()].concat();
        dialogue.during(move || objects.begin(&source, digest, size)).await?
    };
    let mut coming = Coming::from(wanted, partial.offset());
    let mut later = false;
    loop {
        later |= turn.is_some_and(Turn::is_over);
        let asks = !later && !coming.is_asked();
        if asks {
            coming.ask(dialogue).await?;
        } else if coming.awaited == 0 {
            break;
        }
        let mut answer = if asks { dialogue.answered() } else { Some(dialogue.answer().await?) };
        while let Some(some) = answer {
            let bytes = coming.take(some)?;
            partial = dialogue.during(move || partial.write(&bytes).map(|()| partial)).await?;
            answer = dialogue.answered();
        }
    }
    if coming.another {
        return Ok(Fetched::Another);
    }
    if coming.came < size {
        return Ok(Fetched::Later);
    }
    let objects = Arc::clone(objects);
    dialogue.during(move || objects.finish(partial).map(Fetched::kept)).await
}
