//! Agent data files: different agents with different modules, values that walk at random from file to file.

use std::fmt::Write as _;

/// A source of files: the same ones for the same seed.
pub(crate) struct Corpus {
    state: u64,
    agents: Vec<Agent>,
}

struct Agent {
    name: String,
    modules: Vec<(String, f64)>,
}

const KINDS: [&str; 12] = [
    "CPU Load",
    "Memory_Used",
    "Disk_free",
    "Net_in",
    "Net_out",
    "Proc_count",
    "Load_Average",
    "Temperature",
    "Pressure",
    "Flow",
    "Queue_depth",
    "Latency",
];

impl Corpus {
    /// `agents` agents, each with modules of its own.
    pub(crate) fn new(seed: u64, agents: usize) -> Corpus {
        let mut corpus = Corpus { state: seed | 1, agents: Vec::new() };
        for index in 0..agents {
            let modules = (0..24 + corpus.below(16))
                .map(|module| {
                    let kind = KINDS[corpus.below(KINDS.len() as u64) as usize];
                    (format!("{kind}_{module}"), corpus.below(10_000) as f64 / 100.0)
                })
                .collect();
            corpus.agents.push(Agent { name: format!("plant-host-{index:03}"), modules });
        }
        corpus
    }

    /// File `index`: its name and about `size` bytes.
    pub(crate) fn file(&mut self, index: usize, size: usize) -> (String, Vec<u8>) {
        let agent = index % self.agents.len();
        let epoch = 1_780_000_000 + index as u64;
        let mut xml = format!(
            "<?xml version='1.0' encoding='UTF-8'?>\n<agent_data agent_name='{}' timestamp='{epoch}' interval='300' \
             os_name='Linux' os_version='Debian 12' version='7.0NG.777'>\n",
            self.agents[agent].name
        );
        let mut module = 0;
        while xml.len() < size.saturating_sub(16) {
            let step = self.below(200) as f64 / 100.0 - 1.0;
            let count = self.agents[agent].modules.len();
            let (name, value) = &mut self.agents[agent].modules[module % count];
            *value += step;
            let _ = writeln!(
                xml,
                "<module>\n  <name><![CDATA[{name}]]></name>\n  <type><![CDATA[generic_data]]></type>\n  \
                 <description><![CDATA[{name} of the unit]]></description>\n  <unit><![CDATA[%]]></unit>\n  \
                 <data><![CDATA[{value:.2}]]></data>\n</module>"
            );
            module += 1;
        }
        xml.push_str("</agent_data>\n");
        (format!("{}.{epoch}.data", self.agents[agent].name), xml.into_bytes())
    }

    /// xorshift64*: the figures need no better.
    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}
