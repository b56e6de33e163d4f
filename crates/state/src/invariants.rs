//! What holds after every command, written once: for `debug_assert!`, for property tests, for
//! simulators, and for snapshots that are read back.

use std::collections::BTreeSet;

use zoo_protocol::{CheckpointPlan, JobId, NodeId, Work};

use crate::limits::{MAX_FINISHED_JOBS, MAX_FRUITLESS, MAX_NODES, MAX_QUEUED_JOBS};
use crate::verification::QUARANTINE_MAX;
use crate::{
    Aggregating, Answer, Checkpoint, Contribution, Evaluating, Item, JobCheckpoints, Keeper, Outcome, Phase,
    Queued, Running, SITTING_MAX, Seat, SeatState, Settling, ShardState, Sitting, State, SumState, Training,
    Verification, WindowName,
};

type Checked = Result<(), String>;

/// Checks everything, and says which invariant is broken.
pub fn check(state: &State) -> Checked {
    check_accounts(state)?;
    check_jobs(state)?;
    check_checkpoints(state)?;
    check_suspects(state)?;
    check_keys(state)?;
    check_admission(state)?;
    check_work(state)?;
    state.running.as_ref().map_or(Ok(()), |running| check_running(state, running))
}

fn check_accounts(state: &State) -> Checked {
    ensure(state.nodes.len() <= MAX_NODES, || format!("{} nodes are known", state.nodes.len()))?;
    let mut tokens = 0;
    for (id, node) in &state.nodes {
        let account = &node.account;
        tokens = account.tokens.saturating_add(tokens);
        ensure(account.rounds <= account.contributions, || {
            format!(
                "{id:?} is paid for {} rounds and {} contributions",
                account.rounds, account.contributions
            )
        })?;
        ensure((account.tokens > 0) == (account.rounds > 0), || format!("{id:?} has tokens without rounds"))?;
    }
    ensure(tokens == state.tokens, || {
        format!("the accounts sum up to {tokens} tokens, the rounds to {}", state.tokens)
    })
}

fn check_jobs(state: &State) -> Checked {
    ensure(state.running.is_some() || state.queue.is_empty(), || "jobs wait while none runs".into())?;
    ensure(state.queue.len() <= 2 * MAX_QUEUED_JOBS, || format!("{} jobs wait", state.queue.len()))?;
    ensure(state.paused.len() <= MAX_QUEUED_JOBS, || format!("{} jobs are paused", state.paused.len()))?;
    for (job, paused) in &state.paused {
        ensure(*job == paused.description().id(), || format!("{job} is paused under another id"))?;
    }
    for begun in set_aside(state) {
        let idle = begun.late.is_empty()
            && matches!(begun.phase, Phase::Waiting | Phase::Evaluating(_))
            && begun.tokens <= state.tokens;
        ensure(idle, || format!("job {} waits in {:?}", begun.job, begun.phase))?;
        check_base(state, begun)?;
    }
    ensure(state.finished.len() <= MAX_FINISHED_JOBS, || format!("{} jobs are over", state.finished.len()))?;
    let mut seen = BTreeSet::new();
    let queued = state.queue.iter().chain(state.paused.values()).map(|queued| queued.description().id());
    let running = state.running.iter().map(|running| running.job);
    let finished = state.finished.iter().map(|finished| finished.job);
    for job in queued.chain(running).chain(finished) {
        ensure(seen.insert(job), || format!("job {job} is there twice"))?;
    }
    for finished in &state.finished {
        if let Outcome::Finished { checkpoint } | Outcome::Stopped { checkpoint: Some(checkpoint), .. } =
            finished.outcome
        {
            let kept = state
                .checkpoints
                .iter()
                .any(|(job, _, kept)| *job == finished.job && kept.digest == checkpoint);
            ensure(kept, || format!("the last checkpoint of {} is not kept", finished.job))?;
        }
    }
    Ok(())
}

fn check_checkpoints(state: &State) -> Checked {
    let live = state.live().count();
    let newest = state.running.as_ref().map(|running| running.job);
    let newest = newest.into_iter().chain(state.finished.back().map(|finished| finished.job));
    let newest: BTreeSet<JobId> = newest.chain(set_aside(state).map(|begun| begun.job)).collect();
    for (job, JobCheckpoints { plan, rounds, .. }) in state.checkpoints.jobs() {
        let kept_max = if newest.contains(job) { plan.keep as usize + 1 } else { 1 };
        ensure(rounds.len() <= kept_max, || format!("{} checkpoints of {job} are kept", rounds.len()))?;
        for (round, checkpoint) in rounds {
            let checked = check_keepers(state, checkpoint, plan, live);
            checked.map_err(|broken| format!("round {round} of {job}: {broken}"))?;
        }
    }
    Ok(())
}

/// Whoever is suspected is there, and will be heard or lost.
fn check_suspects(state: &State) -> Checked {
    ensure(state.suspects.keys().all(|id| state.is_live(id)), || "somebody is suspected and lost".into())?;
    ensure(state.suspects.is_empty() || state.next_deadline_ms().is_some(), || {
        "nothing bounds the wait for a suspect".into()
    })
}

/// A key that has gone stays away, its node goes on under a key that is known or has gone itself, and nobody vouches for a stranger.
fn check_keys(state: &State) -> Checked {
    for (key, gone) in &state.gone {
        ensure(!state.is_live(key), || format!("{key:?} has gone and is there"))?;
        let Some(successor) = gone.successor else { continue };
        ensure(!state.nodes.contains_key(key), || format!("{key:?} goes on under two keys"))?;
        let is_known =
            |key| state.nodes.contains_key(key) || state.gone.contains_key(key) || gone.was_newcomer;
        ensure(successor != *key && is_known(&successor), || format!("{key:?} goes on as a stranger"))?;
    }
    let for_whom = state.trusted.vouched.keys().chain(state.trusted.attested.keys());
    let known = |key: &NodeId| state.nodes.contains_key(key) && !state.gone.contains_key(key);
    ensure(for_whom.into_iter().all(known), || "somebody vouches for a stranger".into())
}

/// Who is asked is here, and a sitting ends.
fn check_admission(state: &State) -> Checked {
    let Some(Sitting { candidates, circle, .. }) = state.sitting() else { return Ok(()) };
    let asked = candidates.iter().filter(|(_, candidate)| candidate.asked.is_some());
    ensure(asked.clone().all(|(id, _)| state.is_live(id)), || "somebody is measured and lost".into())?;
    ensure((1..=SITTING_MAX).contains(&candidates.len()), || {
        format!("{} nodes are measured", candidates.len())
    })?;
    ensure(circle.is_empty() || asked.count() == 0, || "checked before all have answered".into())?;
    ensure(circle.is_empty() || candidates.keys().all(|id| circle.contains(id)), || {
        "somebody is checked who has not answered".into()
    })?;
    ensure(state.next_deadline_ms().is_some(), || "nothing bounds a sitting".into())
}

/// As many live nodes keep a checkpoint as its plan says, or all that are there; and what is counted on is known.
fn check_keepers(state: &State, checkpoint: &Checkpoint, plan: &CheckpointPlan, live: usize) -> Checked {
    let redundancy = plan.redundancy as usize;
    let Checkpoint { keepers, holders, unfit, .. } = checkpoint;
    let known = |node: &NodeId| state.nodes.contains_key(node);
    ensure(keepers.keys().chain(holders).chain(unfit).all(known), || "a stranger holds it".into())?;
    let keepers = checkpoint.keepers.iter().filter(|(node, _)| state.is_live(node));
    let (here, holding) = keepers
        .fold((0, 0), |(here, holding), (_, keeper)| (here + 1, holding + usize::from(keeper.holds())));
    ensure(here >= redundancy.min(live), || format!("{here} of {live} nodes keep it, not {redundancy}"))?;
    let stores = |node: &NodeId| {
        plan.storage.is_none()
            || state.nodes.get(node).is_some_and(|node| node.profile.storage == plan.storage)
    };
    let storing = checkpoint.keepers.iter().filter(|(node, _)| state.is_live(node) && stores(node));
    let (storing, stored) = storing
        .fold((0, 0), |(storing, stored), (_, keeper)| (storing + 1, stored + usize::from(keeper.holds())));
    let could = state.live().filter(|(node, _)| stores(node) && !unfit.contains(*node)).count();
    ensure(storing >= redundancy.min(could), || format!("{storing} of {could} that store it keep it"))?;
    let is_enough = holding >= redundancy && stored >= redundancy.min(storing);
    ensure(!is_enough || checkpoint.keepers.len() == redundancy, || {
        format!("{holding} hold it and {} keep it, not {redundancy}", checkpoint.keepers.len())
    })?;
    let holds = |(node, keeper): (&NodeId, &Keeper)| !keeper.holds() || checkpoint.holders.contains(node);
    ensure(checkpoint.keepers.iter().all(holds), || "who holds it is not counted".into())?;
    ensure(checkpoint.keepers.values().all(|keeper| keeper.ask <= checkpoint.asks), || {
        "somebody was asked who was not".into()
    })
}

/// Who is gone or barred has no work, and a suspect or a newcomer none but the window it has a seat for; and if anybody is there to do it, somebody has work.
fn check_work(state: &State) -> Checked {
    let eligible = state.eligible();
    let is_late =
        |id: &NodeId| state.running.as_ref().is_some_and(|running| running.late_window(id).is_some());
    let has_seat = |id: &NodeId| match state.running.as_ref().map(|running| &running.phase) {
        Some(Phase::Training(training)) => training.seats.contains_key(id),
        _ => false,
    };
    let suspects_work = |id: &NodeId| match state.work_of_job(id) {
        Work::Train(_) => is_late(id) || has_seat(id),
        Work::Verify(_) => true,
        _ => false,
    };
    for id in state.nodes.keys().filter(|id| eligible.binary_search(id).is_err() && !suspects_work(id)) {
        ensure(state.work_of_job(id) == Work::Idle, || format!("{id:?} has work without being there"))?;
    }
    let Some(running) = &state.running else { return Ok(()) };
    let enough = match running.phase {
        Phase::Waiting => running.description.plan.minimum_nodes as usize,
        _ => 1,
    };
    let somebody_works = state.live().any(|(id, _)| state.work_of_job(id) != Work::Idle);
    ensure(somebody_works || eligible.len() < enough, || {
        format!("{} nodes are there and nobody works, in {:?}", eligible.len(), running.phase)
    })?;
    ensure(
        (running.phase == Phase::Waiting || eligible.is_empty()) || state.round_deadline_ms().is_some(),
        || "nothing bounds the wait for the nodes that work".into(),
    )
}

fn check_running(state: &State, running: &Running) -> Checked {
    let Running { job, round, .. } = running;
    ensure(*job == running.description.id(), || format!("job {job} is not what it says"))?;
    let plan = &running.description.plan;
    let steps_left = match running.phase {
        Phase::Evaluating(_) => running.step <= plan.steps,
        _ => running.step < plan.steps,
    };
    ensure(steps_left, || format!("round {round} begins after step {} of {}", running.step, plan.steps))?;
    ensure(u64::from(*round) <= running.step, || format!("{round} rounds had {} steps", running.step))?;
    ensure(running.fruitless <= MAX_FRUITLESS, || format!("{} fruitless restarts", running.fruitless))?;
    ensure(running.tokens <= state.tokens, || "the job has more tokens than all jobs".into())?;
    ensure(running.paces.keys().all(|id| state.nodes.contains_key(id)), || "a stranger has a pace".into())?;
    ensure(running.barred.keys().all(|id| state.nodes.contains_key(id)), || "a stranger is barred".into())?;
    let longest = round.saturating_add(QUARANTINE_MAX);
    ensure(running.barred.values().all(|through| (*round..=longest).contains(through)), || {
        format!("in round {round} nodes are barred through {:?}", running.barred)
    })?;
    check_base(state, running)?;
    check_late(state, running)?;
    check_verification(state, running)?;
    check_open_rounds(running)?;
    match &running.phase {
        Phase::Waiting => Ok(()),
        Phase::Training(training) => check_training(state, running, training),
        Phase::Settling(settling) => check_settling(state, running, settling),
        Phase::Aggregating(aggregating) => check_aggregating(state, running, aggregating),
        Phase::Evaluating(evaluating) => check_evaluating(state, running, evaluating),
    }
}

/// Who is late is here, has no part in this round, and is not needed.
/// Jobs that have begun and wait.
fn set_aside(state: &State) -> impl Iterator<Item = &Running> {
    let queued = state.queue.iter().chain(state.paused.values());
    queued.filter_map(|queued| if let Queued::Begun(running) = queued { Some(&**running) } else { None })
}

/// A round starts from the checkpoint of the one before, and that is kept.
fn check_base(state: &State, running: &Running) -> Checked {
    let Running { job, round, .. } = running;
    let finished = match running.phase {
        Phase::Evaluating(_) => Some(*round),
        _ => round.checked_sub(1),
    };
    let base = match finished {
        None => Some(running.description.initial),
        Some(finished) => state.checkpoints.get(job, finished).map(|kept| kept.digest),
    };
    ensure(base == Some(running.base), || format!("round {round} does not build on the one before"))
}

fn check_late(state: &State, running: &Running) -> Checked {
    for (id, late) in &running.late {
        let round = late.window.round;
        let is_before = match running.phase {
            Phase::Settling(_) | Phase::Aggregating(_) | Phase::Evaluating(_) => round <= running.round,
            Phase::Waiting | Phase::Training(_) => round < running.round,
        };
        ensure(is_before && round + 1 >= running.round, || format!("{id:?} is late in round {round}"))?;
        if late.given.is_some() {
            continue;
        }
        let has_seat = matches!(&running.phase, Phase::Training(training) if training.seats.contains_key(id));
        ensure(state.is_live(id) && !running.is_barred(id) && !has_seat, || {
            format!("{id:?} is late without being there, or with a seat")
        })?;
    }
    ensure(state.needed_latecomers().next().is_none() || state.can_spare(0), || "the late are needed".into())
}

/// Who verifies is here and not at fault, does nothing else, and verifies something that is not its own.
/// What is to be taken back was given to a round that is not final, and was not taken back before.
fn check_open_rounds(running: &Running) -> Checked {
    let ended = running.round + u32::from(matches!(running.phase, Phase::Evaluating(_)));
    ensure(running.open.keys().all(|round| *round < ended), || "a round that is not over is open".into())?;
    for (round, makers) in &running.withdrawals {
        let is_there = |maker: &NodeId| {
            running
                .open
                .get(round)
                .is_some_and(|open| open.contributions.contains_key(maker) && !open.withdrawn.contains(maker))
        };
        ensure(!makers.is_empty() && makers.iter().all(is_there), || {
            format!("what is to be taken back out of round {round} is not in it")
        })?;
    }
    if let Phase::Aggregating(Aggregating { amends: Some(amends), .. }) = &running.phase {
        let is_pending = amends.rounds.iter().all(|round| running.withdrawals.contains_key(round));
        ensure(is_pending && !amends.rounds.is_empty(), || {
            format!("nothing is to be taken back out of rounds {:?}", amends.rounds)
        })?;
    }
    Ok(())
}

fn check_verification(state: &State, running: &Running) -> Checked {
    let Verification { undrawn, checks, verifiers } = &running.verification;
    let seats = match &running.phase {
        Phase::Training(training) => Some(&training.seats),
        _ => None,
    };
    for (id, verifier) in verifiers {
        let (_, maker) = verifier.window;
        let is_free = state.is_live(id) && !running.is_barred(id) && running.late_window(id).is_none();
        let has_seat = seats.is_some_and(|seats| seats.contains_key(id));
        ensure(is_free && !has_seat && *id != maker, || format!("{id:?} verifies beside something else"))?;
        let answers = checks.get(&verifier.window).is_some_and(|check| !check.opinions.contains_key(id));
        ensure(answers, || format!("{id:?} verifies what is not to be verified"))?;
    }
    let is_settling = matches!(running.phase, Phase::Settling(_));
    let here = is_settling
        || verifiers.is_empty()
        || state.eligible().len() >= running.description.plan.minimum_nodes as usize;
    ensure(here, || "the verifiers are needed".into())?;
    let known = |(round, maker): &WindowName| *round <= running.round && state.nodes.contains_key(maker);
    ensure(undrawn.keys().chain(checks.keys()).all(known), || "a stranger's window is verified".into())
}

fn check_training(state: &State, running: &Running, training: &Training) -> Checked {
    let plan = &running.description.plan;
    ensure(running.starts > 0, || "training has not started".into())?;
    ensure(training.seats.len() >= plan.minimum_nodes as usize, || {
        format!("the round started with {} nodes", training.seats.len())
    })?;
    ensure(training.newcomers.iter().all(|id| training.seats.contains_key(id)), || {
        "a newcomer has no seat".into()
    })?;
    let awaited = || training.seats.iter().filter(|(id, _)| !training.newcomers.contains(id));
    let awaited = || awaited().map(|(_, seat)| seat);
    let working = awaited().filter(|seat| seat.state == SeatState::Working).count();
    ensure(working == training.working as usize, || {
        format!("{working} nodes train, {} are counted", training.working)
    })?;
    let contributed = |seat: &&Seat| matches!(seat.state, SeatState::Contributed(_));
    ensure(awaited().filter(contributed).count() == training.contributed as usize, || {
        format!("{} contributions are counted", training.contributed)
    })?;
    let (mut end, mut in_step) = (None, 0u64);
    let (inner_steps, ahead_steps) = (running.tempo.steps_from_base(), running.tempo.ahead_steps);
    ensure(running.step_after() <= plan.steps, || "the round ends after the job".into())?;
    // A node that goes on under another key keeps its share, and has another place among the ids.
    let mut seats: Vec<_> = training.seats.iter().collect();
    seats.sort_by_key(|(_, seat)| seat.share.first_sequence);
    for (id, seat) in seats {
        let share = &seat.share;
        ensure(end.is_none_or(|end| end == share.first_sequence), || {
            format!("{id:?} has a gap before its share")
        })?;
        ensure(share.inner_steps == inner_steps && share.sequences_per_step > 0, || {
            format!("the share of {id:?} is not the plan's")
        })?;
        in_step += u64::from(share.sequences_per_step);
        end = Some(share.after(ahead_steps).end());
        let here = state.is_live(id) && !running.is_barred(id);
        match &seat.state {
            SeatState::Working => ensure(here, || format!("{id:?} works without being there"))?,
            SeatState::Lost => ensure(!here, || format!("{id:?} counts as lost and is there"))?,
            SeatState::Contributed(contribution) => {
                ensure(contribution.tokens > 0, || format!("{id:?} gave nothing"))?
            }
            SeatState::Failed(_) => {}
        }
    }
    ensure(in_step == u64::from(plan.sequences_per_step) * training.seats.len() as u64, || {
        format!("{in_step} sequences a step for {} nodes", training.seats.len())
    })?;
    ensure(end == Some(running.cursor), || {
        format!("the shares end at {end:?}, the cursor is {}", running.cursor)
    })
}

/// Something is left to be aggregated, and nobody has told what was not asked.
fn check_settling(state: &State, running: &Running, settling: &Settling) -> Checked {
    ensure(!settling.contributions.is_empty(), || "nothing is left to be settled".into())?;
    ensure(settling.told.keys().all(|id| settling.contributions.contains_key(id)), || {
        "somebody told something without a contribution".into()
    })?;
    let known = |id: &NodeId| state.nodes.contains_key(id);
    ensure(settling.contributions.keys().all(known), || "a stranger's contribution is to be settled".into())?;
    ensure(!settling.is_drawn || running.verification.undrawn.is_empty(), || "a window was not drawn".into())
}

fn check_aggregating(state: &State, running: &Running, aggregating: &Aggregating) -> Checked {
    ensure(!aggregating.contributions.is_empty(), || "nothing is aggregated".into())?;
    ensure(running.next_attempt.checked_sub(1) == Some(aggregating.attempt), || {
        "the attempt is not the newest".into()
    })?;
    let outlines: BTreeSet<_> = aggregating.contributions.values().map(Contribution::outline).collect();
    ensure(outlines.len() == 1, || "contributions that do not fit together are aggregated".into())?;
    ensure(aggregating.contributions.keys().all(|id| state.nodes.contains_key(id)), || {
        "a stranger's contribution is aggregated".into()
    })?;
    let gathering = &aggregating.gathering;
    let mut added = vec![0u32; gathering.sums.len()];
    for items in gathering.sums.iter().map(|sum| &sum.items).chain([&gathering.top]) {
        for item in items {
            match item {
                Item::Contribution(id) => ensure(aggregating.contributions.contains_key(id), || {
                    format!("{id:?} is added without a contribution")
                })?,
                Item::Sum(sum) => added[*sum as usize] += 1,
            }
        }
    }
    ensure(added.iter().all(|times| *times == 1), || "a sum is lost, or added twice".into())?;
    let eligible = state.eligible();
    for sum in &gathering.sums {
        let fits = match &sum.state {
            SumState::Open(Some(with)) => eligible.binary_search(with).is_ok(),
            SumState::Open(None) => eligible.is_empty(),
            SumState::Done(by, sums) => state.nodes.contains_key(by) && sums.len() == sum.vnodes as usize,
        };
        // Before the first time that anybody is there, sums are where the plan has them.
        ensure(fits || aggregating.since_ms.is_none(), || {
            format!("a sum is with nobody who is there: {sum:?}")
        })?;
    }
    let barred = |id: &NodeId| running.is_barred(id) || !state.nodes.contains_key(id);
    ensure(!aggregating.answers.keys().any(barred), || "a barred node has a say".into())?;
    for answer in aggregating.answers.values() {
        if let Answer::Missing(missing) = answer {
            let known = missing.iter().all(|id| aggregating.contributions.contains_key(id));
            ensure(known && !missing.is_empty(), || "what is missing is not aggregated".into())?;
        }
    }
    for (contributor, judges) in &aggregating.refusals {
        let known = |id| state.nodes.contains_key(id);
        ensure(aggregating.contributions.contains_key(contributor) && judges.keys().all(known), || {
            format!("{contributor:?} is refused without a contribution, or by a stranger")
        })?;
    }
    ensure(aggregating.since_ms.is_none() == state.eligible().is_empty(), || {
        "the deadline of the aggregation does not fit who is there".into()
    })
}

fn check_evaluating(state: &State, running: &Running, evaluating: &Evaluating) -> Checked {
    let shards = running.description.plan.evaluation_shards as usize;
    ensure(evaluating.shards.len() == shards, || {
        format!("{} shards are evaluated", evaluating.shards.len())
    })?;
    let eligible = state.eligible();
    for (shard, held) in evaluating.shards.iter().enumerate() {
        let fits = match held {
            ShardState::Open(Some(holder)) => eligible.binary_search(holder).is_ok(),
            ShardState::Open(None) => eligible.is_empty(),
            ShardState::Done(_) => true,
        };
        ensure(fits, || format!("shard {shard} is with nobody who is there"))?;
    }
    Ok(())
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(otherwise()) }
}
