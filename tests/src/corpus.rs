//! Data files as the real agent (`pandora_agent` 4.1) writes them, element by element, for figures that depend on how
//! well they compress.
//!
//! There are a few kinds of agents, as in a fleet that one team configures: those of a kind have the same modules, and each
//! a few of its own. Values walk at random from file to file: whole numbers, fractions, counters, and states that hardly
//! ever change. The agents report in turns. Of 100 agents and 12,000 bytes a file `zstd -1` makes about 7.5 : 1 file by
//! file and 31 : 1 of all files as one stream. The same seed gives the same files.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use time::OffsetDateTime;

use crate::seed::Seed;

const MEASURES: [&str; 16] = [
    "CPU",
    "Memory",
    "Swap",
    "Disk",
    "Interface",
    "Process",
    "Queue",
    "Session",
    "Temperature",
    "Fan",
    "Pump",
    "Valve",
    "Line",
    "Buffer",
    "Service",
    "Database",
];
const ASPECTS: [(&str, &str); 16] = [
    ("load", "Average load of the last minute"),
    ("used", "Share in use (%)"),
    ("free", "Free space in MB"),
    ("errors", "Errors since the last restart"),
    ("latency", "Time to answer in milliseconds"),
    ("input", "Bytes received per second"),
    ("output", "Bytes sent per second"),
    ("count", "Number of active entries"),
    ("state", "Whether it works at all"),
    ("level", "Level as the sensor reports it"),
    ("speed", "Revolutions per minute"),
    ("flow", "Flow in litres per minute"),
    ("pressure", "Pressure in kPa"),
    ("voltage", "Supply voltage"),
    ("backlog", "Entries that wait to be worked off"),
    ("age", "Age of the oldest entry in seconds"),
];

/// The first file's time: 28 May 2026.
const FIRST: usize = 1_780_000_000;

/// Seconds between two files of an agent.
const INTERVAL: usize = 300;

/// Kinds of agents; those of a kind share all modules (more than a file has room for) but a few of their own.
const KINDS: usize = 7;
const MODULES: usize = 80;
const OWN: usize = 3;

/// A source of files.
#[derive(Debug)]
pub struct Corpus {
    seed: Seed,
    agents: Vec<Agent>,
}

#[derive(Debug)]
struct Agent {
    name: String,
    description: String,
    address: Ipv4Addr,
    modules: Vec<Module>,
}

#[derive(Debug, Clone)]
struct Module {
    /// Everything before the value.
    head: String,
    walk: Walk,
    value: i64,
}

/// How a value changes from file to file.
#[derive(Debug, Clone, Copy)]
enum Walk {
    /// A whole number, by up to so much.
    Whole(u64),
    /// Hundredths, by up to so many.
    Fraction(u64),
    /// 1, and once in a while 0.
    State,
    /// It only grows, by up to so much.
    Counter(u64),
}

impl Corpus {
    /// `agents` agents, each with modules of its own.
    pub fn new(seed: u64, agents: usize) -> Corpus {
        let mut seed = Seed::of(seed);
        let kinds: Vec<_> = (0..KINDS).map(|_| modules(MODULES, &mut seed)).collect();
        let agents = (0..agents).map(|index| Agent::new(index, &kinds[index % KINDS], &mut seed)).collect();
        Corpus { seed, agents }
    }

    /// File `index`, to be asked for in this order: its name and about `size` bytes.
    pub fn file(&mut self, index: usize, size: usize) -> (String, Vec<u8>) {
        let (agents, seed) = (self.agents.len(), &mut self.seed);
        let agent = &mut self.agents[index % agents];
        let time = FIRST + INTERVAL * index / agents;
        let mut xml = agent.head(time);
        let mut modules = agent.modules.iter_mut();
        while xml.len() < size.saturating_sub(120)
            && let Some(module) = modules.next()
        {
            module.write(&mut xml, seed);
        }
        xml.push_str("</agent_data>\n");
        (format!("{}.{time}.data", agent.name), xml.into_bytes())
    }
}

/// Bytes that no compression makes smaller.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    Seed::of(seed).bytes(size)
}

/// How many bytes `zstd -1` makes of these.
pub fn compressed(bytes: &[u8]) -> usize {
    let mut packed = vec![0; zstd_safe::compress_bound(bytes.len())];
    zstd_safe::compress(&mut packed[..], bytes, 1).expect("there is room")
}

impl Agent {
    fn new(index: usize, kind: &[Module], seed: &mut Seed) -> Agent {
        let name = format!("plant-host-{index:03}");
        let description = format!("{} of cell {}", MEASURES[index % MEASURES.len()], index / 8);
        let address = Ipv4Addr::new(10, 20, (index / 256) as u8, index as u8);
        let mut modules = [&modules(OWN, seed), kind].concat();
        for module in &mut modules {
            module.value = module.walk.start(seed);
        }
        Agent { name, description, address, modules }
    }

    fn head(&self, time: usize) -> String {
        let moment = OffsetDateTime::from_unix_timestamp(time as i64).expect("the clock has room for it");
        let (date, (hour, minute, second)) = (moment.date(), moment.to_hms());
        format!(
            "<?xml version='1.0' encoding='iso-8859-1'?>\n<agent_data description='{}' group='Servers' os_name='Linux' \
             os_version='Debian GNU/Linux 12' interval='300' version='4.1(Build 130923)' timestamp='{}/{:02}/{:02} \
             {hour:02}:{minute:02}:{second:02}' agent_name='{}' timezone_offset='0' address='{}'>\n",
            self.description,
            date.year(),
            u8::from(date.month()),
            date.day(),
            self.name,
            self.address,
        )
    }
}

fn modules(count: usize, seed: &mut Seed) -> Vec<Module> {
    (0..count).map(|position| Module::new(position, seed)).collect()
}

impl Walk {
    fn start(self, seed: &mut Seed) -> i64 {
        match self {
            Walk::Whole(_) => seed.below(100) as i64,
            Walk::Fraction(_) => seed.below(10_000) as i64,
            Walk::State => 1,
            Walk::Counter(_) => seed.below(1_000_000) as i64,
        }
    }
}

impl Module {
    fn new(position: usize, seed: &mut Seed) -> Module {
        let measure = MEASURES[seed.below(16) as usize];
        let (aspect, description) = ASPECTS[seed.below(16) as usize];
        let unit = seed.below(8);
        let (walk, kind) = match seed.below(8) {
            0..=2 => (Walk::Whole(8), "generic_data"),
            3 => (Walk::Fraction(50), "generic_data"),
            4..=6 => (Walk::State, "generic_proc"),
            _ => (Walk::Counter(1_000), "generic_data_inc"),
        };
        let mut head = String::new();
        let _ = write!(
            head,
            "\t<module>\n\t<name><![CDATA[{measure} {unit} {aspect}]]></name>\n\
             \t<description><![CDATA[{description}]]></description>\n\t<type>{kind}</type>\n"
        );
        if position % 4 == 1 {
            let most = 100 * (1 + seed.below(10));
            let _ = write!(head, "\t<min>0</min>\n\t<max>{most}</max>\n");
        }
        if position % 4 == 3 {
            let limit = 10 * (5 + seed.below(4));
            let _ = write!(
                head,
                "\t<min_critical>{}</min_critical>\n\t<max_critical>100</max_critical>\n\
                 \t<min_warning>{limit}</min_warning>\n\t<max_warning>{}</max_warning>\n",
                limit + 10,
                limit + 9,
            );
        }
        head.push_str("\t<data><![CDATA[");
        Module { head, walk, value: 0 }
    }

    fn write(&mut self, xml: &mut String, seed: &mut Seed) {
        let step = |most: u64, seed: &mut Seed| seed.below(2 * most + 1) as i64 - most as i64;
        xml.push_str(&self.head);
        let _ = match self.walk {
            Walk::Whole(most) => {
                self.value = (self.value + step(most, seed)).abs();
                write!(xml, "{}", self.value)
            }
            Walk::Fraction(most) => {
                self.value = (self.value + step(most, seed)).abs();
                write!(xml, "{}.{:02}", self.value / 100, self.value % 100)
            }
            Walk::State => write!(xml, "{}", u8::from(!seed.once_in(500))),
            Walk::Counter(most) => {
                self.value += seed.below(most) as i64;
                write!(xml, "{}", self.value)
            }
        };
        xml.push_str("]]></data>\n\t</module>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_compresses_as_the_figures_assume() {
        let mut corpus = Corpus::new(7, 100);
        let files: Vec<_> = (0..2_000).map(|index| corpus.file(index, 12_000).1).collect();
        let stream = files.concat();
        let alone = files.iter().map(|file| compressed(file)).sum();
        let [alone, together] =
            [alone, compressed(&stream)].map(|packed| stream.len() as f64 / packed as f64);
        assert!((7.0..8.0).contains(&alone), "{alone:.2} : 1 file by file");
        assert!((29.0..33.0).contains(&together), "{together:.2} : 1 as one stream");
        assert!((11_800..12_200).contains(&(stream.len() / files.len())));
    }

    #[test]
    fn the_same_seed_gives_the_same_files_and_no_two_are_equal() {
        let files = |seed| {
            let mut corpus = Corpus::new(seed, 10);
            (0..50).map(|index| corpus.file(index, 3_000)).collect::<Vec<_>>()
        };
        assert_eq!(files(1), files(1));
        assert_ne!(files(1), files(2));
        let mut names: Vec<_> = files(1).into_iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 50);
    }
}
