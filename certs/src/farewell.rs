//! The end of a session, and with it the other end's verdict on our certificate.
//!
//! In TLS 1.3 the dialling end's handshake is over before the listening end has seen its certificate: a refusal comes
//! later, as an alert, perhaps from an end that has already closed. So whatever becomes of our own words, the other's
//! are read to their end, and where there are none nothing is claimed.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How the other end took its leave, without a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// With the farewell of TLS, which only an end says that accepts the session.
    Accepted,
    /// By closing without a word, as stock servers end every session. One that refuses a certificate says so first.
    Closed,
    /// Not, or not in an orderly way: its verdict is not known.
    Unknown(String),
}

/// Ends a session in the way of Tentacle, and waits so long for the other end to do the same. An error is its refusal.
pub(crate) async fn farewell<S>(stream: &mut S, patience: Duration) -> io::Result<Verdict>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let silence = || Ok(Verdict::Unknown(format!("it said nothing for {} s", patience.as_secs())));
    timeout(patience, part(stream)).await.unwrap_or_else(|_| silence())
}

async fn part<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<Verdict> {
    let said = async {
        stream.write_all(b"QUIT\n").await?;
        stream.shutdown().await
    };
    let said = said.await;
    // An end that takes no more of our words may have left its own.
    let mut rest = [0; 256];
    let ended = loop {
        match stream.read(&mut rest).await {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    match (said, ended) {
        (_, Ok(())) => Ok(Verdict::Accepted),
        (Ok(()), Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Verdict::Closed),
        (_, Err(error)) if is_cut(&error) => {
            Ok(Verdict::Unknown(format!("it broke the connection ({error})")))
        }
        (_, Err(error)) => Err(error),
    }
}

/// Whether the connection just ended, with no word of TLS.
fn is_cut(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::UnexpectedEof | K::BrokenPipe | K::ConnectionReset | K::ConnectionAborted | K::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{ReadBuf, duplex};

    use super::*;

    /// An end that takes our words, or not, and then says its last.
    struct LastWords {
        takes: Result<(), io::ErrorKind>,
        says: Option<io::Error>,
    }

    impl AsyncRead for LastWords {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(self.says.take().map_or(Ok(()), Err))
        }
    }

    impl AsyncWrite for LastWords {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(self.takes.map(|()| bytes.len()).map_err(Into::into))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(self.takes.map_err(Into::into))
        }
    }

    async fn verdict(takes: Result<(), io::ErrorKind>, says: Option<io::Error>) -> io::Result<Verdict> {
        farewell(&mut LastWords { takes, says }, Duration::from_secs(10)).await
    }

    fn kind(kind: io::ErrorKind) -> Option<io::Error> {
        Some(kind.into())
    }

    #[tokio::test]
    async fn a_refusal_is_heard_whether_or_not_our_words_are_taken() {
        use io::ErrorKind as K;
        for takes in [Ok(()), Err(K::BrokenPipe), Err(K::ConnectionReset)] {
            let alert = io::Error::new(K::InvalidData, "alert: unknown CA");
            assert_eq!(verdict(takes, Some(alert)).await.unwrap_err().to_string(), "alert: unknown CA");
            assert_eq!(verdict(takes, None).await.unwrap(), Verdict::Accepted);
        }
        assert_eq!(verdict(Ok(()), kind(K::UnexpectedEof)).await.unwrap(), Verdict::Closed);
    }

    #[tokio::test]
    async fn an_end_that_breaks_off_has_given_no_verdict() {
        use io::ErrorKind as K;
        for (takes, says) in [
            (Ok(()), K::ConnectionReset),
            (Err(K::BrokenPipe), K::ConnectionReset),
            (Err(K::BrokenPipe), K::UnexpectedEof),
        ] {
            let verdict = verdict(takes, kind(says)).await.unwrap();
            assert!(matches!(&verdict, Verdict::Unknown(why) if why.contains("broke")), "{verdict:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_silent_has_given_no_verdict() {
        let (mut near, _far) = duplex(64);
        let verdict = farewell(&mut near, Duration::from_secs(10)).await.unwrap();
        assert_eq!(verdict, Verdict::Unknown("it said nothing for 10 s".to_owned()));
    }
}
