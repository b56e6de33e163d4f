//! Numbers that bring out differences between ways of following the pair rule, and the comparison of all ways.

use rayon::prelude::*;
use zoo_kernels::matmul::{View, ViewMut, matmul};
use zoo_kernels::reference::matmul::{Matrix, matmul as specified};
use zoo_kernels::{Onto, Profile, isa, random};

/// What the operands of a product are made of.
pub const CLASSES: [&str; 11] = [
    "ordinary",
    "any exponent",
    "any finite bits",
    "products about the least normal number",
    "subnormal operands",
    "cancellation",
    "overflow",
    "zeros of both signs",
    "sums at the least normal number",
    "tiny landings",
    "large and tiny together",
];

/// Outputs of one product.
pub const OUTPUTS: usize = ROWS * COLS;

const ROWS: usize = 32;
const COLS: usize = 32;

/// A product's operands: a `[ROWS, k]`, b `[k, COLS]`, and what it lands on.
struct Case {
    k: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Case {
    fn new(class: usize, seed: u64) -> Self {
        let bits = |stream: u64, i: usize| random::bits(seed, stream, i as u64);
        // Lengths on both sides of a block, and sometimes several blocks.
        let k = match bits(0, 0) % 4 {
            0 => 1 + bits(0, 1) as usize % 31,
            1 => 32,
            2 => 33 + bits(0, 1) as usize % 31,
            _ => 64 + bits(0, 1) as usize % 65,
        };
        let number = |stream: u64, i: usize| one(class, stream, bits(stream, i), bits(stream + 10, i));
        let mut case = Self {
            k,
            a: (0..ROWS * k).map(|i| number(1, i)).collect(),
            b: (0..k * COLS).map(|i| number(2, i)).collect(),
            c: (0..OUTPUTS).map(|i| number(3, i)).collect(),
        };
        match class {
            5 => case.cancel(&bits),
            8 => case.approach_the_least(&bits),
            _ => {}
        }
        case
    }

    /// The second half of k takes away what the first half brings, but for a last bit here and there.
    fn cancel(&mut self, bits: &impl Fn(u64, usize) -> u64) {
        let half = self.k / 2;
        for p in 0..half {
            for i in 0..ROWS {
                self.a[i * self.k + half + p] = self.a[i * self.k + p];
            }
            for j in 0..COLS {
                let nudge = u32::from(bits(4, p * COLS + j).is_multiple_of(5)) << 16;
                let value = f32::from_bits(self.b[p * COLS + j].to_bits() ^ nudge);
                self.b[(half + p) * COLS + j] = -value;
            }
        }
        self.c.fill(0.0);
    }

    /// Both chains of the first block begin at 2^-126, and then move by quarters and halves of 2^-150.
    fn approach_the_least(&mut self, bits: &impl Fn(u64, usize) -> u64) {
        // 2^exponent times 1 and some eighths.
        let number = |exponent: i32, x: u64| {
            let (sign, eighths) = ((x as u32 & 1) << 31, (x as u32 >> 1 & 7) << 20);
            f32::from_bits(sign | ((127 + exponent) as u32) << 23 | eighths)
        };
        for p in 0..self.k {
            for i in 0..ROWS {
                let x = if p < 2 { 0 } else { bits(5, p * ROWS + i) };
                self.a[i * self.k + p] = number(-80, x);
            }
            for j in 0..COLS {
                let x = bits(6, p * COLS + j);
                self.b[p * COLS + j] = match p {
                    0 | 1 => number(-46, 0),
                    _ if !x.is_multiple_of(4) => 0.0,
                    _ => number(-73 + (x >> 40) as i32 % 4, x >> 8),
                };
            }
        }
    }

    fn fast(&self, onto: Onto) -> Vec<f32> {
        let mut c = self.c.clone();
        let (a, b) = (View::row_major(&self.a, ROWS, self.k), View::row_major(&self.b, self.k, COLS));
        matmul(Profile::Bf16Exact, a, b, ViewMut::row_major(&mut c, ROWS, COLS), onto);
        c
    }

    fn slow(&self, onto: Onto) -> Vec<f32> {
        let mut c = self.c.clone();
        let (a, b) = (Matrix::row_major(&self.a, ROWS, self.k), Matrix::row_major(&self.b, self.k, COLS));
        specified(Profile::Bf16Exact, a, b, &mut c, COLS, onto);
        c
    }
}

/// One number of a class; `stream` 1 is the left operand, 2 the right one, 3 what is landed on.
fn one(class: usize, stream: u64, x: u64, y: u64) -> f32 {
    let sign = (x as u32 & 1) << 31;
    let fraction = (x >> 8) as u32 & 0x7f_ffff;
    let exponent = |from: u32, count: u32| from + (y % u64::from(count)) as u32;
    let with = |exponent: u32| f32::from_bits(sign | exponent << 23 | fraction);
    match (class, stream) {
        (0 | 5, _) => with(exponent(120, 10)),
        (1, _) => with(exponent(40, 160)),
        (2, _) => with(exponent(0, 255)),
        (3, 3) => with(exponent(1, 8)),
        (3, _) => with(exponent(58, 16)),
        (4, 3) => with(exponent(0, 4)),
        (4, _) if y.is_multiple_of(2) => with(0),
        (4, _) => with(exponent(1, 140)),
        (6, _) => with(exponent(180, 75)),
        (7, _) if !y.is_multiple_of(4) => f32::from_bits(sign),
        (7, 3) => with(0),
        (7, _) => with(exponent(60, 8)),
        // The operands come from `approach_the_least`.
        (8, 3) => f32::from_bits(sign | 1 << 23 | (y % 2) as u32),
        (8, _) => 0.0,
        (9, 3) => with(exponent(0, 26)),
        (9, _) => with(exponent(56, 30)),
        (_, 3) => with(exponent(1, 250)),
        (_, _) if y.is_multiple_of(3) => with(exponent(20, 20)),
        (_, _) => with(exponent(150, 20)),
    }
}

/// Runs `products` products of a class on every instruction set and the reference. The number of outputs
/// that differ, for each instruction set; one NaN counts as any other.
pub fn differences(class: usize, first_seed: u64, products: usize) -> Vec<(isa::Isa, usize)> {
    let cases: Vec<(Case, Onto)> = (0..products as u64)
        .into_par_iter()
        .map(|i| {
            let onto = if i.is_multiple_of(4) { Onto::Zero } else { Onto::Value };
            (Case::new(class, first_seed + i), onto)
        })
        .collect();
    let expected: Vec<Vec<f32>> = cases.par_iter().map(|(case, onto)| case.slow(*onto)).collect();
    let differ = |a: f32, b: f32| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan());
    let count = |((case, onto), expected): (&(Case, Onto), &Vec<f32>)| {
        case.fast(*onto).iter().zip(expected).filter(|(a, b)| differ(**a, **b)).count()
    };
    let on = |isa| {
        isa::force(isa).expect("it is available");
        (isa, cases.par_iter().zip(&expected).map(count).sum())
    };
    isa::available().into_iter().map(on).collect()
}
