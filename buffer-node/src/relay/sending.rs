//! The package that is being sent: what of it is read, what is sent, and where the rest comes from.

use std::fs::File;
use std::future::pending;
use std::io::{self, Read};

use tidegate_spool::Lease;
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes of a large package read at once. As many are read ahead.
const READ_MAX: u64 = 128 * 1024;

/// A package that has begun.
pub(super) struct Sending {
    lease: Lease,
    /// Read.
    bytes: Vec<u8>,
    /// How many of `bytes` are sent.
    sent: usize,
    /// The rest of a large package.
    rest: Option<Rest>,
}

/// Bytes that are being read, and how many there are with them still to come.
struct Rest {
    left: u64,
    reading: JoinHandle<io::Result<(File, Vec<u8>)>>,
}

impl Sending {
    /// A package with all its bytes.
    pub(super) fn whole(lease: Lease, bytes: Vec<u8>) -> Self {
        Self { lease, bytes, sent: 0, rest: None }
    }

    /// A package to be read as it is sent.
    pub(super) fn large(lease: Lease, file: File) -> Self {
        let rest = Some(Rest::begin(file, lease.package().size));
        Self { lease, bytes: Vec::new(), sent: 0, rest }
    }

    /// What can be sent now.
    pub(super) fn unsent(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// So many of [`Sending::unsent`] were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Whether all of it was sent.
    pub(super) fn is_done(&self) -> bool {
        self.unsent().is_empty() && self.rest.is_none()
    }

    /// The claim on what was sent.
    pub(super) fn into_lease(self) -> Lease {
        self.lease
    }

    /// Waits for more of a package of which everything read is sent. Never completes for any other. May be dropped and
    /// called again.
    pub(super) async fn read_on(sending: Option<&mut Self>) -> io::Result<()> {
        let Some(sending) = sending.filter(|sending| sending.unsent().is_empty()) else {
            return pending().await;
        };
        let Some(rest) = &mut sending.rest else { return pending().await };
        let (file, bytes) = (&mut rest.reading).await.map_err(io::Error::other)??;
        let left = rest.left - bytes.len() as u64;
        sending.rest = (left > 0).then(|| Rest::begin(file, left));
        (sending.bytes, sending.sent) = (bytes, 0);
        Ok(())
    }
}

impl Rest {
    fn begin(mut file: File, left: u64) -> Self {
        let reading = spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(left.min(READ_MAX)).map_err(io::Error::other)?];
            // A file that became shorter than announced cannot be sent.
            file.read_exact(&mut bytes)?;
            Ok((file, bytes))
        });
        Self { left, reading }
    }
}
