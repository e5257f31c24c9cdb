//! `shared list`: every pair with its state, and the versions that are kept.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::view::{Line, View};
use super::{Said, short, shown, whole};
use crate::cli::Failure;
use crate::report::{self, utc};
use crate::shared::decide::Why;
use crate::shared::names::kind_of;
use crate::shared::store::kept::Kept;

pub(super) fn run(view: &View, site: Option<&str>) -> Result<Said, Failure> {
    let lines = view.lines(site)?;
    let kept = view.kept(site)?;
    let conflicts = count(&kept);
    let pairs: Vec<_> = lines.iter().map(|line| document(line, &conflicts)).collect();
    let versions: Vec<_> = kept.iter().map(kept_document).collect();
    Ok(Said { text: text(&lines, &kept), document: json!({ "pairs": pairs, "kept": versions }) })
}

fn text(lines: &[Line], kept: &[Kept]) -> String {
    let conflicts = count(kept);
    let row = |line: &Line| {
        [
            line.site.clone(),
            shown(&line.name),
            line.agent.as_ref().map_or_else(|| "-".into(), |agent| shown(agent)),
            line.state.word().replace('-', " "),
            short(line.here),
            short(line.pair.there.map(|there| there.digest)),
            remarks(line, &conflicts).join("; "),
        ]
    };
    let header = ["SITE", "NAME", "AGENT", "STATE", "HERE", "THERE", "REMARKS"];
    let text = report::table(header, lines.iter().map(row));
    if kept.is_empty() {
        return text;
    }
    let row = |kept: &Kept| {
        [
            kept.id.to_string(),
            kept.site.clone(),
            shown(&kept.name),
            utc(kept.at),
            kept.why.as_str().into(),
            kept.size.to_string(),
            short(Some(kept.digest)),
        ]
    };
    let header = ["KEPT", "SITE", "NAME", "SINCE", "WHY", "BYTES", "CONTENT"];
    let table = report::table(header, kept.iter().map(row));
    format!("{text}\n{table}`tidegate-server shared restore KEPT` puts one back here.\n")
}

fn remarks(line: &Line, lost: &Conflicts<'_>) -> Vec<String> {
    let mut remarks: Vec<_> = line.remark.iter().cloned().collect();
    if conflicts(line, lost) > 0 {
        remarks.push("conflict: the other version is kept".into());
    }
    if !line.too.is_empty() {
        remarks.push(format!("claimed by {} too", line.too.join(", ")));
    }
    remarks
}

/// How many versions of each site's pairs lost a conflict.
type Conflicts<'a> = HashMap<(&'a str, &'a [u8]), u64>;

fn count(kept: &[Kept]) -> Conflicts<'_> {
    let mut conflicts = Conflicts::new();
    for kept in kept.iter().filter(|kept| kept.why == Why::Conflict) {
        *conflicts.entry((&kept.site, &kept.name)).or_default() += 1;
    }
    conflicts
}

fn conflicts(line: &Line, conflicts: &Conflicts<'_>) -> u64 {
    conflicts.get(&(&*line.site, &*line.name)).copied().unwrap_or(0)
}

fn document(line: &Line, lost: &Conflicts<'_>) -> Value {
    let pair = &line.pair;
    json!({
        "site": line.site,
        "name": shown(&line.name),
        "kind": kind_of(&line.name).map(|kind| kind.as_str()),
        "agent": line.agent.as_ref().map(|agent| shown(agent)),
        "state": line.state.word(),
        "remark": line.remark,
        "here": line.here.map(whole),
        "there": pair.there.map(|there| whole(there.digest)),
        "there_bytes": pair.there.map(|there| there.size),
        "there_fits": pair.there.map(|there| there.fits),
        "agreed": pair.agreed.map(whole),
        "refused": pair.refused.as_ref().map(|refusal| &refusal.words),
        "refused_at": pair.refused.as_ref().map(|refusal| refusal.at),
        "pushed": pair.wished,
        "conflicts": conflicts(line, lost),
        "claimed_too": line.too,
    })
}

fn kept_document(kept: &Kept) -> Value {
    json!({
        "id": kept.id,
        "site": kept.site,
        "name": shown(&kept.name),
        "since": kept.at,
        "why": kept.why.as_str(),
        "bytes": kept.size,
        "sha256": whole(kept.digest),
    })
}
