use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Chance. Only the generator's stream of 64-bit numbers is used, which is the same in every version of it.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Below `bound`, which must not be 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    /// From `low` to `high`, both inclusive.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in about `per_mille` of 1,000 cases.
    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// Half to one and a half times `ms`, at least 1.
    pub(super) fn about(&mut self, ms: u64) -> u64 {
        let ms = ms.max(2);
        self.between(ms / 2, ms + ms / 2)
    }

    /// One of them; there must be one.
    pub(super) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len() as u64) as usize]
    }

    /// So many hex digits, 64 at most.
    pub(super) fn hex(&mut self, digits: usize) -> String {
        let mut text: String = (0..digits.div_ceil(16)).map(|_| format!("{:016x}", self.0.next_u64())).collect();
        text.truncate(digits);
        text
    }

    /// A UUID, as clients make them.
    pub(super) fn uuid(&mut self) -> String {
        let bits = u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
    }
}
