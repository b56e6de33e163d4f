//! What the comparisons share.

use std::sync::{LazyLock, Mutex, PoisonError};

use zoo_kernels::{Onto, isa, random};

/// Both ways a result can land.
pub const BOTH: [Onto; 2] = [Onto::Zero, Onto::Value];

/// What numbers a case is made of.
#[derive(Clone, Copy, Debug)]
pub enum Numbers {
    /// Normally distributed.
    Ordinary,
    /// Zeros of both signs, subnormals, tiny, huge and ordinary ones.
    Extreme,
}

/// Both kinds.
pub const KINDS: [Numbers; 2] = [Numbers::Ordinary, Numbers::Extreme];

impl Numbers {
    /// `count` numbers; the same for the same seed.
    pub fn take(self, seed: u64, count: usize) -> Vec<f32> {
        (0..count as u64).map(|i| self.one(seed, i)).collect()
    }

    fn one(self, seed: u64, i: u64) -> f32 {
        let ordinary = random::normal(seed, 0, i) as f32;
        let choice = random::bits(seed, 1, i);
        match self {
            Numbers::Ordinary => ordinary,
            Numbers::Extreme => match choice % 12 {
                0 => 0.0,
                1 => -0.0,
                2 => ordinary * 1e-40,
                3 => ordinary * f32::MIN_POSITIVE,
                4 => ordinary * 1e-20,
                5 => ordinary * 1e9,
                6 => ordinary * 100.0,
                _ => ordinary,
            },
        }
    }
}

/// `count` ordinary numbers.
pub fn ordinary(seed: u64, count: usize) -> Vec<f32> {
    Numbers::Ordinary.take(seed, count)
}

/// `count` zeros.
pub fn zeros(count: usize) -> Vec<f32> {
    vec![0.0; count]
}

/// `count` token ids below `vocab`, unevenly spread.
pub fn tokens(seed: u64, count: usize, vocab: usize) -> Vec<u32> {
    let skewed = |i| random::uniform(seed, 2, i).powi(3) * vocab as f64;
    (0..count as u64).map(|i| skewed(i) as u32).collect()
}

/// The instruction set belongs to the process, so comparisons take turns.
static TURN: Mutex<()> = Mutex::new(());

static POOLS: LazyLock<Vec<rayon::ThreadPool>> = LazyLock::new(|| {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    [1, 2, 3, 7].into_iter().map(pool).collect()
});

/// Runs what forces instruction sets itself, while nobody else does.
pub fn alone(run: impl FnOnce()) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    run();
}

/// Runs `check` on every instruction set and pool, telling it where it runs.
pub fn everywhere(check: impl Fn(&str) + Sync) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for isa in isa::available() {
        isa::force(isa).expect("it is available");
        for pool in POOLS.iter() {
            pool.install(|| check(&format!("{isa}, {} threads", pool.current_num_threads())));
        }
    }
}

/// Asserts that `fast` leaves in the buffers, everywhere, the bits `slow` does.
pub fn agree_from<const N: usize>(
    what: &str,
    buffers: [Vec<f32>; N],
    fast: impl Fn(&mut [Vec<f32>; N]) + Sync,
    slow: impl Fn(&mut [Vec<f32>; N]),
) {
    let mut expected = buffers.clone();
    slow(&mut expected);
    everywhere(|place| {
        let mut found = buffers.clone();
        fast(&mut found);
        for (n, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_bits(&format!("{what}, result {n}, {place}"), found, expected);
        }
    });
}

/// Asserts equal bits; any NaN equals any other.
pub fn assert_bits(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan());
    if let Some(i) = found.iter().zip(expected).position(differs) {
        panic!("{what}: element {i} is {:e}, not {:e}", found[i], expected[i]);
    }
}

/// `agree!(what; buffer = initial, ...; module::operator(arguments))` calls the
/// operator and its reference with the same arguments and compares the buffers.
macro_rules! agree {
    ($what:expr; $($buffer:ident = $initial:expr),+; $module:ident::$operator:ident($($argument:expr),* $(,)?)) => {
        $crate::support::agree_from(
            &format!("{} {}", stringify!($operator), $what),
            [$($initial),+],
            |[$($buffer),+]| zoo_kernels::$module::$operator($($argument),*),
            |[$($buffer),+]| zoo_kernels::reference::$module::$operator($($argument),*),
        )
    };
}

pub(crate) use agree;
