//! Which updates of a round have little to do with the others.
//!
//! Replicas that train the same model on different text come to different updates, and to ones that point the same way: the cosine between any
//! two is small, since each is mostly noise, but the same for all. Noise, an update turned round, one of another model or text, or nothing
//! at all does not. So every update is compared with every other, and who agrees far less than is usual is left out.
//!
//! What an update agrees by is the *median* of its cosines, so it takes half of all replicas to lend each other agreement or to deny it to somebody: a
//! minority that says one thing together agrees with itself, and with nobody who counts. (After the observation that pairwise products separate
//! what means and norms do not: Blanchard et al. 2017, Krum; Cao et al. 2021, FLTrust.)
//!
//! Inner products are exact integers, and what follows from them takes only operations that IEEE 754 rounds the same everywhere, in the order of
//! VNodes: every machine leaves out the same.
//!
//! Who agrees far too well is found as well: an update whose distance to another is less than a quarter of the usual one is the other, in other words.
//! Nobody can be so near to two who are as far from each other as is usual (what lies between them is farther from both), so nobody can make two others look alike.
//! Which of the two was first cannot be told, so each counts as a part of one.

use crate::Update;
use crate::aggregate::NormLimit;

/// Fewer cannot outvote one.
pub(crate) const UPDATES_MIN: usize = 3;
/// Who agrees by less than this part of what is usual is left out.
const USUAL_PART: f64 = 0.25;
/// Updates are alike whose distance, one less their cosine, is below this part of what is usual. Measured, of honest ones the nearest had seven tenths.
const NEAR_PART: f64 = 0.25;
/// Where the usual distance is below this, all say the same, and what is nearer is so by rounding.
const DISTANCE_MIN: f64 = 1.0 / 1024.0;
/// Cosines of updates of `n` elements that have nothing to do with each other are about `1 / sqrt(n)`: below so many times that, nothing is usual.
const NOISE: f64 = 8.0;

/// What the updates of a round have to do with each other, over all VNodes that were taken so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    replicas: usize,
    /// The inner product of every two, row by row, in units of `2^-48`.
    products: Vec<f64>,
    /// Elements of the VNodes.
    elements: u64,
}

impl Agreement {
    /// Of so many replicas, nothing known yet.
    pub fn new(replicas: usize) -> Self {
        Self { replicas, products: vec![0.0; replicas * replicas], elements: 0 }
    }

    /// Takes every replica's update of one VNode, in the order of replicas; longer ones count as if they were as long as `norm_limit`.
    pub fn take(&mut self, updates: &[Update], norm_limit: u64) {
        assert_eq!(updates.len(), self.replicas, "one update of every replica");
        let Some(layout) = updates.first().map(|update| &update.header().layout) else { return };
        self.elements += layout.elements();
        let scale: Vec<f64> =
            updates.iter().map(|update| NormLimit(norm_limit).scale(update.norm())).collect();
        let bits: Vec<u32> = updates.iter().map(magnitude_bits).collect();
        let mut row = vec![0; layout.elements() as usize];
        for one in 0..self.replicas {
            updates[one].for_each(|index, value| row[index] = value);
            for other in one..self.replicas {
                let product = inner_product(&row, &updates[other], bits[one] + bits[other]) as f64;
                let product = product * scale[one] * scale[other];
                self.products[one * self.replicas + other] += product;
                if other != one {
                    self.products[other * self.replicas + one] += product;
                }
            }
            updates[one].for_each(|index, _| row[index] = 0);
        }
    }

    fn product(&self, one: usize, other: usize) -> f64 {
        self.products[one * self.replicas + other]
    }

    /// The squared distance between the updates of two replicas, in units of `2^-48`.
    pub fn distance(&self, one: usize, other: usize) -> f64 {
        self.product(one, one) + self.product(other, other) - 2.0 * self.product(one, other)
    }

    /// The cosine between the updates of two replicas; 0 if one of them says nothing.
    pub fn cosine(&self, one: usize, other: usize) -> f64 {
        cosine_of(self.product(one, other), self.product(one, one), self.product(other, other))
    }

    /// By how much each replica's update agrees with the others': the median of its cosines, of two middle ones the larger.
    pub fn of_each(&self) -> Vec<f64> {
        let cosines = |one: usize| {
            let others = (0..self.replicas).filter(move |other| *other != one);
            others.map(move |other| self.cosine(one, other))
        };
        (0..self.replicas).map(|one| median(cosines(one))).collect()
    }

    /// Those that agree with the others by less than a quarter of what is usual among them, in order. `tokens` is what each was trained on: who had
    /// fewer than the median sees less clearly, and is held to as much less, by the square root.
    ///
    /// Nobody, where there are fewer than three, and where what is usual could be chance.
    pub fn outliers(&self, tokens: &[u64]) -> Vec<usize> {
        assert_eq!(tokens.len(), self.replicas, "tokens of every replica");
        let of_each = self.of_each();
        let usual = median(of_each.iter().copied());
        if self.replicas < UPDATES_MIN || usual * (self.elements as f64).sqrt() < NOISE {
            return Vec::new();
        }
        let usual_tokens = median(tokens.iter().map(|&tokens| tokens as f64));
        let clearness = |replica: usize| (tokens[replica] as f64 / usual_tokens).min(1.0).sqrt();
        (0..self.replicas).filter(|&one| of_each[one] < USUAL_PART * usual * clearness(one)).collect()
    }

    /// How many updates each replica's is alike, itself among them, of those of `counted`, who are in order; 0 of the others. Whoever is alike `n`
    /// counts as an `n`th: so copies count as much as what they are of, once.
    pub fn copies(&self, counted: &[usize]) -> Vec<u64> {
        let pairs = counted.iter().enumerate();
        let pairs = pairs.flat_map(|(at, &one)| counted[at + 1..].iter().map(move |&other| (one, other)));
        let distance = |(one, other): (usize, usize)| 1.0 - self.cosine(one, other);
        let near = near(median(pairs.clone().map(distance)));
        let mut copies = vec![0; self.replicas];
        counted.iter().for_each(|&one| copies[one] = 1);
        if counted.len() >= UPDATES_MIN {
            for pair in pairs.filter(|&pair| distance(pair) < near) {
                copies[pair.0] += 1;
                copies[pair.1] += 1;
            }
        }
        copies
    }
}

/// Below which distance two are alike, where this one is usual.
pub(crate) fn near(usual: f64) -> f64 {
    if usual < DISTANCE_MIN { f64::NEG_INFINITY } else { NEAR_PART * usual }
}

/// Of a product, and of both with themselves; 0 if one of them says nothing.
pub(crate) fn cosine_of(product: f64, one: f64, other: f64) -> f64 {
    let lengths = one.sqrt() * other.sqrt();
    if lengths > 0.0 { product / lengths } else { 0.0 }
}

/// Of two middle ones the larger; 0 of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    let middle = values.len() / 2;
    if values.is_empty() { 0.0 } else { *values.select_nth_unstable_by(middle, f64::total_cmp).1 }
}

/// The bits that the largest magnitude takes.
fn magnitude_bits(update: &Update) -> u32 {
    let mut largest = 0;
    update.for_each(|_, value| largest = largest.max(value.unsigned_abs()));
    u32::BITS - largest.leading_zeros()
}

/// The exact inner product; each product has at most `bits`. So many are added in 64 bits as can be, before 128 are needed.
fn inner_product(row: &[i32], update: &Update, bits: u32) -> i128 {
    let most = 1u64 << 62u32.saturating_sub(bits);
    let (mut sum, mut part, mut count) = (0i128, 0i64, 0u64);
    update.for_each(|index, value| {
        part += i64::from(row[index]) * i64::from(value);
        count += 1;
        if count == most {
            sum += i128::from(part);
            (part, count) = (0, 0);
        }
    });
    sum + i128::from(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, Layout, Shape};

    const ELEMENTS: u32 = 40_000;

    /// Something that is the same for everybody, and as much again that is not, ten times as long.
    fn update(replica: u64, common: f64) -> Update {
        let random = |stream: u64, index: u64| {
            let mut bits = (stream << 32 | index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bits = (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((bits ^ (bits >> 32)) & 0xffff) as f64 - 32_767.5
        };
        let value = |index: u64| (common * random(0, index) + 3.0 * random(replica + 1, index)) as i32;
        of((0..u64::from(ELEMENTS)).map(value).collect())
    }

    fn of(values: Vec<i32>) -> Update {
        let layout = Layout::new([("weight", Shape::vector(ELEMENTS))]).unwrap();
        Update::new(Header { round: 0, vnode: "v".into(), tokens: 64, layout }, values).unwrap()
    }

    fn agreement(updates: &[Update]) -> Agreement {
        let mut agreement = Agreement::new(updates.len());
        agreement.take(updates, u64::MAX);
        agreement
    }

    fn honest(count: u64) -> Vec<Update> {
        (0..count).map(|replica| update(replica, 1.0)).collect()
    }

    #[test]
    fn nobody_is_left_out_of_those_who_look_the_same_way() {
        for count in [1, 2, 3, 4, 10] {
            assert_eq!(agreement(&honest(count)).outliers(&vec![64; count as usize]), [0usize; 0], "{count}");
        }
    }

    #[test]
    fn noise_reversal_and_silence_are_left_out_also_of_three_together_in_ten() {
        let negated = |update: &Update| of(update.values().iter().map(|value| -value).collect());
        for kind in 0..4 {
            let mut updates = honest(10);
            for replica in [1, 4, 7] {
                updates[replica] = match kind {
                    0 => update(100 + replica as u64, 0.0),
                    1 => negated(&updates[replica]),
                    2 => of(vec![0; ELEMENTS as usize]),
                    // All three say the same.
                    _ => update(100, 0.0),
                };
            }
            assert_eq!(agreement(&updates).outliers(&[64; 10]), [1, 4, 7], "kind {kind}");
        }
    }

    #[test]
    fn an_update_that_is_too_long_counts_as_if_it_were_not() {
        let mut updates = honest(5);
        let shorter = agreement(&updates);
        let limit = updates[0].norm();
        updates[0] = of(updates[0].values().iter().map(|value| value * 1000).collect());
        let mut longer = Agreement::new(5);
        longer.take(&updates, limit);
        assert_eq!(longer.outliers(&[64; 5]), shorter.outliers(&[64; 5]));
        assert!((longer.cosine(0, 1) - shorter.cosine(0, 1)).abs() < 1e-9);
    }

    #[test]
    fn copies_count_as_much_as_what_they_are_of() {
        let near = |update_of: &Update, noise: u64, part: i32| {
            let values = update_of.values().into_iter().zip(update(noise, 0.0).values());
            of(values.map(|(value, noise)| value + noise / part).collect())
        };
        let mut updates = honest(10);
        assert_eq!(agreement(&updates).copies(&Vec::from_iter(0..10)), [1; 10]);
        // The first copies the last, under noise of half its length; 4 and 7 are the same, and 7 is scaled.
        updates[0] = near(&updates[9], 50, 2);
        updates[7] = of(updates[4].values().iter().map(|value| value * 2).collect());
        let compared = agreement(&updates);
        assert_eq!(compared.outliers(&[64; 10]), [0usize; 0]);
        assert_eq!(compared.copies(&Vec::from_iter(0..10)), [2, 1, 1, 1, 2, 1, 1, 2, 1, 2]);
        assert_eq!(compared.copies(&[1, 2, 3, 4, 5, 6, 8, 9]), [0, 1, 1, 1, 1, 1, 1, 0, 1, 1]);
        // Three say one thing.
        updates[3] = updates[4].clone();
        assert_eq!(agreement(&updates).copies(&Vec::from_iter(0..10)), [2, 1, 1, 3, 3, 1, 1, 3, 1, 2]);
    }

    #[test]
    fn nobody_makes_two_others_look_alike() {
        let mut updates = honest(6);
        let between = updates[1].values().into_iter().zip(updates[2].values());
        updates[0] = of(between.map(|(one, other)| one / 2 + other / 2).collect());
        assert_eq!(agreement(&updates).copies(&[0, 1, 2, 3, 4, 5]), [1; 6]);
    }

    #[test]
    fn where_all_say_the_same_and_of_two_nobody_is_a_copy() {
        for count in 2..8 {
            let same = vec![update(0, 1.0); count];
            assert_eq!(agreement(&same).copies(&Vec::from_iter(0..count)), vec![1; count]);
        }
    }

    #[test]
    fn who_saw_less_is_held_to_less() {
        let mut updates = honest(5);
        updates[2] = update(2, 0.15);
        assert_eq!(agreement(&updates).outliers(&[64; 5]), [2]);
        assert_eq!(agreement(&updates).outliers(&[64, 64, 4, 64, 64]), [0usize; 0]);
    }

    #[test]
    fn where_nothing_is_usual_nobody_is_left_out() {
        let noise: Vec<Update> = (0..5).map(|replica| update(replica, 0.0)).collect();
        assert_eq!(agreement(&noise).outliers(&[64; 5]), [0usize; 0]);
    }

    #[test]
    fn products_are_exact_at_the_ends_of_the_range() {
        let largest = of(vec![i32::MIN; ELEMENTS as usize]);
        let bits = 2 * magnitude_bits(&largest);
        let expected = i128::from(ELEMENTS) << 62;
        assert_eq!(inner_product(&largest.values(), &largest, bits), expected);
    }
}
