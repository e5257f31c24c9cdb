//! Conversations changed at random, and what a server may make of them, judged without any server's parser.

use tidegate_tests::seed::Seed;

/// Whole conversations that a mutation starts from; `{}` is a tag of its own, of five bytes.
const BASES: [&str; 7] = [
    "SEND <{}.1700000000.data> SIZE 12\nhello, {}QUIT\n",
    "SEND <{}-a.1.data> SIZE 8\n{}abcSEND <{}-b.1.data> SIZE 8\n{}defQUIT\n",
    "SEND <{}.conf> SIZE 10\n{}56789RECV <{}.conf>\nRECV OK\nQUIT\n",
    "ZSEND <{}.1.data> SIZE 20\nPK\u{3}\u{4}0123456789abcdefQUIT\n",
    "RECV <{}.conf>\nRECV OK\nZRECV <{}.md5>\nZRECV OK\nQUIT\n",
    "LS <.>\nLS OK\nMV <{}.1.data>\nMV OK\nQUIT\n",
    "PASS 0123456789abcdef0123456789abcdef\nSEND <{}.2.data> SIZE 6\n{}xQUIT\n",
];

pub(crate) fn mutation(tag: &str, seed: &mut Seed) -> Vec<u8> {
    let mut bytes = seed.pick(&BASES).replace("{}", tag).into_bytes();
    for _ in 0..seed.below(4) {
        let at = seed.below(bytes.len() as u64 + 1) as usize;
        let to = (at + seed.below(40) as usize).min(bytes.len());
        match seed.below(9) {
            0 if at < bytes.len() => bytes[at] = seed.number() as u8,
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let noise = (1 + seed.below(60)) as usize;
                bytes.splice(at..at, seed.bytes(noise));
            }
            5 => drop(bytes.splice(at..at, std::iter::repeat_n(b'A', 3000))),
            6 => {
                let special =
                    *seed.pick(&[&b"\n"[..], b"\r\n", b"\0", b">", b"<", b"../", b" SIZE ", b"QUIT\n"]);
                bytes.splice(at..at, special.iter().copied());
            }
            7 => {
                let number =
                    *seed.pick(&["0", "1", "-1", "2000000", "2000001", "4294967296", "99999999999999999999"]);
                if let Some(size) = bytes.windows(5).position(|window| window == b"SIZE ") {
                    let end = bytes[size..]
                        .iter()
                        .position(|byte| *byte == b'\n')
                        .map_or(bytes.len(), |end| size + end);
                    bytes.splice(size + 5..end, number.bytes());
                }
            }
            _ => bytes.rotate_left(at % 8),
        }
        if bytes.is_empty() {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// Everything that could be meant by these bytes, wherever a command may start: names and bodies of plain uploads.
pub(crate) fn could_be_stored(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pattern = regex::bytes::Regex::new(r"(?-u)SEND <([^\n]*)> SIZE ([0-9]+)\n").expect("a pattern");
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(captures) = pattern.captures_at(bytes, from) {
        let whole = captures.get(0).expect("the match");
        let size: usize = std::str::from_utf8(&captures[2]).expect("digits").parse().unwrap_or(usize::MAX);
        if let Some(body) = whole.end().checked_add(size).and_then(|end| bytes.get(whole.end()..end)) {
            found.push((captures[1].to_vec(), body.to_vec()));
        }
        from = whole.start() + 1;
    }
    found
}

/// How many uploads these replies call stored: an `OK` for the offer and one for the body.
pub(crate) fn called_stored(replies: &[u8]) -> usize {
    let mut accepted = false;
    let mut stored = 0;
    for line in replies.split(|byte| *byte == b'\n') {
        let ok = line == b"SEND OK" || line == b"ZSEND OK";
        stored += usize::from(accepted && ok);
        accepted = ok && !accepted;
    }
    stored
}
