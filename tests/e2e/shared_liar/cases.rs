//! What a liar says to each request.

use sha2::{Digest as _, Sha256};
use tidegate_proto::Name;
use tidegate_proto::relay::{
    ContentState, OutcomeCode, SharedAnswer, SharedItem, SharedOutcome, SharedRequest,
};
use tidegate_tests::oracle::digest;
use tidegate_tests::shelf::conf;

/// What the liar says to a request instead of the truth.
pub(crate) enum Said {
    Truth,
    Answer(SharedAnswer),
    Twice(SharedAnswer),
    Raw(u8, Vec<u8>),
    Nothing,
}

pub(crate) struct Case {
    pub(crate) what: &'static str,
    /// What it offers beside its own, which is no site's but another's, or nobody's.
    pub(crate) foreign: Vec<String>,
    /// Whether the centre has another version of its own, which it wants to place.
    pub(crate) places: bool,
    /// By its own file's name.
    pub(crate) lie: fn(&SharedRequest, &str) -> Said,
}

/// What a liar offers of its own, of which it knows the name.
pub(crate) fn offer(own: &str) -> Vec<u8> {
    format!("what {own} offers").into_bytes()
}

/// What only the good site and the centre have.
pub(crate) const SECRET: &[u8] = b"a secret of the good site's";

/// The kind of the frame.
const ITEMS: u8 = 0x18;

fn content(state: ContentState, bytes: &[u8]) -> Said {
    Said::Answer(SharedAnswer::Content { state, bytes: bytes.to_vec() })
}

fn outcome(outcome: SharedOutcome) -> Said {
    Said::Answer(SharedAnswer::Outcome(outcome))
}

fn items(items: Vec<SharedItem>) -> Said {
    Said::Answer(SharedAnswer::Items { items, last: true })
}

pub(crate) fn all() -> Vec<Case> {
    use SharedRequest::{Fetch, LookInto, Part, Place, Remove, Summary};

    let case = |what, lie| Case { what, foreign: Vec::new(), places: false, lie };
    let placing = |what, lie| Case { places: true, ..case(what, lie) };
    let foreign = ["good", "unheard of"].map(conf).into_iter();
    let foreign = foreign.chain(["tools.zip", "restart.rcmd", "readme.conf"].map(str::to_owned)).collect();
    vec![
        Case { foreign, ..placing("it offers what is not its own", |_, _| Said::Truth) },
        case("the content is another one", |asked, _| match asked {
            Fetch { .. } => content(ContentState::End, b"something else"),
            _ => Said::Truth,
        }),
        case("the content does not end", |asked, _| match asked {
            Fetch { .. } => content(ContentState::More, &[b'x'; 16 * 1024]),
            _ => Said::Truth,
        }),
        case("the content ends too soon", |asked, _| match asked {
            Fetch { .. } => content(ContentState::End, b"what"),
            _ => Said::Truth,
        }),
        case("the content is another one for ever", |asked, _| match asked {
            Fetch { .. } => content(ContentState::Another, b""),
            _ => Said::Truth,
        }),
        case("the content is another site's, of which it knows the digest", |asked, own| match asked {
            LookInto(buckets) => items(item(own, SECRET, SECRET.len() as u64, buckets)),
            _ => Said::Truth,
        }),
        case("a file is larger than everything", |asked, own| match asked {
            LookInto(buckets) => items(item(own, &offer(own), u64::MAX, buckets)),
            _ => Said::Truth,
        }),
        case("a name leads out of the directory", |asked, _| match asked {
            LookInto(_) => Said::Raw(ITEMS, raw_item(b"../evil.conf")),
            _ => Said::Truth,
        }),
        case("a name is empty", |asked, _| match asked {
            LookInto(_) => Said::Raw(ITEMS, raw_item(b"")),
            _ => Said::Truth,
        }),
        case("an item is none", |asked, _| match asked {
            LookInto(_) => Said::Raw(ITEMS, vec![1, 2, 3]),
            _ => Said::Truth,
        }),
        case("an item lies in a bucket that was not asked for", |asked, _| match asked {
            LookInto(buckets) => {
                let elsewhere = (0..1024).filter(|bucket| !buckets.contains(bucket)).collect::<Vec<_>>();
                items(
                    (0..)
                        .find_map(|number| {
                            let found = item(&conf(&format!("agent {number}")), b"x", 1, &elsewhere);
                            (!found.is_empty()).then_some(found)
                        })
                        .expect("some name falls there"),
                )
            }
            _ => Said::Truth,
        }),
        case("an answer is of another kind", |asked, _| match asked {
            Summary => items(Vec::new()),
            _ => Said::Truth,
        }),
        case("an answer comes twice", |asked, _| match asked {
            Summary => Said::Twice(SharedAnswer::Buckets(Box::new([7; 1024]))),
            _ => Said::Truth,
        }),
        placing("what is placed is done and not there", |asked, _| match asked {
            Place { .. } | Part(_) | Remove { .. } => outcome(SharedOutcome::done()),
            _ => Said::Truth,
        }),
        placing("more bytes are wanted than there are", |asked, _| match asked {
            Place { size, .. } => outcome(SharedOutcome::go_on(size + 1)),
            _ => Said::Truth,
        }),
        placing("something else is there for ever", |asked, _| match asked {
            Place { .. } => outcome(SharedOutcome::changed(Some([3; 32]))),
            _ => Said::Truth,
        }),
        placing("it refuses with words that move the cursor", |asked, _| match asked {
            Place { .. } => outcome(SharedOutcome::refused("\u{1b}[2J".repeat(50))),
            _ => Said::Truth,
        }),
        placing("nothing that comes has its digest", |asked, _| match asked {
            Place { .. } => outcome(SharedOutcome { code: OutcomeCode::Damaged, ..SharedOutcome::done() }),
            _ => Said::Truth,
        }),
        case("it says nothing at all", |_, _| Said::Nothing),
    ]
}

/// As an item, if it falls into one of these buckets.
pub(crate) fn item(name: &str, bytes: &[u8], size: u64, buckets: &[u16]) -> Vec<SharedItem> {
    let first = Sha256::digest(name);
    let bucket = u16::from_be_bytes([first[0], first[1]]) >> 6;
    let name = Name::parse_listed(name.as_bytes()).expect("a good name");
    let item = SharedItem { name, digest: digest(bytes), size, fits: true };
    if buckets.contains(&bucket) { vec![item] } else { Vec::new() }
}

/// The last items, of which there is one: of that name.
fn raw_item(name: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a short name");
    [&[1, 1][..], &8_u64.to_be_bytes(), &[9; 32], &[length], name].concat()
}
