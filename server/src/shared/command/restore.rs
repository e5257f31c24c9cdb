//! `shared restore`: puts a kept version back into the central's directory, from where it travels as any change does.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::json;
use tidegate_spool::shared::{Done, Keep, Ready, Seen, Unfinished, Workshop};

use super::view::View;
use super::{Said, short, shown};
use crate::cli::Failure;
use crate::ledger::seconds;
use crate::report;
use crate::shared::decide::Why;
use crate::shared::store::kept::Kept;
use crate::shared::{objects, store};

/// Where this command makes a pair ready: the server's own directory for that is the server's alone.
const WORKSHOP: &str = ".tidegate-restore";

pub(super) fn run(view: &View, which: &OsString, site: Option<&str>, yes: bool) -> Result<Said, Failure> {
    if let Some(site) = site {
        view.check(site)?;
    }
    let kept = meant(view, which, site)?;
    let name = shown(&kept.name);
    let now = view.here.get(&kept.name);
    let word = if now.is_some_and(|now| now.digest == kept.digest) {
        "left"
    } else {
        if now.is_some() && !yes {
            return Err(Failure::Usage(format!(
                "what {name} holds here now would be overwritten, and go to its site so; say --yes if that is to be (it is \
                 kept)"
            )));
        }
        put_back(view, &kept, now)?;
        "restored"
    };
    let text = if word == "left" {
        format!("{} {name}: left: that is what lies here already\n", kept.id)
    } else {
        format!(
            "{} {name}: restored here, as {}\nThe server gives it to its site at its next look at shared files.\n",
            kept.id,
            short(Some(kept.digest))
        )
    };
    let document = json!({ "id": kept.id, "site": kept.site, "name": name, "outcome": word });
    Ok(Said { text, document: json!({ "pairs": [document] }) })
}

/// The version that is meant.
fn meant(view: &View, which: &OsString, site: Option<&str>) -> Result<Kept, Failure> {
    let name = report::unescape(which);
    let id: Option<i64> = which.to_str().and_then(|text| text.parse().ok());
    let mut kept = view.kept(site)?;
    kept.retain(|kept| Some(kept.id) == id || *kept.name == *name);
    // They come newest first.
    let other = kept.iter().find(|other| other.site != kept[0].site);
    if let (Some(other), None) = (other, id) {
        return Err(Failure::Usage(format!(
            "versions of {} are kept of {} and of {}; say --site, or which by its number",
            shown(&name),
            kept[0].site,
            other.site
        )));
    }
    kept.into_iter().next().ok_or_else(|| {
        Failure::Other(format!(
            "no version of {} is kept (any more): `tidegate-server shared list` shows what is",
            shown(&name)
        ))
    })
}

fn put_back(view: &View, kept: &Kept, now: Option<Seen>) -> Result<(), Failure> {
    let name = shown(&kept.name);
    let content = read(view, kept)?;
    let pair =
        view.here.pair(&kept.name).ok_or_else(|| Failure::Other(format!("{name} is no shared file")))?;
    if let Some(now) = now {
        // The loss of this one can be undone as well.
        if !objects::keep_beside(&view.memory, &pair.file, &now.digest).map_err(cannot("keep", &pair.file))? {
            return Err(changed(&name));
        }
        let (of, what) = ((kept.site.as_str(), &*kept.name), (now.digest, now.size));
        view.memory_of()?.write(|batch| batch.keep(of, what, Why::Replaced, seconds(SystemTime::now())))?;
    }
    let room = Room::make(&view.directory)?;
    let workshop = Workshop::open(&room.0, Keep::Recent, &|_| None).map_err(cannot("use", &room.0))?;
    let ready = ready(&workshop, kept, &content).map_err(cannot("write in", &room.0))?;
    let expected = now.map(|now| now.digest);
    match workshop.place(&kept.name, &pair, expected, ready) {
        Ok(Done::Done | Done::Already) => Ok(()),
        Ok(Done::Changed(_)) => Err(changed(&name)),
        Err(error) => Err(cannot("write", &pair.file)(error.into())),
    }
}

fn read(view: &View, kept: &Kept) -> Result<Vec<u8>, Failure> {
    let content = objects::read(&view.memory, &kept.digest, kept.size)
        .map_err(cannot("read the contents in", &view.memory))?;
    content.ok_or_else(|| {
        Failure::Other(format!(
            "the content of {} is gone, or damaged: it cannot be restored",
            shown(&kept.name)
        ))
    })
}

fn ready(workshop: &Workshop, kept: &Kept, content: &[u8]) -> std::io::Result<Ready> {
    let mut partial = workshop.begin(kept.digest, kept.size)?;
    partial.write(content)?;
    partial.finish().map_err(|error| match error {
        Unfinished::Io(error) => error,
        other => std::io::Error::other(other.to_string()),
    })
}

fn changed(name: &str) -> Failure {
    Failure::Temporary(format!("{name} has just been changed here; look at it, and try again"))
}

fn cannot(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let what = format!("cannot {what} {}", path.display());
    move |error| Failure::io(format!("{what}: {error}"), &error)
}

/// A directory of this command's own, on the file system of the pairs; gone with it.
struct Room(PathBuf);

impl Room {
    fn make(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(format!("{WORKSHOP}-{}", std::process::id()));
        store::make_private(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What stays of it is hidden, and in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}
