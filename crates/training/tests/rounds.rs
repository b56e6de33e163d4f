//! Rounds: windows of replicas, the outer step, and what may not matter to their bits.

mod common;

use std::ops::ControlFlow;

use common::{advance, go_on, name, spec, text, whole, with_threads};
use zoo_content::{Digest, InclusionProof, VerifiedBlob};
use zoo_training::{
    AggregateTask, Aggregation, Amendment, Checkpoint, Dataset, Form, Given, LocalJob, Outer,
    PARAMETERS_EVERY, Share, SparseSettings, SumTask, Summand, TrainError, Trainer, TrainingSpec,
    UpdateFormat, VNodeUpdate, WindowResult, WindowTask, aggregate, equal_shares, layout, network_of,
    norm_limits, partial_sums, rewarm, train_window,
};
use zoo_update::{Header, Update};

const REPLICAS: usize = 4;

fn first_checkpoint(spec: &TrainingSpec, data: &Dataset) -> Checkpoint {
    Trainer::new(spec.clone(), data).unwrap().checkpoint()
}

fn window(spec: &TrainingSpec, data: &Dataset, base: &Checkpoint, share: Share) -> WindowResult {
    let task = WindowTask {
        spec,
        data,
        base,
        replica: None,
        round: 0,
        first_step: 0,
        lead: None,
        share,
        ahead_steps: 0,
    };
    train_window(task, &mut go_on).unwrap()
}

/// The updates of a result, as a peer fetches them.
fn blobs(result: &WindowResult) -> Vec<VerifiedBlob> {
    result.updates.iter().map(|update| update.blob.clone()).collect()
}

/// What a result says of the first VNode.
fn first_update(spec: &TrainingSpec, round: u32, result: &WindowResult) -> Update {
    let network = network_of(spec).unwrap();
    let vnode = &network.vnodes()[0];
    let layout = layout(vnode).unwrap();
    let header = Header { round, vnode: vnode.id().to_owned(), tokens: result.tokens(), layout };
    spec.update.codec().decode(result.updates[0].blob.bytes(), &header).unwrap()
}

fn merge(
    spec: &TrainingSpec,
    base: &Checkpoint,
    results: &[&WindowResult],
) -> Result<Checkpoint, TrainError> {
    let (updates, norms) = given(results.iter().copied());
    let contributions = contributions(0, results, &updates, &norms);
    let norm_limits = &norm_limits(&norms);
    let task = AggregateTask {
        spec,
        base,
        round: 0,
        step: 3,
        norm_limits,
        summands: &contributions,
        amendments: &[],
        is_last: false,
    };
    aggregate(task).map(|aggregation| aggregation.checkpoint)
}

/// The updates of every result, and the norms it says they have.
fn given<'a>(
    results: impl Iterator<Item = &'a WindowResult> + Clone,
) -> (Vec<Vec<VerifiedBlob>>, Vec<Vec<u64>>) {
    (results.clone().map(blobs).collect(), results.map(WindowResult::norms).collect())
}

fn contributions<'a>(
    round: u32,
    results: &[&WindowResult],
    updates: &'a [Vec<VerifiedBlob>],
    norms: &'a [Vec<u64>],
) -> Vec<Summand<'a>> {
    let each = results.iter().zip(updates).zip(norms);
    each.map(|((result, updates), norms)| Summand::contribution(round, result.tokens(), norms, updates))
        .collect()
}

#[test]
fn any_tree_of_partial_sums_gives_the_same_parameters_and_remembers_nothing() {
    let data = text();
    for update in [UpdateFormat::Dense, UpdateFormat::Sparse(SparseSettings { keep: 256, decay: 1.0 })] {
        let spec = TrainingSpec { update, ..spec() };
        let base = first_checkpoint(&spec, &data);
        let share = |first_sequence| Share { first_sequence, sequences_per_step: 4, inner_steps: 2 };
        let results: Vec<_> = (0..5).map(|at| window(&spec, &data, &base, share(8 * at))).collect();
        let all: Vec<&WindowResult> = results.iter().collect();
        let mut at_once = merge(&spec, &base, &all).unwrap();
        assert!(at_once.vnodes.iter().all(|vnode| vnode.memory.is_some()));
        at_once.vnodes.iter_mut().for_each(|vnode| vnode.memory = None);

        let (updates, norms) = given(results.iter());
        let leaves = contributions(0, &all, &updates, &norms);
        let norm_limits = norm_limits(&norms);
        let vnodes = updates[0].len();
        // The VNodes in three parts; of the first, contributions in twos, then all; of the others all at once.
        let sums = |vnodes: (usize, usize), summands: &[Summand]| -> Vec<VerifiedBlob> {
            let norm_limits = &norm_limits[vnodes.0..vnodes.1];
            let task = SumTask { spec: &spec, round: 0, vnodes, norm_limits, summands };
            partial_sums(task).unwrap().into_iter().map(|(_, sum)| sum).collect()
        };
        let of = |count: usize, first_vnode, blobs| {
            let form = Form::Sums(count as u32);
            Summand { form, round: 0, tokens: count as u64 * results[0].tokens(), first_vnode, blobs }
        };
        let pairs: Vec<_> = leaves.chunks(2).map(|pair| (pair.len(), sums((0, 2), pair))).collect();
        let inner: Vec<Summand> = pairs.iter().rev().map(|(count, blobs)| of(*count, 0, blobs)).collect();
        let parts = [sums((0, 2), &inner), sums((2, 3), &leaves), sums((3, vnodes), &leaves)];
        let firsts = [0, 2, 3];
        let top: Vec<Summand> = parts.iter().zip(firsts).map(|(blobs, first)| of(5, first, blobs)).collect();
        let norm_limits = &norm_limits[..];
        let task = AggregateTask {
            spec: &spec,
            base: &base,
            round: 0,
            step: 3,
            norm_limits,
            summands: &top,
            amendments: &[],
            is_last: false,
        };
        assert_eq!(aggregate(task).unwrap().checkpoint, at_once, "{update:?}");

        let gap = AggregateTask { summands: &top[1..], ..task };
        assert!(aggregate(gap).unwrap_err().to_string().contains("needs at least one"));
        let lopsided = [top[0], top[1], top[2], of(5, 3, &parts[2])];
        let twice = AggregateTask { summands: &lopsided, ..task };
        assert!(aggregate(twice).unwrap_err().to_string().contains("not every vnode"));
    }
}

/// What a replica said in round `before`, said in `round`, with so much added to the first element of every VNode.
fn again(spec: &TrainingSpec, result: &WindowResult, (before, round): (u32, u32), more: f32) -> WindowResult {
    let (network, codec) = (network_of(spec).unwrap(), spec.update.codec());
    let again = |(vnode, update): (&zoo_model::VNode, &VNodeUpdate)| {
        let (layout, vnode) = (layout(vnode).unwrap(), vnode.id().to_owned());
        let header = Header { round: before, vnode: vnode.clone(), tokens: result.tokens(), layout };
        let said = codec.decode(update.blob.bytes(), &header).unwrap();
        let mut values: Vec<f32> =
            said.values().into_iter().map(|value| value as f32 / (1 << 24) as f32).collect();
        values.iter_mut().take(1).for_each(|value| *value += more);
        let header = Header { round, ..header };
        let bytes = codec.encode(&header, &values, &mut Vec::new()).unwrap();
        let norm = codec.decode(&bytes, &header).unwrap().norm();
        VNodeUpdate { vnode, blob: VerifiedBlob::new(bytes), norm }
    };
    let updates = network.vnodes().iter().zip(&result.updates).map(again).collect();
    WindowResult { updates, ..result.clone() }
}

/// What comes of a round.
fn round(spec: &TrainingSpec, base: &Checkpoint, round: u32, results: &[&WindowResult]) -> Aggregation {
    let (updates, norms) = given(results.iter().copied());
    let contributions = contributions(round, results, &updates, &norms);
    let norm_limits = &norm_limits(&norms);
    aggregate(AggregateTask {
        spec,
        base,
        round,
        step: 9,
        norm_limits,
        summands: &contributions,
        amendments: &[],
        is_last: false,
    })
    .unwrap()
}

/// Parameters of every VNode.
fn parameters(checkpoint: &Checkpoint) -> Vec<Digest> {
    checkpoint.vnodes.iter().map(|vnode| vnode.parameters.digest()).collect()
}

/// Five replicas that train one window after the other.
fn five(spec: &TrainingSpec, rounds: u32) -> (Vec<Checkpoint>, Vec<Vec<WindowResult>>) {
    let data = text();
    let mut job = LocalJob::new(spec, &data, 5).unwrap();
    let (mut checkpoints, mut results) = (vec![job.checkpoint().clone()], Vec::new());
    for round in 0..rounds {
        let shares = equal_shares(5, u64::from(round) * 5 * 32, 8, 4).into_iter().map(Some);
        let trained = job.round(&shares.collect::<Vec<_>>(), 0, &mut |_, _| ControlFlow::Continue(()));
        results.push(trained.unwrap().into_iter().flatten().collect());
        checkpoints.push(job.checkpoint().clone());
    }
    (checkpoints, results)
}

#[test]
fn what_was_given_in_a_round_before_does_not_count_again() {
    for update in [UpdateFormat::Dense, UpdateFormat::Sparse(SparseSettings { keep: 256, decay: 1.0 })] {
        let spec = TrainingSpec { update, ..spec() };
        let (checkpoints, results) = five(&spec, 4);
        let (base, now) = (&checkpoints[3], &results[3]);
        let honest = round(&spec, base, 3, &now.iter().collect::<Vec<_>>());
        assert_eq!((honest.left_out.len(), honest.alike.len()), (0, 0), "{update:?}");
        for (before, of) in [(2, 0), (2, 4), (0, 1)] {
            let old = again(&spec, &results[before as usize][of], (before, 3), 0.0);
            let stale = round(&spec, base, 3, &[&now[0], &now[1], &old, &now[3], &now[4]]);
            assert_eq!(stale.left_out, [2], "{update:?}, round {before}, replica {of}");
            let without = round(&spec, base, 3, &[&now[0], &now[1], &now[3], &now[4]]);
            let (got, expected) = (stale.checkpoint, without.checkpoint);
            assert_eq!(got.progress, expected.progress);
            // The limits of norms are those of all five, who were sealed.
            assert_ne!(parameters(&got), parameters(&honest.checkpoint));
            // And what did not count is remembered as well.
            assert_ne!(got.vnodes[0].memory, expected.vnodes[0].memory);
        }
    }
}

#[test]
fn copies_count_once_in_any_order() {
    let spec = spec();
    let (checkpoints, results) = five(&spec, 1);
    let (base, now) = (&checkpoints[0], &results[0]);
    let [a, b, c, d, e] = &now[..] else { panic!("five") };
    let copy = again(&spec, a, (0, 0), 1e-4);
    let with = round(&spec, base, 0, &[a, b, &copy, d, e]);
    assert_eq!((with.left_out.len(), with.alike), (0, vec![0, 2]));
    let turned = round(&spec, base, 0, &[e, &copy, d, a, b]);
    assert_eq!((turned.alike, &turned.checkpoint), (vec![1, 3], &with.checkpoint));
    // Less is moved by one who says the same than by one who says something else, and about as much as without it.
    let distance = |one: &Checkpoint, other: &Checkpoint| {
        moved(&spec, one, other).iter().map(|moved| moved * moved).sum::<f64>().sqrt()
    };
    let without = round(&spec, base, 0, &[a, b, d, e]).checkpoint;
    let other = round(&spec, base, 0, &[a, b, c, d, e]).checkpoint;
    let (near, far) = (distance(&with.checkpoint, &without), distance(&other, &without));
    assert!(near < far / 10.0, "{near} {far}");
}

#[test]
fn the_order_of_contributions_does_not_matter() {
    let data = text();
    for outer in [Outer::default(), Outer { learning_rate: 0.7, momentum: 0.9 }] {
        let spec = TrainingSpec { outer, ..spec() };
        let base = first_checkpoint(&spec, &data);
        // Unequal shares: unequal weights.
        let shares = [(0, 4, 3), (12, 8, 3), (36, 4, 3), (48, 12, 3)].map(
            |(first_sequence, sequences_per_step, inner_steps)| Share {
                first_sequence,
                sequences_per_step,
                inner_steps,
            },
        );
        let results = shares.map(|share| window(&spec, &data, &base, share));
        let [a, b, c, d] = &results;
        let expected = merge(&spec, &base, &[a, b, c, d]).unwrap();
        for order in [[d, c, b, a], [b, a, d, c], [c, d, a, b]] {
            assert_eq!(merge(&spec, &base, &order).unwrap(), expected);
        }
        assert_ne!(merge(&spec, &base, &[a, b, c]).unwrap(), expected);
        assert_eq!(expected.progress.sequences, 3 * (4 + 8 + 4 + 12));
        assert_eq!((expected.progress.round, expected.progress.step), (1, 3));
    }
}

#[test]
fn replicas_apart_equal_replicas_in_one_process() {
    for update in [UpdateFormat::Dense, UpdateFormat::Sparse(SparseSettings::default())] {
        apart_equals_together(update);
    }
}

fn apart_equals_together(update: UpdateFormat) {
    let (spec, data) = (TrainingSpec { rewarm_steps: 2, update, ..spec() }, text());
    let mut job = LocalJob::new(&spec, &data, REPLICAS).unwrap();

    // Every replica on its own: other threads, other micro-batches, state through bytes only.
    let mut base = first_checkpoint(&spec, &data);
    let mut replicas: Vec<Option<Vec<u8>>> = vec![None; REPLICAS];
    let mut first_sequence = 0;
    for round in 0..3u32 {
        let shares = equal_shares(REPLICAS, first_sequence, 8, 4);
        first_sequence += 8 * 4 * REPLICAS as u64;
        let mut everyone: Vec<Option<Share>> = shares.iter().copied().map(Some).collect();
        if round == 1 {
            // One replica is away and comes back with the state it had.
            everyone[2] = None;
        }
        job.round(&everyone, 0, &mut |_, _| ControlFlow::Continue(())).unwrap();

        let results: Vec<_> = everyone
            .iter()
            .enumerate()
            .filter_map(|(replica, share)| Some((replica, (*share)?)))
            .map(|(replica, share)| {
                let task = WindowTask {
                    spec: &spec,
                    data: &data,
                    base: &base,
                    replica: replicas[replica].as_deref(),
                    round,
                    first_step: base.progress.step,
                    lead: None,
                    share,
                    ahead_steps: 0,
                };
                let result = with_threads(1 + replica, || train_window(task, &mut go_on).unwrap());
                replicas[replica] = Some(result.replica.bytes().to_vec());
                result
            })
            .collect();
        let (updates, norms) = given(results.iter());
        let all: Vec<&WindowResult> = results.iter().collect();
        let mut contributions = contributions(round, &all, &updates, &norms);
        contributions.reverse();
        let (step, norm_limits) = (base.progress.step + 4, &norm_limits(&norms)[..]);
        let task = AggregateTask {
            spec: &spec,
            base: &base,
            round,
            step,
            norm_limits,
            summands: &contributions,
            amendments: &[],
            is_last: false,
        };
        base = aggregate(task).unwrap().checkpoint;
        assert_eq!(name(&base), name(job.checkpoint()), "after round {round}");
    }
}

#[test]
fn what_is_taken_back_out_of_a_round_leaves_what_would_have_been_without_it() {
    let data = text();
    let sparse = UpdateFormat::Sparse(SparseSettings::default());
    // Where no step follows, what momentum would have brought is made up for.
    for (update, momentum) in [(UpdateFormat::Dense, 0.0), (sparse, 0.0), (UpdateFormat::Dense, 0.9)] {
        let spec = TrainingSpec { outer: Outer { learning_rate: 0.7, momentum }, update, ..spec() };
        let base = first_checkpoint(&spec, &data);
        let results: Vec<_> = (0..4)
            .map(|replica| {
                let share = Share { first_sequence: 100 * replica, sequences_per_step: 4, inner_steps: 3 };
                window(&spec, &data, &base, share)
            })
            .collect();
        let all: Vec<&WindowResult> = results.iter().collect();
        let (updates, norms) = given(results.iter());
        let first = contributions(0, &all, &updates, &norms);
        let limits = &norm_limits(&norms)[..];
        let round = |base: &Checkpoint, round, summands: &[Summand], amendment: Option<Amendment>| {
            let (norm_limits, amendments) = (limits, amendment.as_slice());
            let is_last = round == 1;
            let task = AggregateTask {
                spec: &spec,
                base,
                round,
                step: 3,
                norm_limits,
                summands,
                amendments,
                is_last,
            };
            aggregate(task).unwrap().checkpoint
        };
        // The next round, which is made of what one of them gave.
        let next = contributions(1, &all[..1], &updates[..1], &norms[..1]);
        let next: Vec<_> = next.iter().map(|given| Summand { round: 0, ..*given }).collect();
        let with = round(&base, 0, &first, None);
        fn whole_given<'a>(summands: &'a [Summand<'a>]) -> Given<'a> {
            Given { summands, copies: &[1; 8][..summands.len()] }
        }
        let amended = |summands, withdrawn, withdraws| {
            let amendment = Amendment {
                round: 0,
                norm_limits: limits,
                summands: whole_given(summands),
                withdrawn: whole_given(withdrawn),
                withdraws: whole_given(withdraws),
            };
            round(&with, 1, &next, Some(amendment))
        };
        let values = |checkpoint: &Checkpoint| -> Vec<f32> {
            let network = checkpoint.network(&spec).unwrap();
            let parameters = network.vnodes().iter().flat_map(|vnode| vnode.parameters());
            parameters.flat_map(|parameter| parameter.value.iter().copied()).collect()
        };
        let furthest = |a: &Checkpoint, b: &Checkpoint| {
            let (a, b) = (values(a), values(b));
            a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        for gone in [&first[2..3], &first[1..3], &first[..]] {
            let left: Vec<_> = first
                .iter()
                .filter(|given| !gone.iter().any(|gone| gone.blobs[0].digest() == given.blobs[0].digest()))
                .copied()
                .collect();
            // If it had not been there: the same limits, and what the next round says is the same.
            let without = if left.is_empty() { base.clone() } else { round(&base, 0, &left, None) };
            let expected = round(&without, 1, &next, None);
            let at_once = amended(&first[..], &[][..], gone);
            assert!(furthest(&at_once, &expected) < 1e-6, "{:e}", furthest(&at_once, &expected));
            assert!(furthest(&round(&with, 1, &next, None), &expected) > 1e-4, "it makes a difference");
        }
        // What a tree added is taken apart as well, to the same bits.
        let vnodes = (0, base.vnodes.len());
        let task = SumTask { spec: &spec, round: 0, vnodes, norm_limits: limits, summands: &first };
        let sums: Vec<VerifiedBlob> = partial_sums(task).unwrap().into_iter().map(|(_, sum)| sum).collect();
        let tokens = first.iter().map(|given| given.tokens).sum();
        let sum = Summand { form: Form::Sums(4), round: 0, tokens, first_vnode: 0, blobs: &sums };
        let one_by_one = amended(&first[..], &first[1..2], &first[2..3]);
        assert_eq!(name(&amended(&[sum][..], &first[1..2], &first[2..3])), name(&one_by_one));
    }
}

#[test]
fn one_replica_that_averages_equals_training_without_rounds() {
    // With one replica, outer learning rate 1 and no momentum a round moves the parameters to where the
    // replica is, up to the grid of 2^-24 that updates live on.
    let (spec, data) = (spec(), text());
    let base = first_checkpoint(&spec, &data);
    let share = Share { first_sequence: 0, sequences_per_step: 8, inner_steps: 6 };
    let result = window(&spec, &data, &base, share);
    let after = merge(&spec, &base, &[&result]).unwrap().network(&spec).unwrap();
    let mut alone = Trainer::new(spec.clone(), &data).unwrap();
    advance(&mut alone, 6);
    let values = |network: &zoo_model::Network| -> Vec<f32> {
        let parameters = network.vnodes().iter().flat_map(|vnode| vnode.parameters());
        parameters.flat_map(|parameter| parameter.value.iter().copied()).collect()
    };
    let furthest =
        values(&after).iter().zip(values(alone.network())).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest < 1.5e-7, "{furthest:e}");
}

#[test]
fn the_outer_step_is_the_documented_arithmetic() {
    let data = text();
    let outer = Outer { learning_rate: 0.7, momentum: 0.9 };
    let spec = TrainingSpec { outer, ..spec() };
    let mut base = first_checkpoint(&spec, &data);
    let mut expected_velocity = 0.0f32;
    for round in 0..3u32 {
        let share = Share { first_sequence: 0, sequences_per_step: 4, inner_steps: 2 };
        let task = WindowTask {
            spec: &spec,
            data: &data,
            base: &base,
            replica: None,
            round,
            first_step: 0,
            lead: None,
            share,
            ahead_steps: 0,
        };
        let result = train_window(task, &mut go_on).unwrap();
        let gradient = first_update(&spec, round, &result).values()[7];
        let gradient = (f64::from(gradient) / f64::from(1 << 24)) as f32;
        let updates = blobs(&result);
        let norms = result.norms();
        let contributions = [Summand::contribution(round, result.tokens(), &norms, &updates)];
        let before = base.network(&spec).unwrap().vnodes()[0].parameters()[0].value[7];
        let (step, norm_limits) = (0, &norms[..]);
        let task = AggregateTask {
            spec: &spec,
            base: &base,
            round,
            step,
            norm_limits,
            summands: &contributions,
            amendments: &[],
            is_last: false,
        };
        base = aggregate(task).unwrap().checkpoint;
        let after = base.network(&spec).unwrap().vnodes()[0].parameters()[0].value[7];
        expected_velocity = outer.momentum * expected_velocity + gradient;
        let expected = before - outer.learning_rate * (gradient + outer.momentum * expected_velocity);
        assert_eq!(after.to_bits(), expected.to_bits(), "round {round}");
    }
}

#[test]
fn rounds_learn() {
    let (spec, data) = (spec(), text());
    let mut job = LocalJob::new(&spec, &data, REPLICAS).unwrap();
    let mut scores = vec![whole(&spec, job.checkpoint(), &data).bits_per_byte()];
    for round in 0..8 {
        let shares: Vec<_> = equal_shares(REPLICAS, round * 160, 4, 10).into_iter().map(Some).collect();
        job.round(&shares, 0, &mut |_, _| ControlFlow::Continue(())).unwrap();
        scores.push(whole(&spec, job.checkpoint(), &data).bits_per_byte());
    }
    assert!(scores.windows(2).all(|pair| pair[1] < pair[0]), "{scores:?}");
    assert!(scores[8] < 3.0, "{scores:?}");
}

#[test]
fn sparse_updates_learn_and_say_the_rest_later() {
    let data = text();
    let sparse = |keep, decay| UpdateFormat::Sparse(SparseSettings { keep, decay });
    let score = |update| {
        let spec = TrainingSpec { update, ..spec() };
        let mut job = LocalJob::new(&spec, &data, REPLICAS).unwrap();
        for round in 0..8 {
            let shares: Vec<_> = equal_shares(REPLICAS, round * 160, 4, 10).into_iter().map(Some).collect();
            job.round(&shares, 0, &mut |_, _| ControlFlow::Continue(())).unwrap();
        }
        whole(&spec, job.checkpoint(), &data).bits_per_byte()
    };
    let untrained = {
        let spec = spec();
        whole(&spec, &first_checkpoint(&spec, &data), &data).bits_per_byte()
    };
    let [remembered, forgotten] = [0.95, 0.0].map(|decay| score(sparse(256, decay)));
    assert!(remembered < forgotten && forgotten < untrained, "{remembered} {forgotten} {untrained}");
    let everything = score(sparse(4096, 0.95));
    assert!(everything < remembered, "{everything} {remembered}");
}

#[test]
fn a_window_commits_to_every_step() {
    let (spec, data) = (spec(), text());
    let base = first_checkpoint(&spec, &data);
    let share = Share { first_sequence: 5, sequences_per_step: 4, inner_steps: 5 };
    let result = window(&spec, &data, &base, share);
    assert_eq!(result.leaves.len(), 5);
    assert_eq!(result.tokens(), 5 * 4 * 64);
    for (index, leaf) in result.leaves.iter().enumerate() {
        assert!(InclusionProof::of(&result.leaves, index).unwrap().verify(&result.steps_root, leaf));
    }
    // A shorter window is a prefix; other sequences part ways at once.
    let shorter = window(&spec, &data, &base, Share { inner_steps: 3, ..share });
    assert_eq!(shorter.leaves, result.leaves[..3]);
    let elsewhere = window(&spec, &data, &base, Share { first_sequence: 6, ..share });
    assert!(elsewhere.leaves.iter().all(|leaf| !result.leaves.contains(leaf)));
    let again = window(&spec, &data, &base, share);
    assert_eq!(again, result);
}

#[test]
fn every_fourth_leaf_of_a_window_covers_all_parameters() {
    let (spec, data) = (spec(), text());
    let base = first_checkpoint(&spec, &data);
    let share = Share { first_sequence: 5, sequences_per_step: 4, inner_steps: 9 };
    let leaves = window(&spec, &data, &base, share).leaves;
    let mut trainer = Trainer::resume(spec.clone(), &data, &base).unwrap();
    for (index, leaf) in (0..).zip(leaves) {
        let rate = spec.schedule.learning_rate(index) * rewarm(index, spec.rewarm_steps);
        let first = share.first_sequence + 4 * index;
        let loss = trainer.step_on(first..first + 4, rate).unwrap().loss;
        let mut said = b"zoo/training/2 step".to_vec();
        for number in [index, loss.nats.to_bits(), loss.tokens] {
            said.extend_from_slice(&number.to_le_bytes());
        }
        if index % PARAMETERS_EVERY as u64 == 3 {
            said.extend_from_slice(trainer.network().digest().as_bytes());
        }
        assert_eq!(leaf, Digest::of(&said), "step {index}");
    }
}

#[test]
fn a_window_stops_when_asked() {
    let (spec, data) = (spec(), text());
    let base = first_checkpoint(&spec, &data);
    let share = Share { first_sequence: 0, sequences_per_step: 4, inner_steps: 1000 };
    let task = WindowTask {
        spec: &spec,
        data: &data,
        base: &base,
        replica: None,
        round: 0,
        first_step: 40,
        lead: None,
        share,
        ahead_steps: 0,
    };
    let mut seen = Vec::new();
    let stopped = train_window(task, &mut |report| {
        seen.push(report.step);
        if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(TrainError::Stopped { step: 42 })));
    assert_eq!(seen, [40, 41, 42]);
}

#[test]
fn shares_that_make_no_sense_are_refused() {
    let (spec, data) = (spec(), text());
    let base = first_checkpoint(&spec, &data);
    for (first_sequence, sequences_per_step, inner_steps) in
        [(0, 0, 1), (0, 1, 0), (u64::MAX, 1, 1), (0, u32::MAX, 1)]
    {
        let share = Share { first_sequence, sequences_per_step, inner_steps };
        let task = WindowTask {
            spec: &spec,
            data: &data,
            base: &base,
            replica: None,
            round: 0,
            first_step: 0,
            lead: None,
            share,
            ahead_steps: 0,
        };
        let error = train_window(task, &mut go_on).unwrap_err();
        assert!(matches!(error, TrainError::Share(_)), "{share:?}: {error}");
    }
}

#[test]
fn contributions_that_do_not_belong_are_refused_by_vnode() {
    let (spec, data) = (spec(), text());
    let base = first_checkpoint(&spec, &data);
    let share = Share { first_sequence: 0, sequences_per_step: 4, inner_steps: 1 };
    let result = window(&spec, &data, &base, share);
    let good = blobs(&result);
    let mut swapped = good.clone();
    swapped.swap(1, 2);
    let mut cut = good.clone();
    cut[1] = VerifiedBlob::new(good[1].bytes()[..good[1].bytes().len() - 1].to_vec());
    let (tokens, norms) = (result.tokens(), result.norms());
    let cases: [(&[VerifiedBlob], u64, u32, &str); 7] = [
        (&swapped, tokens, 0, "vnode"),
        (&cut, tokens, 0, result.updates[1].vnode.as_str()),
        (&good[1..], tokens, 0, "vnode"),
        (&good, tokens + 64, 0, "tokens"),
        (&good, tokens + 1, 0, "whole sequences"),
        (&good, 0, 0, "whole sequences"),
        (&good, tokens, 1, "round"),
    ];
    for (updates, tokens, round, message) in cases {
        let contributions = [Summand::contribution(round, tokens, &norms, updates)];
        let (step, norm_limits) = (1, &norms[..]);
        let task = AggregateTask {
            spec: &spec,
            base: &base,
            round,
            step,
            norm_limits,
            summands: &contributions,
            amendments: &[],
            is_last: false,
        };
        let error = aggregate(task).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
    let nobody = AggregateTask {
        spec: &spec,
        base: &base,
        round: 0,
        step: 1,
        norm_limits: &norms,
        summands: &[],
        amendments: &[],
        is_last: false,
    };
    assert!(aggregate(nobody).is_err());
    let mut less = norms.clone();
    less[1] -= 1;
    let contributions = [Summand::contribution(0, tokens, &less, &good)];
    let understated = AggregateTask { summands: &contributions, ..nobody };
    let error = aggregate(understated).unwrap_err().to_string();
    assert!(error.contains(&result.updates[1].vnode) && error.contains("a norm of"), "{error}");
    let unlimited = AggregateTask { norm_limits: &norms[1..], summands: &contributions, ..nobody };
    assert!(aggregate(unlimited).unwrap_err().to_string().contains("limits of norms"));
}

/// How far every parameter of the first VNode is from where it was.
fn moved(spec: &TrainingSpec, before: &Checkpoint, after: &Checkpoint) -> Vec<f64> {
    let values = |checkpoint: &Checkpoint| -> Vec<f32> {
        let network = checkpoint.network(spec).unwrap();
        let parameters = network.vnodes()[0].parameters();
        parameters.iter().flat_map(|parameter| parameter.value.iter().copied()).collect()
    };
    values(before).into_iter().zip(values(after)).map(|(a, b)| f64::from(a - b)).collect()
}

#[test]
fn a_long_contribution_moves_the_model_no_further_than_the_median() {
    let data = text();
    // Of three replicas one went on for far longer than was asked for.
    let spec = spec();
    let base = first_checkpoint(&spec, &data);
    let share = |first_sequence, inner_steps| Share { first_sequence, sequences_per_step: 4, inner_steps };
    let results = [share(0, 2), share(8, 2), share(16, 24)].map(|share| window(&spec, &data, &base, share));
    let all: Vec<&WindowResult> = results.iter().collect();
    let (updates, norms) = given(results.iter());
    let limits = norm_limits(&norms);
    // The last VNode has no parameters of its own: its head is tied.
    assert!((0..limits.len() - 1).all(|vnode| 3 * limits[vnode] < norms[2][vnode]), "{norms:?}");
    let norm_of_move = |norm_limits: &[u64]| {
        let summands = contributions(0, &all, &updates, &norms);
        let task = AggregateTask {
            spec: &spec,
            base: &base,
            round: 0,
            step: 2,
            norm_limits,
            summands: &summands,
            amendments: &[],
            is_last: false,
        };
        let moved = moved(&spec, &base, &aggregate(task).unwrap().checkpoint);
        moved.iter().map(|by| by * by).sum::<f64>().sqrt() * f64::from(1 << 24)
    };
    // By its weight the long one is six sevenths of the round.
    assert!(norm_of_move(&vec![u64::MAX; limits.len()]) > 2.0 * limits[0] as f64);
    assert!(norm_of_move(&limits) <= 1.0001 * limits[0] as f64);
}

#[test]
fn a_contribution_that_comes_a_round_late_counts_half() {
    let (spec, data) = (spec(), text());
    let base = first_checkpoint(&spec, &data);
    let window = |round, first_sequence| {
        let share = Share { first_sequence, sequences_per_step: 4, inner_steps: 2 };
        let task = WindowTask {
            spec: &spec,
            data: &data,
            base: &base,
            replica: None,
            round,
            first_step: 0,
            lead: None,
            share,
            ahead_steps: 0,
        };
        train_window(task, &mut go_on).unwrap()
    };
    let results = [window(6, 0), window(7, 8)];
    let (updates, norms) = given(results.iter());
    let unlimited = vec![u64::MAX; norms[0].len()];
    let aggregated = |rounds: [u32; 2]| {
        let tokens = results[0].tokens();
        let summand = |at: usize| Summand::contribution(rounds[at], tokens, &norms[at], &updates[at]);
        let summands = [summand(0), summand(1)];
        let (round, step, norm_limits) = (7, 2, &unlimited[..]);
        let task = AggregateTask {
            spec: &spec,
            base: &base,
            round,
            step,
            norm_limits,
            summands: &summands,
            amendments: &[],
            is_last: false,
        };
        aggregate(task).map(|aggregation| aggregation.checkpoint)
    };
    let moved = moved(&spec, &base, &aggregated([6, 7]).unwrap());
    let gradients = |at: usize| first_update(&spec, 6 + at as u32, &results[at]).values();
    for (by, (late, in_time)) in moved.iter().zip(gradients(0).into_iter().zip(gradients(1))) {
        let expected = (f64::from(late) / 2.0 + f64::from(in_time)) / 1.5 / f64::from(1 << 24);
        assert!((by - expected).abs() < 1e-7, "{by} {expected}");
    }
    for rounds in [[7, 7], [6, 6], [6, 8]] {
        let error = aggregated(rounds).unwrap_err().to_string();
        assert!(error.contains("round"), "an update says of which round it is: {error}");
    }
}

#[test]
fn a_replicas_state_is_refused_when_it_is_broken() {
    let (spec, data) = (spec(), text());
    let base = first_checkpoint(&spec, &data);
    let share = Share { first_sequence: 0, sequences_per_step: 4, inner_steps: 1 };
    let good = window(&spec, &data, &base, share).replica.into_bytes();
    let mut longer = good.clone();
    longer.push(0);
    let mut other_format = good.clone();
    other_format[0] = 9;
    for bad in [&good[..good.len() - 1], &longer, &other_format, &[]] {
        let replica = Some(bad);
        let task = WindowTask {
            spec: &spec,
            data: &data,
            base: &base,
            replica,
            round: 0,
            first_step: 0,
            lead: None,
            share,
            ahead_steps: 0,
        };
        let error = train_window(task, &mut go_on).unwrap_err().to_string();
        assert!(error.contains("replica state"), "{error}");
    }
}
