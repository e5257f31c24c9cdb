//! Contents that go to a node, and removals there.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use tidegate_proto::relay::limits::SHARED_PART;
use tidegate_proto::relay::{OutcomeCode, SharedAnswer, SharedOutcome, SharedRequest};
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::{Order, Reply};
use super::SMALL;
use super::dialogue::{Dialogue, unasked};
use crate::pull::Fault;
use crate::shared::turn::Turn;

/// How much of a large content is read at once.
const READ_AT_ONCE: usize = 4 * SHARED_PART;

/// An order that is under way.
struct Going {
    /// How many answers are to come.
    awaited: u32,
    reply: Option<Reply>,
}

impl Going {
    /// Looks at the next answer. The first that is not about the way there decides; what follows is about parts that
    /// came too late.
    fn take(&mut self, answer: SharedAnswer) -> Result<u64, Fault> {
        let SharedAnswer::Outcome(outcome) = answer else { return Err(unasked(&answer)) };
        let SharedOutcome { code, number, text, .. } = outcome;
        self.awaited -= 1;
        let reply = match code {
            OutcomeCode::GoOn => return Ok(number),
            OutcomeCode::Ignored => return Ok(0),
            OutcomeCode::Done => Reply::Done,
            OutcomeCode::Changed => Reply::Changed,
            OutcomeCode::Refused => Reply::Refused(text),
            OutcomeCode::Damaged => Reply::Damaged,
        };
        self.reply.get_or_insert(reply);
        Ok(0)
    }

    fn reply(self) -> Result<Reply, Fault> {
        self.reply.ok_or_else(|| {
            Fault::Site("the node took all of a shared file and did not say what became of it".into())
        })
    }
}

/// Carries orders out, small ones beside each other.
pub(super) async fn carry_out<S: AsyncRead + AsyncWrite + Unpin>(
    dialogue: &mut Dialogue<S>,
    turn: Option<&Turn>,
    orders: &[Order],
    replies: &mut Vec<Reply>,
) -> Result<(), Fault> {
    let mut going = VecDeque::new();
    for order in orders {
        match order {
            Order::Place { size, content, .. } if *size > SMALL => {
                settle(dialogue, &mut going, replies).await?;
                replies.push(large(dialogue, turn, order, *size, content).await?);
            }
            Order::Place { size, content, .. } => {
                let bytes = read_at(dialogue, content, 0, *size).await?;
                dialogue.ask(order.request()).await?;
                let mut awaited = 1;
                for part in bytes.chunks(SHARED_PART) {
                    dialogue.ask(SharedRequest::Part(part.to_vec())).await?;
                    awaited += 1;
                }
                going.push_back(Going { awaited, reply: None });
            }
            Order::Remove { .. } => {
                dialogue.ask(order.request()).await?;
                going.push_back(Going { awaited: 1, reply: None });
            }
        }
        while let Some(answer) = dialogue.answered() {
            take(answer, &mut going, replies)?;
        }
    }
    settle(dialogue, &mut going, replies).await
}

impl Order {
    fn request(&self) -> SharedRequest {
        match self.clone() {
            Self::Place { name, expected, digest, size, .. } => {
                SharedRequest::Place { name, expected, digest, size }
            }
            Self::Remove { name, expected } => SharedRequest::Remove { name, expected },
        }
    }
}

/// An answer belongs to the oldest order.
fn take(answer: SharedAnswer, going: &mut VecDeque<Going>, replies: &mut Vec<Reply>) -> Result<(), Fault> {
    let Some(oldest) = going.front_mut() else { return Err(unasked(&answer)) };
    oldest.take(answer)?;
    if oldest.awaited == 0
        && let Some(done) = going.pop_front()
    {
        replies.push(done.reply()?);
    }
    Ok(())
}

async fn settle<S: AsyncRead + AsyncWrite + Unpin>(
    dialogue: &mut Dialogue<S>,
    going: &mut VecDeque<Going>,
    replies: &mut Vec<Reply>,
) -> Result<(), Fault> {
    while !going.is_empty() {
        let answer = dialogue.answer().await?;
        take(answer, going, replies)?;
    }
    Ok(())
}

/// Places one that is never held whole, on from where an earlier connection left it.
async fn large<S: AsyncRead + AsyncWrite + Unpin>(
    dialogue: &mut Dialogue<S>,
    turn: Option<&Turn>,
    order: &Order,
    size: u64,
    content: &Path,
) -> Result<Reply, Fault> {
    let mut going = Going { awaited: 1, reply: None };
    dialogue.ask(order.request()).await?;
    let answer = dialogue.answer().await?;
    let mut sent = going.take(answer)?;
    while going.reply.is_none() && sent < size && !turn.is_some_and(Turn::is_over) {
        let bytes = read_at(dialogue, content, sent, size).await?;
        for part in bytes.chunks(SHARED_PART) {
            dialogue.ask(SharedRequest::Part(part.to_vec())).await?;
            going.awaited += 1;
            sent += part.len() as u64;
            while let Some(answer) = dialogue.answered() {
                going.take(answer)?;
            }
            if going.reply.is_some() {
                break;
            }
        }
    }
    while going.awaited > 0 {
        let answer = dialogue.answer().await?;
        going.take(answer)?;
    }
    if going.reply.is_none() && sent < size {
        return Ok(Reply::Later);
    }
    going.reply()
}

/// Some bytes of a content; never none before its end.
async fn read_at<S: AsyncRead + AsyncWrite + Unpin>(
    dialogue: &mut Dialogue<S>,
    content: &Path,
    offset: u64,
    size: u64,
) -> Result<Vec<u8>, Fault> {
    let path = content.to_owned();
    let most = (size - offset).min(READ_AT_ONCE as u64);
    let work = move || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; usize::try_from(most).unwrap_or(READ_AT_ONCE)];
        file.read_exact(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    dialogue.during(work).await
}
