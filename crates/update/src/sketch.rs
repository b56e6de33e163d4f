//! A few bytes by which an update is known again.
//!
//! Every element of an update goes, by a hash of its place, into one of a few buckets, with a sign of its own; a bucket holds their sum. Products of
//! two updates are then, about, the products of their buckets (Charikar et al. 2002, "Finding frequent items in data streams"; for inner
//! products: Thorup and Zhang 2012), off by one part in the root of the number of buckets: enough to tell a copy from what merely points the
//! same way.
//!
//! Hash and signs are public, so whoever takes the trouble can turn an update until its sketch is another's: of a sparse update, whose buckets have
//! eight elements each, by about a fifth of its length. What such a one says again nobody knows again, and only the lot finds it.
//!
//! ```text
//! exponent u8  buckets: i8 each, as many as the VNode's size asks for
//! ```

use crate::aggregate::NormLimit;
use crate::{Layout, Update, UpdateError};

/// Elements to a bucket.
const BUCKET_ELEMENTS: u64 = 512;
/// A small VNode's sketch has so many buckets, but no more than the VNode has elements.
const BUCKETS_MIN: u64 = 128;
/// The largest value of a bucket.
const VALUE_MAX: f64 = 127.0;
/// No sum of a bucket, of 64 bits, takes more.
const EXPONENT_MAX: u8 = 64;

/// What is remembered of an update of one VNode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    /// Buckets are multiples of two to this power.
    exponent: u8,
    buckets: Vec<i8>,
}

impl Sketch {
    /// Of an update, that counts as if it were no longer than `norm_limit`.
    pub fn of(update: &Update, norm_limit: u64) -> Self {
        let buckets = buckets(&update.header().layout);
        let mut sums = vec![0i64; buckets];
        update.for_each(|index, value| {
            let hash = hash(index as u64);
            let bucket = ((hash >> 32) * buckets as u64) >> 32;
            let signed = if hash & 1 == 0 { i64::from(value) } else { -i64::from(value) };
            sums[bucket as usize] += signed;
        });
        let scale = NormLimit(norm_limit).scale(update.norm());
        let scaled = || sums.iter().map(|&sum| sum as f64 * scale);
        let largest = scaled().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let (mut exponent, mut unit) = (0, 1.0);
        while largest > VALUE_MAX * unit {
            (exponent, unit) = (exponent + 1, unit * 2.0);
        }
        Self { exponent, buckets: scaled().map(|value| (value / unit).round() as i8).collect() }
    }

    /// The inner product of two updates of a VNode, about, in units of `2^-48`. Exact in itself: equal on every machine.
    pub fn product(&self, other: &Sketch) -> f64 {
        assert_eq!(self.buckets.len(), other.buckets.len(), "sketches of one VNode");
        let products = self.buckets.iter().zip(&other.buckets);
        let sum: i64 = products.map(|(one, other)| i64::from(*one) * i64::from(*other)).sum();
        let unit = |sketch: &Self| (0..sketch.exponent).fold(1.0, |unit, _| unit * 2.0);
        sum as f64 * unit(self) * unit(other)
    }

    /// Appends its bytes.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.exponent);
        bytes.extend(self.buckets.iter().map(|bucket| *bucket as u8));
    }

    /// From its bytes, of which there are [`bytes`](Self::bytes).
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, UpdateError> {
        match bytes.split_first() {
            Some((&exponent, buckets)) if exponent <= EXPONENT_MAX => {
                Ok(Self { exponent, buckets: buckets.iter().map(|bucket| *bucket as i8).collect() })
            }
            _ => Err(UpdateError::NotCanonical("a sketch has an exponent of at most 64")),
        }
    }

    /// Number of its buckets.
    pub(crate) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// How many bytes the sketch of an update with this layout has.
    pub fn bytes(layout: &Layout) -> usize {
        1 + buckets(layout)
    }
}

fn buckets(layout: &Layout) -> usize {
    let elements = layout.elements();
    elements.div_ceil(BUCKET_ELEMENTS).max(BUCKETS_MIN).min(elements) as usize
}

/// SplitMix64's mixing of a counter (Steele et al. 2014).
fn hash(index: u64) -> u64 {
    let mut bits = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, Shape};

    fn update(values: Vec<i32>) -> Update {
        let layout = Layout::new([("weight", Shape::vector(values.len() as u32))]).unwrap();
        Update::new(Header { round: 0, vnode: "v".into(), tokens: 64, layout }, values).unwrap()
    }

    fn cosine(one: &Sketch, other: &Sketch) -> f64 {
        one.product(other) / (one.product(one) * other.product(other)).sqrt()
    }

    #[test]
    fn cosines_are_those_of_the_updates_about() {
        const ELEMENTS: u64 = 1 << 20;
        let noise = |stream: u64, index: u64| (hash(stream << 32 | index) >> 40) as f64 - f64::from(1 << 23);
        for part in [0.0, 0.3, 0.7, 1.0] {
            let other = |index| part * noise(1, index) + (1.0 - part * part).sqrt() * noise(2, index);
            let one = update((0..ELEMENTS).map(|index| noise(1, index) as i32).collect());
            let other = update((0..ELEMENTS).map(|index| other(index) as i32).collect());
            let cosine = cosine(&Sketch::of(&one, u64::MAX), &Sketch::of(&other, u64::MAX));
            // Four standard deviations of 2,048 buckets, and what rounding takes.
            assert!((cosine - part).abs() < 0.09, "{cosine} where it is {part}");
        }
    }

    #[test]
    fn the_ends_of_the_range_fit() {
        let largest = Sketch::of(&update(vec![i32::MIN; 1 << 16]), u64::MAX);
        assert!(largest.exponent <= EXPONENT_MAX);
        assert!((cosine(&largest, &largest) - 1.0).abs() < 1e-12);
        let nothing = Sketch::of(&update(vec![0; 10]), u64::MAX);
        assert_eq!((nothing.exponent, nothing.product(&nothing)), (0, 0.0));
    }

    #[test]
    fn an_update_that_is_too_long_counts_as_if_it_were_not() {
        let short = update((0..5000).map(|index| index * 7 - 17_000).collect());
        let long = update(short.values().iter().map(|value| value * 1000).collect());
        let (short, long) = (Sketch::of(&short, short.norm()), Sketch::of(&long, short.norm()));
        assert!((short.product(&short) / long.product(&long) - 1.0).abs() < 0.05);
    }
}
