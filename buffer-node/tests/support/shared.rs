//! The sync server's side of shared files: one request at a time, or several at once.

use std::fs;
use std::path::PathBuf;

use tidegate_net::LinkError;
use tidegate_proto::relay::limits::{SHARED_AT_ONCE, SHARED_PART};
use tidegate_proto::relay::{
    CloseCode, ContentState, Farewell, OutcomeCode, Purpose, SharedAnswer, SharedItem, SharedOutcome,
    SharedRequest,
};
use tidegate_proto::{Machine as _, Name};
use tidegate_spool::shared::{Digest, Pair, Seen, look, md5_text};

use super::pki::Issued;
use super::relay::{Puller, Sign, Site, hello};
use super::{Node, Root};

/// Switches it on.
pub(crate) const ON: &str = "sync_shared = true\n";

/// A connection for shared files.
pub(crate) struct Syncing(pub(crate) Puller);

impl Site {
    /// Under an epoch.
    pub(crate) async fn try_sync(&self, node: &Node, who: &Issued, epoch: u64) -> Result<Syncing, Farewell> {
        let mut puller = self.dial(node, Some(who), hello(Purpose::Shared, epoch)).await;
        match puller.next().await {
            Ok(Sign::Welcome(_)) => Ok(Syncing(puller)),
            Ok(other) => panic!("{other:?}"),
            Err(LinkError::Closed(tidegate_proto::Close::Farewell(farewell))) => Err(farewell),
            Err(other) => panic!("{other}"),
        }
    }

    /// As the first sync server, under epoch 1.
    pub(crate) async fn sync(&self, node: &Node) -> Syncing {
        self.try_sync(node, &self.central, 1).await.unwrap_or_else(|refused| panic!("{refused}"))
    }
}

impl Syncing {
    pub(crate) async fn ask(&mut self, request: SharedRequest) -> SharedAnswer {
        self.request(request);
        self.answer().await
    }

    pub(crate) fn request(&mut self, request: SharedRequest) {
        let machine = self.0.link.machine();
        assert!(machine.may_request(&request), "too much at once");
        machine.request(request);
    }

    pub(crate) async fn answer(&mut self) -> SharedAnswer {
        match self.try_answer().await {
            Ok(answer) => answer,
            Err(farewell) => panic!("{farewell}"),
        }
    }

    /// The next answer, or why there is none.
    pub(crate) async fn try_answer(&mut self) -> Result<SharedAnswer, Farewell> {
        loop {
            if let Some(answer) = self.0.answers.pop_front() {
                return Ok(answer);
            }
            match self.0.next().await {
                Ok(_) => {}
                Err(LinkError::Closed(tidegate_proto::Close::Farewell(farewell))) => return Err(farewell),
                Err(other) => panic!("{other}"),
            }
        }
    }

    pub(crate) async fn outcome(&mut self) -> SharedOutcome {
        match self.answer().await {
            SharedAnswer::Outcome(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// The last outcome of the order and of all its bytes.
    pub(crate) async fn place(
        &mut self,
        file: &str,
        expected: Option<Digest>,
        bytes: &[u8],
    ) -> SharedOutcome {
        self.request(place(file, expected, bytes));
        let is_small = bytes.len() as u64 <= SHARED_AT_ONCE;
        let first = if is_small { None } else { Some(self.outcome().await) };
        let rest = match &first {
            Some(outcome) if outcome.code != OutcomeCode::GoOn => return outcome.clone(),
            Some(outcome) => &bytes[outcome.number as usize..],
            None => bytes,
        };
        let mut outcomes = Vec::new();
        for part in rest.chunks(SHARED_PART) {
            let request = SharedRequest::Part(part.into());
            while !self.0.link.machine().may_request(&request) {
                outcomes.push(self.outcome().await);
            }
            self.request(request);
        }
        while self.0.link.machine().outstanding() > 0 {
            outcomes.push(self.outcome().await);
        }
        let last = outcomes.into_iter().rev().find(|outcome| outcome.code != OutcomeCode::Ignored);
        last.expect("an outcome")
    }

    pub(crate) async fn remove(&mut self, file: &str, expected: Digest) -> SharedOutcome {
        self.request(SharedRequest::Remove { name: name(file), expected });
        self.outcome().await
    }

    /// All of a file; `None` if it is another.
    pub(crate) async fn fetch(&mut self, file: &str, digest: Digest) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            match self.ask(fetch(file, digest, all.len() as u64)).await {
                SharedAnswer::Content { state: ContentState::More, bytes } => all.extend(bytes),
                SharedAnswer::Content { state: ContentState::End, bytes } => {
                    all.extend(bytes);
                    return Some(all);
                }
                SharedAnswer::Content { state: ContentState::Another, .. } => return None,
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn summary(&mut self) -> Box<[u64; 1024]> {
        match self.ask(SharedRequest::Summary).await {
            SharedAnswer::Buckets(values) => values,
            other => panic!("{other:?}"),
        }
    }

    /// Everything in some buckets.
    pub(crate) async fn look_into(&mut self, buckets: Vec<u16>) -> Vec<SharedItem> {
        self.request(SharedRequest::LookInto(buckets));
        let mut all = Vec::new();
        loop {
            match self.answer().await {
                SharedAnswer::Items { items, last } => {
                    all.extend(items);
                    if last {
                        return all;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Says a frame that no machine would.
    pub(crate) fn say(&mut self, kind: u8, payload: &[u8]) {
        let output = self.0.link.machine().output();
        output.push(kind);
        output.extend(&u32::try_from(payload.len()).expect("a frame").to_be_bytes()[1..]);
        output.extend(payload);
    }

    /// Why the node ends it.
    pub(crate) async fn farewell(&mut self) -> CloseCode {
        loop {
            if let Err(farewell) = self.try_answer().await {
                return farewell.code;
            }
        }
    }
}

/// Something else lies there.
pub(crate) fn changed(there: Option<&[u8]>) -> SharedOutcome {
    SharedOutcome::changed(there.map(digest))
}

/// Why it was refused.
pub(crate) fn refusal(outcome: &SharedOutcome) -> &str {
    assert_eq!(outcome.code, OutcomeCode::Refused, "{outcome:?}");
    &outcome.text
}

pub(crate) fn name(name: &str) -> Name {
    Name::parse_listed(name.as_bytes()).expect("a name")
}

pub(crate) fn place(file: &str, expected: Option<Digest>, bytes: &[u8]) -> SharedRequest {
    SharedRequest::Place { name: name(file), expected, digest: digest(bytes), size: bytes.len() as u64 }
}

pub(crate) fn fetch(file: &str, digest: Digest, offset: u64) -> SharedRequest {
    SharedRequest::Fetch { name: name(file), digest, offset }
}

/// The SHA-256 of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let directory = tempfile::tempdir().expect("a directory");
    let pair = Pair { file: directory.path().join("a"), md5: directory.path().join("b") };
    fs::write(&pair.file, bytes).expect("writes");
    look(&pair).expect("looks").expect("is there").digest
}

/// What belongs into the `.md5` of some bytes.
pub(crate) fn md5(bytes: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a");
    fs::write(&file, bytes).expect("writes");
    md5_text(&fs::File::open(file).expect("opens")).expect("reads").to_vec()
}

/// Bytes that differ from each other.
pub(crate) fn noise(seed: u32, size: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

impl Root {
    /// Where a file and its digest lie.
    pub(crate) fn pair(&self, file: &str) -> Pair {
        let (stem, extension) = file.rsplit_once('.').expect("an extension");
        let directory = match extension {
            "conf" => "conf",
            "zip" => "collections",
            "rcmd" => "commands",
            other => panic!("{other}"),
        };
        let path = |below: &str, name: &str| -> PathBuf { self.path(below).join(name) };
        Pair { file: path(directory, file), md5: path("md5", &format!("{stem}.md5")) }
    }

    /// What lies there.
    pub(crate) fn seen(&self, file: &str) -> Option<Seen> {
        look(&self.pair(file)).expect("looks")
    }

    /// Whether these bytes lie there, with their digest beside them.
    pub(crate) fn holds(&self, file: &str, bytes: &[u8]) -> bool {
        let pair = self.pair(file);
        fs::read(pair.file).is_ok_and(|found| found == bytes)
            && fs::read(pair.md5).is_ok_and(|found| found == md5(bytes))
    }
}
