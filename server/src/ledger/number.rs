//! Package numbers as the ledger keeps them: sixteen bytes, the run and then the counter, so that SQL orders them as
//! numbers are ordered. SQLite's own integers have a sign, and a site may use all 64 bits.

use tidegate_proto::relay::Number;

/// A whole number.
pub(super) fn bytes(number: Number) -> [u8; 16] {
    (u128::from(number.run) << 64 | u128::from(number.counter)).to_be_bytes()
}

/// What [`bytes`] made.
pub(super) fn of(bytes: [u8; 16]) -> Number {
    let ([run, counter], _) = bytes.as_chunks::<8>() else {
        unreachable!("sixteen bytes are two times eight")
    };
    Number { run: u64::from_be_bytes(*run), counter: u64::from_be_bytes(*counter) }
}

/// Numbers one behind the other, of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) run: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Row {
    /// Ascending numbers as rows, each as long as it can be.
    pub(crate) fn of(numbers: impl IntoIterator<Item = Number>) -> Vec<Self> {
        let mut rows: Vec<Self> = Vec::new();
        for Number { run, counter } in numbers {
            match rows.last_mut() {
                Some(row) if row.run == run && row.last.checked_add(1) == Some(counter) => row.last = counter,
                _ => rows.push(Self::one(Number { run, counter })),
            }
        }
        rows
    }

    pub(super) fn one(Number { run, counter }: Number) -> Self {
        Self { run, first: counter, last: counter }
    }

    pub(super) fn first(&self) -> Number {
        Number { run: self.run, counter: self.first }
    }

    pub(super) fn last(&self) -> Number {
        Number { run: self.run, counter: self.last }
    }

    /// How many numbers it has.
    pub(super) fn length(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sort_as_numbers_do() {
        let numbers = [(0, 0), (0, u64::MAX), (1, 0), (1 << 63, 5), (u64::MAX, u64::MAX)]
            .map(|(run, counter)| Number { run, counter });
        assert!(numbers.map(bytes).is_sorted());
        assert_eq!(numbers.map(bytes).map(of), numbers);
    }

    #[test]
    fn a_row_ends_where_a_number_is_missing_or_another_run_begins() {
        let numbers = [(1, 4), (1, 5), (1, 7), (2, 8), (2, u64::MAX)];
        let rows = Row::of(numbers.map(|(run, counter)| Number { run, counter }));
        let row = |run, first, last| Row { run, first, last };
        assert_eq!(rows, [row(1, 4, 5), row(1, 7, 7), row(2, 8, 8), row(2, u64::MAX, u64::MAX)]);
    }
}
