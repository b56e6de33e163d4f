//! Products: `C x` against `start x + A (B x)`.
//!
//! For a row, with `e` the vector of its rounding errors and `x` of signs, an honest residual is `sum of e[j] x[j]`. Each `|e[j]|` is at most
//! `relative (|start[j]| + sum over k of |a[k] b[k, j]|) + absolute` ([`Rounding`]), so by Cauchy and Schwarz and Minkowski
//!
//! ```text
//! |e| <= reach = relative (|start| + |A's row| |B|) + absolute sqrt(columns)        (2-norms, Frobenius' of B)
//! ```
//!
//! (with more than one pair of factors, the sum of their norms' products). The signs do not depend on `e`, so by Hoeffding the residual passes 6 reach
//! for at most `2 exp(-18)`, 3 in 10^8, of the seeds, and never passes `sqrt(columns)` reach. To that comes what the f64 of both sides is rounded by:
//! `columns + terms` roundings of sums of magnitudes, each of which is at most `sqrt(columns)` norms. So an honest row is practically never computed again,
//! and costs one row where it is.

use rayon::prelude::*;
use zoo_kernels::matmul::{Eight, VECTORS, View, sketch};
use zoo_kernels::{Profile, random};

use super::report::{Check, Limit};
use super::rounding::{Rounding, gamma_f64};
use crate::operator::Panel;

/// Of how many times the reach of rounding a residual is suspicious.
const DEVIATIONS: f64 = 6.0;
/// What norms are made longer by, which makes up for their own rounding.
const NORM_MARGIN: f64 = 1.0 + 1.0 / (1 << 20) as f64;
/// Rows that one task looks at.
const TASK_ROWS: usize = 64;

/// A product that somebody says the result of.
pub struct Freivalds<'a> {
    pub profile: Profile,
    pub panels: Vec<Panel<'a>>,
    pub claimed: &'a [f32],
    /// What it lands on.
    pub start: Option<&'a [f32]>,
    /// Vectors.
    pub rounds: u32,
}

/// Elements of one row.
pub type RowElements = std::ops::Range<usize>;

/// `B x`, and the square of B's norm.
struct Image {
    sums: Vec<Eight>,
    square: f64,
}

/// What a row came to.
struct Tested {
    suspicious: bool,
    /// How far an element may be from its true value without being noticed for sure.
    limit: f64,
}

impl Freivalds<'_> {
    /// Terms of all elements.
    pub fn terms_of_all(&self) -> u64 {
        let of = |panel: &Panel| {
            let elements: usize = (0..panel.rows).map(|row| panel.columns_of(row)).sum();
            (elements * panel.terms()) as u64
        };
        self.panels.iter().map(of).sum()
    }

    /// Multiply-adds of the test: eight sums and a square for each element that is read.
    pub fn cost(&self) -> u64 {
        let of = |Panel { rows, columns, factors, .. }: &Panel| {
            let output = rows * columns * (1 + usize::from(self.start.is_some()));
            output + factors.iter().map(|[a, _]| a.cols() * (rows + columns)).sum::<usize>()
        };
        self.panels.iter().map(of).sum::<usize>() as u64 * (VECTORS as u64 + 1) * u64::from(self.passes())
    }

    fn passes(&self) -> u32 {
        self.rounds.div_ceil(VECTORS as u32)
    }

    /// The first element right of a diagonal that is not +0.
    pub fn masked(&self) -> Option<usize> {
        let masked = self.panels.iter().filter(|panel| panel.diagonal.is_some());
        let rows = masked.flat_map(|panel| (0..panel.rows).map(move |row| (panel, row)));
        let mut right = rows.flat_map(|(panel, row)| {
            let from = panel.first + row * panel.stride;
            from + panel.columns_of(row)..from + panel.stride
        });
        right.find(|&element| self.claimed[element].to_bits() != 0)
    }

    /// The rows that rounding does not explain, and the limit of the others.
    pub fn test(&self, key: u64, check: &mut Check) -> Vec<RowElements> {
        let columns = self.panels.iter().map(|panel| panel.columns).max().unwrap_or(0);
        let (mut suspicious, mut limit) = (Vec::new(), 0f64);
        for pass in 0..self.passes() {
            let signs = signs(key, pass, columns);
            let vectors = VECTORS.min((self.rounds - pass * VECTORS as u32) as usize);
            let test = |panel: &Panel| match panel.diagonal {
                None => self.panel(panel, &signs[..panel.columns], vectors),
                Some(diagonal) => self.triangle(panel, diagonal, &signs, vectors),
            };
            let tested: Vec<Vec<Tested>> = self.panels.par_iter().map(test).collect();
            for (panel, rows) in self.panels.iter().zip(tested) {
                for (row, tested) in rows.into_iter().enumerate() {
                    limit = limit.max(tested.limit);
                    if tested.suspicious {
                        let from = panel.first + row * panel.stride;
                        suspicious.push(from..from + panel.columns_of(row));
                    }
                }
            }
        }
        suspicious.sort_by_key(|row| row.start);
        suspicious.dedup();
        check.spent += self.cost();
        check.rounds = self.rounds;
        check.suspicious = suspicious.len() as u64;
        check.limit = Some(Limit { error: limit, size: root_mean_square(self.claimed) });
        suspicious
    }

    /// All rows have the same columns.
    fn panel(&self, panel: &Panel, signs: &[Eight], vectors: usize) -> Vec<Tested> {
        let images: Vec<Image> =
            panel.factors.iter().map(|[_, b]| Image::of(*b, self.profile, signs)).collect();
        let rows = |first: usize| {
            let rows = first..panel.rows.min(first + TASK_ROWS);
            self.rows(panel, rows, panel.columns, &images, vectors, signs)
        };
        let firsts: Vec<usize> = (0..panel.rows).step_by(TASK_ROWS).collect();
        firsts.into_par_iter().flat_map_iter(rows).collect()
    }

    /// Every row has one column more than the one before it.
    fn triangle(&self, panel: &Panel, diagonal: usize, signs: &[Eight], vectors: usize) -> Vec<Tested> {
        let [_, b] = panel.factors[0];
        let before = diagonal.min(panel.columns);
        let mut images = [Image::of(b.cols_range(0, before), self.profile, &signs[..before])];
        let row = |row: usize| {
            let columns = panel.columns_of(row);
            for column in before.max(columns.min(diagonal + row))..columns {
                images[0].add(b.cols_range(column, column + 1), self.profile, &signs[column..=column]);
            }
            self.rows(panel, row..row + 1, columns, &images, vectors, &signs[..columns])
        };
        (0..panel.rows).flat_map(row).collect()
    }

    fn rows(
        &self,
        panel: &Panel,
        rows: std::ops::Range<usize>,
        columns: usize,
        images: &[Image],
        vectors: usize,
        signs: &[Eight],
    ) -> Vec<Tested> {
        let count = rows.len();
        let of = |values: &[f32]| {
            let values = &values[panel.first + rows.start * panel.stride..];
            let mut product = Product::new(count);
            product.add(View::strided(values, count, columns, panel.stride, 1), None, signs);
            product
        };
        let claimed = of(self.claimed);
        let start = self.start.map(of);
        let mut product = Product::new(count);
        // Norms of the rows of A times those of B, added over the pairs.
        let mut norms = vec![0.0; count];
        for ([a, _], image) in panel.factors.iter().zip(images) {
            product.squares.fill(0.0);
            product.add(a.rows_range(rows.start, rows.end), Some(self.profile), &image.sums);
            for (norm, square) in norms.iter_mut().zip(&product.squares) {
                *norm += (square * image.square).sqrt();
            }
        }
        let rounding = Rounding::of(self.profile, panel.factors.iter().map(|[a, _]| a.cols()));
        let evaluation = gamma_f64(columns + panel.terms() + 4);
        let width = (columns as f64).sqrt();
        let row = |row: usize| {
            let landed = start.as_ref().map_or(0.0, |start| start.squares[row].sqrt());
            let magnitude = (landed + norms[row]) * NORM_MARGIN;
            let reach = rounding.relative * magnitude + rounding.absolute * width;
            let noise = evaluation * width * (claimed.squares[row].sqrt() * NORM_MARGIN + magnitude);
            let most = DEVIATIONS.min(width) * reach + noise;
            let residual = |vector: usize| {
                let start = start.as_ref().map_or(0.0, |start| start.sums[row][vector]);
                claimed.sums[row][vector] - start - product.sums[row][vector]
            };
            // What is not a number is suspicious, and so is what is within bounds that are none.
            let explained = |vector| most.is_finite() && residual(vector).abs() <= most;
            Tested { suspicious: !(0..vectors).all(explained), limit: most + noise + reach }
        };
        (0..count).map(row).collect()
    }
}

/// Rows times vectors, and the squares of the rows.
struct Product {
    sums: Vec<Eight>,
    squares: Vec<f64>,
}

impl Product {
    fn new(rows: usize) -> Self {
        Self { sums: vec![[0.0; VECTORS]; rows], squares: vec![0.0; rows] }
    }

    fn add(&mut self, a: View, profile: Option<Profile>, x: &[Eight]) {
        sketch(a, profile, x, &mut self.sums, &mut self.squares);
    }
}

impl Image {
    fn of(b: View, profile: Profile, signs: &[Eight]) -> Self {
        let firsts: Vec<usize> = (0..b.rows()).step_by(TASK_ROWS).collect();
        let rows = |first: usize| {
            let b = b.rows_range(first, b.rows().min(first + TASK_ROWS));
            let mut product = Product::new(b.rows());
            product.add(b, Some(profile), signs);
            product
        };
        let parts: Vec<Product> = firsts.into_par_iter().map(rows).collect();
        let square = parts.iter().flat_map(|part| &part.squares).sum();
        Self { sums: parts.into_iter().flat_map(|part| part.sums).collect(), square }
    }

    /// Further columns of B.
    fn add(&mut self, b: View, profile: Profile, signs: &[Eight]) {
        let mut product = Product { sums: std::mem::take(&mut self.sums), squares: vec![0.0; b.rows()] };
        product.add(b, Some(profile), signs);
        self.square += product.squares.iter().sum::<f64>();
        self.sums = product.sums;
    }
}

/// For every column the signs of eight vectors: one byte of chance.
fn signs(key: u64, pass: u32, columns: usize) -> Vec<Eight> {
    let eight = |column: usize| {
        let drawn = random::bits(key, u64::from(pass), column as u64 / 8).to_le_bytes()[column % 8];
        std::array::from_fn(|vector| if drawn >> vector & 1 == 0 { 1.0 } else { -1.0 })
    };
    (0..columns).map(eight).collect()
}

fn root_mean_square(values: &[f32]) -> f64 {
    let squares: f64 = values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    (squares / values.len() as f64).sqrt()
}
