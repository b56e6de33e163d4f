use zoo_kernels::columns::Columns;
use zoo_kernels::dropout::{self, Dropout};
use zoo_kernels::{clip, elementwise};

use crate::support::{KINDS, agree, everywhere, ordinary, zeros};

const LENGTHS: [usize; 12] = [0, 1, 2, 7, 15, 16, 17, 255, 256, 257, 300, 100_003];

#[test]
fn sums_and_multiples() {
    for (len, kind) in LENGTHS.into_iter().flat_map(|len| KINDS.map(|kind| (len, kind))) {
        let (x, y) = (kind.take(1, len), kind.take(2, len));
        let what = format!("{len} {kind:?}");
        agree!(what; x = x.clone(); elementwise::add_assign(x, &y));
        agree!(what; out = zeros(len); elementwise::add(&x, &y, out));
        agree!(what; x = x.clone(); elementwise::add_scaled(x, 0.3, &y));
        agree!(what; x = x.clone(); elementwise::scale(x, 0.3));
        agree!(what; x = x.clone(); elementwise::exp_below(x, 2.5, 0.7));
        everywhere(|place| {
            let mut to = zeros(len);
            elementwise::copy(&x, &mut to);
            assert!(to.iter().map(|x| x.to_bits()).eq(x.iter().map(|x| x.to_bits())), "copy {len} {place}");
        });
    }
}

#[test]
fn sums_of_squares() {
    for len in LENGTHS.into_iter().chain([16_383, 16_384, 16_385]) {
        for kind in KINDS {
            let x = kind.take(1, len);
            let expected = zoo_kernels::reference::clip::sum_of_squares(&x);
            everywhere(|place| {
                assert_eq!(clip::sum_of_squares(&x).to_bits(), expected.to_bits(), "{len} {kind:?} {place}");
            });
        }
    }
}

#[test]
fn one_broken_number_is_found_wherever_it_stands() {
    for len in [1, 17, 300, 100_003] {
        let x = ordinary(1, len);
        everywhere(|place| assert!(clip::all_finite(&x), "{place}"));
        for (at, broken) in
            [(0, f32::NAN), (len / 2, f32::INFINITY), (len - 1, f32::NEG_INFINITY), (len - 1, -f32::NAN)]
        {
            let mut x = x.clone();
            x[at] = broken;
            everywhere(|place| {
                assert!(!clip::all_finite(&x), "{broken} at {at} of {len} {place}");
                assert!(!clip::sum_of_squares(&x).is_finite(), "{broken} at {at} of {len} {place}");
            });
        }
        let greatest = vec![-f32::MAX; len];
        everywhere(|place| assert!(clip::all_finite(&greatest), "{place}"));
    }
}

#[test]
fn parts_of_rows_go_to_their_places() {
    for (rows, kind) in [0, 1, 5, 1030].into_iter().flat_map(|rows| KINDS.map(|kind| (rows, kind))) {
        let from = kind.take(1, rows * 50);
        for (count, first, target) in [(1, 49, 0), (17, 3, 9), (26, 24, 0)] {
            let (source, target) = (Columns { width: 50, first }, Columns { width: 26, first: target });
            agree!(format!("{rows} {count}"); to = zeros(rows * 26); columns::copy(count, &from, source, to, target));
        }
    }
}

#[test]
fn dropout_depends_on_the_place_alone() {
    for (len, kind) in LENGTHS.into_iter().flat_map(|len| KINDS.map(|kind| (len, kind))) {
        for (rate, first) in [(0.0, 0), (0.1, 0), (0.5, 63), (0.9, (1 << 37) + 5)] {
            let dropout = Dropout { rate, seed: 7 << 33, stream: u64::MAX - 3 };
            agree!(format!("{len} {rate}"); x = kind.take(1, len); dropout::apply(dropout, x, first));
        }
    }
    let dropout = Dropout { rate: 0.1, seed: 1, stream: 2 };
    let mut whole = vec![1.0; 100_000];
    dropout::apply(dropout, &mut whole, 0);
    let mut parts = vec![1.0; 100_000];
    parts.chunks_mut(777).enumerate().for_each(|(at, part)| dropout::apply(dropout, part, at as u64 * 777));
    assert_eq!(whole, parts);
    let dropped = whole.iter().filter(|x| **x == 0.0).count();
    assert!((9_700..10_300).contains(&dropped), "{dropped} of 100000 at a rate of 0.1");
}
