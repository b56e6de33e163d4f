//! Sums are the same bits in any order and any tree, and cannot overflow.

use proptest::prelude::*;
use zoo_update::{
    Aggregate, Header, Layout, MAX_TOTAL_WEIGHT, Shape, Update, UpdateError, norm_limit,
    weight_of_late_tokens, weight_of_tokens,
};

const ELEMENTS: usize = 5;
/// Some of the random updates are longer.
const LIMIT: u64 = 3 << 30;

fn layout() -> Layout {
    layout_of([("weight", 4), ("bias", 1)])
}

fn layout_of<const N: usize>(vectors: [(&str, u32); N]) -> Layout {
    Layout::new(vectors.map(|(name, len)| (name, Shape::vector(len)))).unwrap()
}

fn update(values: &[i32]) -> Update {
    let header = Header { round: 1, vnode: "block.0".into(), tokens: 256, layout: layout() };
    Update::new(header, values.to_vec()).unwrap()
}

fn empty() -> Aggregate {
    Aggregate::new(1, "block.0", layout())
}

fn sum_of<'a>(contributions: impl IntoIterator<Item = &'a (Vec<i32>, u64)>) -> Aggregate {
    let mut sum = empty();
    for (values, weight) in contributions {
        sum.add(&update(values), *weight, LIMIT).unwrap();
    }
    sum
}

#[test]
fn the_mean_is_weighted() {
    let mut sum = empty();
    sum.add(&update(&[1 << 24, 0, -(1 << 24), 1, i32::MAX]), 3, u64::MAX).unwrap();
    sum.add(&update(&[0, 1 << 24, -(1 << 24), 0, i32::MAX]), 1, u64::MAX).unwrap();
    assert_eq!(sum.weight(), 4);
    assert_eq!(sum.sums()[..4], [3 << 24, 1 << 24, -(4 << 24), 3]);
    assert_eq!(sum.mean().unwrap(), [0.75, 0.25, -1.0, 0.75 * (-24f32).exp2(), 128.0]);
}

#[test]
fn a_weight_is_tokens_in_units_of_4_rounded_up_and_half_of_it_a_round_late() {
    for (tokens, weight, late) in
        [(0, 0, 0), (1, 1, 1), (4, 1, 1), (5, 2, 1), (8192, 2048, 1024), (u64::MAX, 1 << 62, 1 << 61)]
    {
        assert_eq!(weight_of_tokens(tokens), weight, "{tokens} tokens");
        assert_eq!(weight_of_late_tokens(tokens), late, "{tokens} tokens");
    }
}

#[test]
fn a_norm_is_the_root_of_an_exact_sum_rounded_down() {
    for (values, norm) in [
        ([0; ELEMENTS], 0),
        ([3, 0, -4, 0, 0], 5),
        ([1, 1, 0, 0, 0], 1),
        ([i32::MIN; ELEMENTS], 4_801_919_417),
        ([1 << 24, 0, 0, 0, 1], 1 << 24),
    ] {
        assert_eq!(update(&values).norm(), norm, "{values:?}");
    }
}

#[test]
fn the_limit_of_norms_is_their_median() {
    for (norms, limit) in [
        (&[][..], u64::MAX),
        (&[7], 7),
        (&[9, 7], 9),
        (&[1, u64::MAX, 7], 7),
        (&[5, 1, u64::MAX, 7], 7),
        (&[0, 0, 0, 4, 4], 0),
    ] {
        assert_eq!(norm_limit(norms.iter().copied()), limit, "{norms:?}");
    }
}

#[test]
fn a_long_update_counts_for_no_more_than_the_limit_and_its_weight_stays() {
    let mut sum = empty();
    sum.add(&update(&[300, 0, -400, 0, 0]), 7, 50).unwrap();
    assert_eq!((sum.weight(), sum.sums()), (7, &[0, 0, 0, 0, 0][..]), "less than a unit of weight is none");
    sum.add(&update(&[300, 0, -400, 0, 0]), 1000, 50).unwrap();
    sum.add(&update(&[30, 0, -40, 0, 0]), 1000, 50).unwrap();
    assert_eq!((sum.weight(), sum.sums()), (2007, &[60_000, 0, -80_000, 0, 0][..]));
}

#[test]
fn the_extremes_within_the_limit_do_not_overflow() {
    for (value, weights) in [
        (i32::MIN, vec![MAX_TOTAL_WEIGHT]),
        (i32::MAX, vec![MAX_TOTAL_WEIGHT]),
        (i32::MIN, vec![1, MAX_TOTAL_WEIGHT / 2, MAX_TOTAL_WEIGHT / 2]),
    ] {
        let mut sum = empty();
        for &weight in &weights {
            sum.add(&update(&[value; ELEMENTS]), weight, u64::MAX).unwrap();
        }
        let exact = i128::from(value) * i128::from(sum.weight());
        assert!(sum.sums().iter().all(|&sum| i128::from(sum) == exact));
        assert_eq!(sum.mean().unwrap(), [if value < 0 { -128.0 } else { 128.0 }; ELEMENTS]);

        let before = sum.clone();
        let more = MAX_TOTAL_WEIGHT - sum.weight() + 1;
        assert_eq!(
            sum.add(&update(&[1; ELEMENTS]), more, u64::MAX),
            Err(UpdateError::Weight(MAX_TOTAL_WEIGHT + 1))
        );
        assert!(matches!(sum.add(&update(&[1; ELEMENTS]), u64::MAX, u64::MAX), Err(UpdateError::Weight(_))));
        assert_eq!(sum.merge(&before.clone()), Err(UpdateError::Weight(2 * before.weight())));
        assert_eq!(sum, before, "an error adds nothing");
    }
}

#[test]
fn what_does_not_belong_is_not_added() {
    let mut sum = empty();
    assert_eq!(sum.mean(), Err(UpdateError::Empty));
    assert_eq!(sum.add(&update(&[0; ELEMENTS]), 0, u64::MAX), Err(UpdateError::ZeroWeight));
    let right = update(&[1; ELEMENTS]).header().clone();
    let wrong = [
        Header { round: 2, ..right.clone() },
        Header { vnode: "block.1".into(), ..right.clone() },
        Header { layout: layout_of([("weight", 4), ("gain", 1)]), ..right.clone() },
        Header { layout: layout_of([("weight", 1), ("bias", 4)]), ..right.clone() },
        Header { layout: layout_of([("weight", 5)]), ..right },
    ];
    for header in wrong {
        let mut other = Aggregate::new(header.round, header.vnode.clone(), header.layout.clone());
        // What was trained a round ago may come late; sums are of one round.
        let is_late = header.round != 1;
        let update = Update::new(header, vec![1; ELEMENTS]).unwrap();
        let added = sum.clone().add(&update, 1, u64::MAX);
        assert!(is_late && added.is_ok() || matches!(added, Err(UpdateError::Unexpected { .. })));
        other.add(&update, 1, u64::MAX).unwrap();
        assert!(matches!(sum.merge(&other), Err(UpdateError::Unexpected { .. })));
    }
    assert_eq!(sum, empty());
}

fn contributions() -> impl Strategy<Value = Vec<(Vec<i32>, u64)>> {
    let weight = prop_oneof![1u64..10, 1u64..100_000_000];
    prop::collection::vec((prop::collection::vec(any::<i32>(), ELEMENTS), weight), 1..12)
}

/// Adds up `parts` along a tree whose shape `choices` decides.
fn merged(mut parts: Vec<Aggregate>, choices: &[prop::sample::Index]) -> Aggregate {
    let mut choices = choices.iter().cycle();
    let mut next = |len: usize| choices.next().unwrap().index(len);
    while parts.len() > 1 {
        let right = parts.swap_remove(next(parts.len()));
        let left = next(parts.len());
        parts[left].merge(&right).unwrap();
    }
    parts.pop().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_order_gives_the_same_bits(
        (original, shuffled) in contributions().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let (a, b) = (sum_of(&original), sum_of(&shuffled));
        prop_assert_eq!(&a, &b);
        let bits = |sum: &Aggregate| sum.mean().unwrap().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&a), bits(&b));
    }

    #[test]
    fn any_tree_of_partial_sums_gives_the_same_bits(
        all in contributions(),
        group in prop::collection::vec(0usize..4, 12),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 1..30),
    ) {
        let mut parts = vec![empty(); 4];
        for ((values, weight), &group) in all.iter().zip(&group) {
            parts[group].add(&update(values), *weight, LIMIT).unwrap();
        }
        prop_assert_eq!(merged(parts, &choices), sum_of(&all));
    }

    #[test]
    fn what_is_subtracted_was_never_there(all in contributions(), more in contributions()) {
        let (mut sum, expected) = (sum_of(all.iter().chain(&more)), sum_of(&all));
        for (values, weight) in &more {
            sum.subtract(&update(values), *weight, LIMIT).unwrap();
        }
        prop_assert_eq!((sum.sums(), sum.weight(), sum.contributions()), (expected.sums(), expected.weight(), expected.contributions()));
    }

    #[test]
    fn merging_is_associative_and_commutative(a in contributions(), b in contributions(), c in contributions()) {
        let [a, b, c] = [a, b, c].map(|part| sum_of(&part));
        let join = |left: &Aggregate, right: &Aggregate| {
            let mut sum = left.clone();
            sum.merge(right).unwrap();
            sum
        };
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&a, &empty()), a);
    }

    #[test]
    fn sums_are_exact_and_means_are_rounded_once_per_step(all in contributions()) {
        let sum = sum_of(&all);
        let weight: u64 = all.iter().map(|(_, weight)| weight).sum();
        for (i, mean) in sum.mean().unwrap().into_iter().enumerate() {
            let clipped = |values: &Vec<i32>, weight: u64| {
                let norm = update(values).norm();
                if norm > LIMIT { u128::from(weight) * u128::from(LIMIT) / u128::from(norm) } else { weight.into() }
            };
            let scaled = |(values, weight): &(Vec<i32>, u64)| i128::from(values[i]) * clipped(values, *weight) as i128;
            let exact: i128 = all.iter().map(scaled).sum();
            prop_assert_eq!(i128::from(sum.sums()[i]), exact);
            let expected = exact as f64 / weight as f64 * (-24f64).exp2();
            prop_assert_eq!(mean.to_bits(), (expected as f32).to_bits());
        }
    }
}
