use zoo_kernels::Profile;
use zoo_kernels::matmul::{View, ViewMut, matmul};
use zoo_kernels::reference::matmul::{Matrix, matmul as specified};

use crate::support::{BOTH, KINDS, Numbers, agree_from, everywhere, ordinary, zeros};

/// How the elements of an operand lie: row by row, column by column, or with gaps.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Rows,
    Columns,
    Gaps,
}

/// All nine pairs, so that a product's number picks one.
const LAYOUTS: [Layout; 3] = [Layout::Rows, Layout::Columns, Layout::Gaps];

/// The same operand for both sides.
struct Operand {
    data: Vec<f32>,
    strides: (usize, usize),
    shape: (usize, usize),
}

impl Operand {
    fn new(kind: Numbers, seed: u64, (rows, cols): (usize, usize), layout: Layout) -> Self {
        let strides = match layout {
            Layout::Rows => (cols, 1),
            Layout::Columns => (1, rows),
            Layout::Gaps => (2 * cols + 3, 2),
        };
        let data = kind.take(seed, (rows.max(1) - 1) * strides.0 + (cols.max(1) - 1) * strides.1 + 1);
        Self { data, strides, shape: (rows, cols) }
    }

    fn view(&self) -> View<'_> {
        View::strided(&self.data, self.shape.0, self.shape.1, self.strides.0, self.strides.1)
    }

    fn matrix(&self) -> Matrix<'_> {
        let ((rows, cols), (row_stride, col_stride)) = (self.shape, self.strides);
        Matrix { data: &self.data, rows, cols, row_stride, col_stride }
    }
}

fn compare(number: usize, (m, n, k): (usize, usize, usize)) {
    let (left, right) = (LAYOUTS[number % 3], LAYOUTS[number / 3 % 3]);
    let (onto, kind) = (BOTH[number % 2], KINDS[number / 2 % 2]);
    let stride = n + if number.is_multiple_of(4) { 5 } else { 0 };
    let (a, b) = (Operand::new(kind, 1, (m, k), left), Operand::new(kind, 2, (k, n), right));
    for profile in Profile::ALL {
        agree_from(
            &format!(
                "{profile} {m} x {n} x {k}, {left:?} by {right:?}, {onto:?}, {kind:?}, rows of {stride}"
            ),
            [kind.take(3, m * stride)],
            |[c]| matmul(profile, a.view(), b.view(), ViewMut::strided(c, m, n, stride), onto),
            |[c]| specified(profile, a.matrix(), b.matrix(), c, stride, onto),
        );
    }
}

#[test]
fn products_of_every_shape_layout_and_landing() {
    let mut number = 0;
    for m in [1, 2, 7, 12, 13, 25, 65] {
        for n in [1, 2, 15, 16, 17, 32, 33, 100] {
            for k in [0, 1, 2, 15, 16, 255, 256, 257, 513] {
                number += 1;
                compare(number, (m, n, k));
            }
        }
    }
}

/// Large enough to be cut among threads, rows and columns not multiples of a tile.
#[test]
fn large_products() {
    let shapes =
        [(300, 257, 300), (1, 3000, 513), (3000, 1, 257), (97, 1100, 256), (1100, 35, 300), (515, 129, 2)];
    for (number, shape) in shapes.into_iter().enumerate() {
        for turn in [0, 5, 7] {
            compare(number + turn, shape);
        }
    }
}

#[test]
fn minus_zero_does_not_survive_a_product_onto_zero() {
    for (m, n, k) in [(1, 1, 1), (13, 33, 2), (1, 40, 300), (40, 1, 300)] {
        let (a, b) = (vec![-1e-30f32; m * k], vec![1e-30f32; k * n]);
        everywhere(|place| {
            let mut c = ordinary(1, m * n);
            let (a, b) = (View::row_major(&a, m, k), View::row_major(&b, k, n));
            matmul(Profile::F32Exact, a, b, ViewMut::row_major(&mut c, m, n), BOTH[0]);
            assert!(c.iter().all(|c| c.to_bits() == 0), "{m} x {n} x {k} {place}");
        });
    }
}

#[test]
#[should_panic]
fn shapes_that_do_not_match_are_refused() {
    let data = zeros(12);
    let mut c = zeros(9);
    matmul(
        Profile::F32Exact,
        View::row_major(&data, 3, 4),
        View::row_major(&data, 3, 4),
        ViewMut::row_major(&mut c, 3, 3),
        BOTH[0],
    );
}
