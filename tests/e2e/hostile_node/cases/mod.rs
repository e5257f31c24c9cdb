//! What rogues do, each under a name of its own.

mod compressed;
mod frames;
mod numbers;
mod pace;
mod records;
mod turns;

use std::io;
use std::net::TcpStream;

use crate::rogue::Rogue;

/// A misbehaviour.
pub(crate) struct Case {
    pub(crate) what: String,
    pub(crate) play: Play,
    pub(crate) ending: Ending,
}

pub(crate) type Act = dyn Fn(&mut Rogue) -> io::Result<()> + Send + Sync;

pub(crate) enum Play {
    /// From the connection on, before TLS. It sees the end by itself.
    Socket(Box<dyn Fn(TcpStream) -> io::Result<()> + Send + Sync>),
    /// From the puller's `HELLO` on, each on a connection of its own.
    Relay(Vec<Box<Act>>),
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The server ends it.
    Ends,
    /// It goes on as if nothing had happened: a package goes through afterwards.
    Lives,
    /// The rogue ends it, or nobody cares.
    Any,
}

pub(crate) fn all() -> Vec<Case> {
    [turns::cases(), frames::cases(), compressed::cases(), records::cases(), numbers::cases(), pace::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// After the welcome.
fn after_welcome(
    what: impl Into<String>,
    ending: Ending,
    act: impl Fn(&mut Rogue) -> io::Result<()> + Send + Sync + 'static,
) -> Case {
    instead_of_welcome(what, ending, move |rogue| {
        rogue.welcome()?;
        act(rogue)
    })
}

/// With the welcome still to come.
fn instead_of_welcome(
    what: impl Into<String>,
    ending: Ending,
    act: impl Fn(&mut Rogue) -> io::Result<()> + Send + Sync + 'static,
) -> Case {
    Case { what: what.into(), play: Play::Relay(vec![Box::new(act)]), ending }
}

/// One connection after the other, each after the welcome. The ending is the last one's.
fn on_two(
    what: impl Into<String>,
    ending: Ending,
    first: impl Fn(&mut Rogue) -> io::Result<()> + Send + Sync + 'static,
    second: impl Fn(&mut Rogue) -> io::Result<()> + Send + Sync + 'static,
) -> Case {
    let welcomed = |act: Box<Act>| -> Box<Act> {
        Box::new(move |rogue| {
            rogue.welcome()?;
            act(rogue)
        })
    };
    let acts = vec![welcomed(Box::new(first)), welcomed(Box::new(second))];
    Case { what: what.into(), play: Play::Relay(acts), ending }
}

fn on_socket(
    what: impl Into<String>,
    act: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Case {
    Case { what: what.into(), play: Play::Socket(Box::new(act)), ending: Ending::Any }
}
