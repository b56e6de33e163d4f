//! Row reductions: element `i` goes to lane `i mod 16`; the sixteen lanes are
//! then combined by one fixed tree. The order is the same at every vector
//! width, which is what makes the bits the same.

/// Number of interleaved lanes.
pub(crate) const LANES: usize = 16;

/// The fixed tree: lanes 8 apart, then 4, 2, 1.
#[inline(always)]
pub(crate) fn tree(lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| combine(lanes[i], lanes[i + 8]));
    let four: [f32; 4] = std::array::from_fn(|i| combine(eight[i], eight[i + 4]));
    let two: [f32; 2] = std::array::from_fn(|i| combine(four[i], four[i + 2]));
    combine(two[0], two[1])
}

/// Folds one slice into the lanes, then combines them by addition.
#[inline(always)]
pub(crate) fn sum_by(a: &[f32], step: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for a in chunks {
        for i in 0..LANES {
            lanes[i] = step(lanes[i], a[i]);
        }
    }
    for (lane, a) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, *a);
    }
    tree(lanes, |a, b| a + b)
}

/// Folds three slices of one length into the lanes, then combines by addition.
#[inline(always)]
pub(crate) fn sum_by3(a: &[f32], b: &[f32], c: &[f32], step: impl Fn(f32, f32, f32, f32) -> f32) -> f32 {
    assert!(a.len() == b.len() && b.len() == c.len(), "the rows of a reduction have one length");
    let mut lanes = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let (c_chunks, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a_chunks.iter().zip(b_chunks).zip(c_chunks) {
        for i in 0..LANES {
            lanes[i] = step(lanes[i], a[i], b[i], c[i]);
        }
    }
    for (lane, ((a, b), c)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest).zip(c_rest)) {
        *lane = step(*lane, *a, *b, *c);
    }
    tree(lanes, |a, b| a + b)
}

/// Sum of a row.
#[inline(always)]
pub(crate) fn sum(a: &[f32]) -> f32 {
    sum_by(a, |lane, a| lane + a)
}

/// Sum of `a[i] * b[i]`, one fma per element.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_by3(a, b, b, |lane, a, b, _| a.mul_add(b, lane))
}

/// The greater of two; where they compare equal or unordered, the first.
#[inline(always)]
pub(crate) fn greater(kept: f32, new: f32) -> f32 {
    if new > kept { new } else { kept }
}

/// Greatest value of a row, starting from minus infinity. NaN never wins a
/// comparison: whoever uses the maximum must let the NaN through elsewhere, as
/// softmax does in its sum.
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for a in chunks {
        for i in 0..LANES {
            lanes[i] = greater(lanes[i], a[i]);
        }
    }
    for (lane, a) in lanes.iter_mut().zip(rest) {
        *lane = greater(*lane, *a);
    }
    tree(lanes, greater)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_element_goes_to_its_index_modulo_sixteen() {
        // Magnitudes of every size: another grouping would round differently.
        for len in [0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 255, 256, 257, 300] {
            let row: Vec<f32> =
                (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) * 1.1f32.powi(i % 40)).collect();
            let mut lanes = [0f32; LANES];
            for (i, value) in row.iter().enumerate() {
                lanes[i % LANES] += value;
            }
            let eight: Vec<f32> = (0..8).map(|i| lanes[i] + lanes[i + 8]).collect();
            let four: Vec<f32> = (0..4).map(|i| eight[i] + eight[i + 4]).collect();
            let expected = (four[0] + four[2]) + (four[1] + four[3]);
            assert_eq!(sum(&row).to_bits(), expected.to_bits(), "length {len}");
        }
    }

    #[test]
    fn the_maximum_ignores_nan_and_is_minus_infinity_when_there_is_nothing() {
        assert_eq!(max(&[]), f32::NEG_INFINITY);
        assert_eq!(max(&[f32::NAN, -3.0, f32::NAN]), -3.0);
        assert_eq!(max(&[f32::NAN]), f32::NEG_INFINITY);
    }
}
