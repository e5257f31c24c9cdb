//! The reference's command line: single letters, a value attached or in the next argument, clusters of flags.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

/// What the command line asked for, with the reference's defaults.
pub(crate) struct Options {
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) connections: usize,
    pub(crate) directory: PathBuf,
    pub(crate) filters: String,
    pub(crate) insecure: bool,
    pub(crate) overwrite: bool,
    pub(crate) max_size: u64,
    pub(crate) password: Option<String>,
    pub(crate) retries: u32,
    pub(crate) wait_seconds: u64,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: PathBuf,
    pub(crate) authority: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Options> {
        let mut options = Options {
            address: "0.0.0.0".into(),
            port: 41121,
            connections: 10,
            directory: PathBuf::new(),
            filters: String::new(),
            insecure: false,
            overwrite: false,
            max_size: 2_000_000,
            password: None,
            retries: 3,
            wait_seconds: 1,
            certificate: None,
            key: PathBuf::new(),
            authority: None,
        };
        let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
        while let Some(argument) = arguments.next() {
            let Some(letters) = argument.strip_prefix('-') else { bail!("unexpected argument {argument}") };
            for (at, letter) in letters.char_indices() {
                if options.flag(letter) {
                    continue;
                }
                let attached = &argument[1 + at + letter.len_utf8()..];
                let value = match attached {
                    "" => arguments.next().with_context(|| format!("-{letter} needs a value"))?,
                    attached => attached.to_owned(),
                };
                options.value(letter, value)?;
                break;
            }
        }
        ensure!(options.directory.is_dir(), "-s must name an existing directory");
        Ok(options)
    }

    fn flag(&mut self, letter: char) -> bool {
        match letter {
            'I' => self.insecure = true,
            'o' => self.overwrite = true,
            'v' | 'V' => {}
            _ => return false,
        }
        true
    }

    fn value(&mut self, letter: char, value: String) -> anyhow::Result<()> {
        let number = || value.parse::<u64>().with_context(|| format!("-{letter} {value} is not a number"));
        match letter {
            'a' => self.address = value,
            'p' => self.port = u16::try_from(number()?)?,
            'c' => self.connections = usize::try_from(number()?)?,
            's' => self.directory = value.into(),
            'i' => self.filters = value,
            'm' => self.max_size = number()?,
            'x' => self.password = Some(value),
            'r' => self.retries = u32::try_from(number()?)?,
            't' => self.wait_seconds = number()?,
            'e' => self.certificate = Some(value.into()),
            'k' => self.key = value.into(),
            'f' => self.authority = Some(value.into()),
            _ => bail!("option -{letter} is not reproduced by this double"),
        }
        Ok(())
    }
}
