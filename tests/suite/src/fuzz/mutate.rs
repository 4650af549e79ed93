//! Inputs from inputs: small changes of bytes, words of the format, two inputs crossed.

/// Numbers at which parsers go wrong.
const NUMBERS: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// Makes inputs.
pub struct Mutator {
    random: fastrand::Rng,
    corpus: Vec<Vec<u8>>,
    words: &'static [&'static str],
    /// Seeds that were not given as they are yet.
    fresh: usize,
}

impl Mutator {
    /// From seeds, of which there is at least one, and words of the format.
    pub fn new(seed: u64, mut seeds: Vec<Vec<u8>>, words: &'static [&'static str]) -> Self {
        if seeds.is_empty() {
            seeds.push(Vec::new());
        }
        Self {
            random: fastrand::Rng::with_seed(seed),
            fresh: seeds.len(),
            corpus: seeds,
            words,
        }
    }

    /// Takes an input in, to be changed further.
    pub fn keep(&mut self, input: Vec<u8>) {
        self.corpus.push(input);
    }

    /// The next input.
    pub fn next(&mut self, bytes_max: usize) -> Vec<u8> {
        if self.fresh > 0 {
            self.fresh -= 1;
            return self.corpus[self.fresh].clone();
        }
        let mut bytes = self.any().clone();
        for _ in 0..1 + self.random.usize(0..4) {
            self.change(&mut bytes);
        }
        bytes.truncate(bytes_max);
        bytes
    }

    fn any(&mut self) -> &Vec<u8> {
        let at = self.random.usize(0..self.corpus.len());
        &self.corpus[at]
    }

    /// A range within `len`, short more often than long.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.random.usize(0..=len);
        let most = (len - from).min(1 << self.random.usize(0..12));
        from..from + self.random.usize(0..=most)
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.random.usize(0..=bytes.len());
        match self.random.u8(0..10) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << self.random.u8(0..8),
            2 if at < bytes.len() => bytes[at] = self.random.u8(..),
            3 => {
                let range = self.range(bytes.len());
                bytes.drain(range);
            }
            4 => {
                let range = self.range(bytes.len());
                let copy = bytes[range].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                let other = self.any().clone();
                let range = self.range(other.len());
                bytes.splice(at..at, other[range].iter().copied());
            }
            6 if !self.words.is_empty() => {
                let word = self.words[self.random.usize(0..self.words.len())];
                bytes.splice(at..at, word.bytes());
            }
            7 => self.number(bytes, at),
            8 => bytes.truncate(at),
            _ => {
                let count = self.random.usize(1..9);
                let fresh: Vec<u8> = (0..count).map(|_| self.random.u8(..)).collect();
                bytes.splice(at..at, fresh);
            }
        }
    }

    /// Writes a number over what is there, in one of the ways formats do.
    fn number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let number = NUMBERS[self.random.usize(0..NUMBERS.len())];
        let raw: Vec<u8> = match self.random.u8(0..4) {
            0 => number.to_le_bytes()[..1 << self.random.usize(0..4)].to_vec(),
            1 => number.to_be_bytes()[8 - (1 << self.random.usize(0..4))..].to_vec(),
            2 => number.to_string().into_bytes(),
            _ => format!("{number:o}").into_bytes(),
        };
        let end = (at + raw.len()).min(bytes.len());
        bytes.splice(at..end, raw);
    }
}
