//! Which instruction set the operators run on. It changes their speed, never
//! their bits.
//!
//! The choice belongs to the process: [`active`] detects the widest set once,
//! [`force`] overrides it (tests, fault hunting). Every operator looks at it
//! anew, so a change takes effect with the next call.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

pub use crate::self_test::{SelfTestError, self_test};

/// An instruction set the operators are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// The plain body of each operator: all there is outside x86-64. On x86-64
    /// it still uses the fma instruction where the CPU has one, for speed.
    Scalar,
    /// x86-64 with AVX2 and FMA: 8 lanes.
    Avx2,
    /// x86-64 with AVX-512 F, VL, BW and DQ: 16 lanes.
    Avx512,
    /// AVX-512 with its bf16 conversions, and the AMX tile unit for the products of the profile bf16-exact.
    Amx,
}

/// Every instruction set, narrowest first.
const ALL: [Isa; 4] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Amx];

/// What [`Level`] the process runs at; `UNKNOWN` until the first question.
static LEVEL: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;

/// The compiled body a call goes to: [`Isa`], with `Scalar` split by whether
/// the fma instruction exists. Without it `mul_add` calls a routine that is
/// about fifty times slower and gives the same bits (IEEE 754 fixes them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Level {
    Plain = 1,
    Fma = 2,
    Avx2 = 3,
    Avx512 = 4,
}

/// What [`LEVEL`] holds for [`Isa::Amx`]: the bodies of `Level::Avx512`, and the tiles.
const AMX: u8 = 5;

/// The instruction set in use.
pub fn active() -> Isa {
    match level() {
        Level::Plain | Level::Fma => Isa::Scalar,
        Level::Avx2 => Isa::Avx2,
        Level::Avx512 if tiles() => Isa::Amx,
        Level::Avx512 => Isa::Avx512,
    }
}

/// Whether the active instruction set has the tile unit.
pub(crate) fn tiles() -> bool {
    // The question detects what there is, if it is the first.
    level() == Level::Avx512 && LEVEL.load(Ordering::Relaxed) == AMX
}

/// The instruction sets this machine can run, narrowest first.
pub fn available() -> Vec<Isa> {
    ALL.into_iter().filter(|isa| supported(*isa)).collect()
}

/// Makes the whole process use `isa` from the next operator on.
pub fn force(isa: Isa) -> Result<(), Unsupported> {
    if !supported(isa) {
        return Err(Unsupported(isa));
    }
    LEVEL.store(code(isa), Ordering::Relaxed);
    Ok(())
}

/// This machine lacks the instruction set asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported(pub Isa);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = available().iter().map(Isa::to_string).collect();
        write!(f, "instruction set {}: this machine lacks it\nhint: use one of {}", self.0, names.join(", "))
    }
}

impl std::error::Error for Unsupported {}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        })
    }
}

/// The text names no instruction set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa(pub String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction set `{}`: no such name\nhint: use one of scalar, avx2, avx512, amx", self.0)
    }
}

impl std::error::Error for UnknownIsa {}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(text: &str) -> Result<Self, UnknownIsa> {
        ALL.into_iter().find(|isa| isa.to_string() == text).ok_or_else(|| UnknownIsa(text.to_owned()))
    }
}

/// The compiled body to call, detected on first use.
#[inline]
pub(crate) fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        1 => Level::Plain,
        2 => Level::Fma,
        3 => Level::Avx2,
        4 | AMX => Level::Avx512,
        _ => detect(),
    }
}

#[cold]
fn detect() -> Level {
    let widest = ALL.into_iter().rev().find(|isa| supported(*isa)).unwrap_or(Isa::Scalar);
    // A `force` that ran meanwhile wins.
    let _ = LEVEL.compare_exchange(UNKNOWN, code(widest), Ordering::Relaxed, Ordering::Relaxed);
    level()
}

fn code(isa: Isa) -> u8 {
    if isa == Isa::Amx { AMX } else { level_of(isa) as u8 }
}

fn level_of(isa: Isa) -> Level {
    match isa {
        Isa::Scalar if has_fma() => Level::Fma,
        Isa::Scalar => Level::Plain,
        Isa::Avx2 => Level::Avx2,
        Isa::Avx512 | Isa::Amx => Level::Avx512,
    }
}

#[cfg(target_arch = "x86_64")]
fn supported(isa: Isa) -> bool {
    use std::arch::is_x86_feature_detected as has;
    match isa {
        Isa::Scalar => true,
        Isa::Avx2 => has!("avx2") && has!("fma"),
        Isa::Avx512 => {
            supported(Isa::Avx2)
                && has!("avx512f")
                && has!("avx512vl")
                && has!("avx512bw")
                && has!("avx512dq")
        }
        Isa::Amx => supported(Isa::Avx512) && has!("avx512bf16") && crate::matmul::tiles_permitted(),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn supported(isa: Isa) -> bool {
    isa == Isa::Scalar
}

#[cfg(target_arch = "x86_64")]
fn has_fma() -> bool {
    std::arch::is_x86_feature_detected!("fma")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_fma() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_others_are_refused() {
        for isa in ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        for wrong in ["", "AVX2", "avx", "neon"] {
            assert_eq!(wrong.parse::<Isa>(), Err(UnknownIsa(wrong.to_owned())));
        }
    }

    #[test]
    fn the_scalar_set_is_always_available() {
        assert_eq!(available().first(), Some(&Isa::Scalar));
    }
}
