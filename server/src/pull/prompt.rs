//! A TCP stream that acknowledges what it reads at once.
//!
//! A stock server writes a body line by line with Nagle's algorithm on: the first line leaves, the rest waits for its
//! acknowledgement, which Linux delays by 40 ms while the reader has nothing to send. `TCP_QUICKACK` sends it now; the
//! kernel forgets the option, so it is set again after every read. A peer that writes in large pieces needs none of
//! it, and pays a system call and a packet more for every read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::sockopt::set_tcp_quickack;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection to a site.
#[derive(Debug)]
pub(crate) struct Prompt {
    stream: TcpStream,
    at_once: bool,
}

impl Prompt {
    /// A stream that acknowledges at once until told otherwise.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, at_once: true }
    }

    /// Leaves acknowledging to the kernel: the peer does not wait for it.
    pub(super) fn relax(&mut self) {
        self.at_once = false;
    }
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if self.at_once && buffer.filled().len() > before {
            // Without it everything works, and takes longer.
            let _ = set_tcp_quickack(&self.stream, true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
