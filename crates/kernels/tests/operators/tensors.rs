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
