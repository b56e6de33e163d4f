//! Who keeps the checkpoints: chosen, asked, challenged, replaced.

use zoo_protocol::{CheckpointPlan, JobDescription, RoundPlan, StorageKind};
use zoo_state::{CHALLENGE_MS, Command, Event, Refusal, Release};

use crate::fleet::{DEADLINE_MS, Fleet, job, plan};

/// A fleet whose only job has finished its first round, in these regions.
fn kept(regions: &[&str], redundancy: u32) -> Fleet {
    let mut fleet = Fleet::new(regions.len());
    for (node, region) in regions.iter().enumerate() {
        fleet.join_in(node, region);
    }
    let plan = RoundPlan { steps: 27, evaluate_every: 27, ..plan() };
    let checkpoints = CheckpointPlan { redundancy, ..CheckpointPlan::default() };
    let job = JobDescription { checkpoints, ..job("job", plan) };
    fleet.apply(Command::JobSubmitted { job, now_ms: fleet.now_ms }).unwrap();
    while fleet.state.checkpoints().iter().count() == 0 {
        fleet.sweep();
    }
    fleet
}

/// Keepers of the newest checkpoint that store in this.
fn of_storage(fleet: &Fleet, storage: StorageKind) -> usize {
    let stores = |node: &usize| fleet.state.nodes()[&fleet.id(*node)].profile.storage == Some(storage);
    fleet.keepers().iter().filter(|node| stores(node)).count()
}

#[test]
fn nodes_with_the_storage_that_a_job_names_keep_its_checkpoints_and_take_the_place_of_others_when_they_come()
{
    let mut fleet = Fleet::new(7);
    (0..4).for_each(|node| fleet.join(node));
    let plan = RoundPlan { steps: 27, evaluate_every: 27, ..plan() };
    let checkpoints =
        CheckpointPlan { redundancy: 2, storage: Some(StorageKind::Ipfs), ..CheckpointPlan::default() };
    fleet.submit_description(JobDescription { checkpoints, ..job("job", plan) });
    while fleet.state.checkpoints().iter().count() == 0 {
        fleet.sweep();
    }
    all_keep(&mut fleet);
    assert_eq!((fleet.keepers().len(), of_storage(&fleet, StorageKind::Ipfs)), (2, 0), "others have to do");

    fleet.give_storage(4, StorageKind::S3);
    fleet.join(4);
    assert!(!fleet.keepers().contains(&4), "another storage is none");
    for (node, of_storage_then) in [(5, 1), (6, 2)] {
        fleet.give_storage(node, StorageKind::Ipfs);
        fleet.join(node);
        assert_eq!(fleet.keepers().len(), 3, "nobody is let go for one that is only promised");
        fleet.keep(node);
        assert_eq!((fleet.keepers().len(), of_storage(&fleet, StorageKind::Ipfs)), (2, of_storage_then));
    }
}

#[test]
fn a_node_with_the_storage_that_does_not_fetch_in_time_is_not_asked_for_ever() {
    let mut fleet = Fleet::new(3);
    fleet.give_storage(2, StorageKind::Ipfs);
    (0..3).for_each(|node| fleet.join(node));
    let plan = RoundPlan { steps: 27, evaluate_every: 27, ..plan() };
    let checkpoints =
        CheckpointPlan { redundancy: 1, storage: Some(StorageKind::Ipfs), ..CheckpointPlan::default() };
    fleet.submit_description(JobDescription { checkpoints, ..job("job", plan) });
    while fleet.state.checkpoints().iter().count() == 0 {
        fleet.sweep();
    }
    assert_eq!(fleet.keepers(), [2]);
    fleet.now_ms += 4 * DEADLINE_MS;
    fleet.sweep();
    assert!(releases(&mut fleet).contains(&Release::Late));
    assert!(fleet.keepers().len() == 1 && fleet.keepers() != [2]);
}

fn all_keep(fleet: &mut Fleet) {
    fleet.keepers().into_iter().for_each(|node| fleet.keep(node));
}

fn releases(fleet: &mut Fleet) -> Vec<Release> {
    let why = |event| if let Event::CheckpointReleased { why, .. } = event { Some(why) } else { None };
    fleet.news().into_iter().filter_map(why).collect()
}

#[test]
fn keepers_are_in_as_many_regions_as_there_are() {
    let regions = ["a", "a", "a", "a", "b", "b", "c"];
    let fleet = kept(&regions, 3);
    let mut of: Vec<&str> = fleet.keepers().into_iter().map(|node| regions[node]).collect();
    of.sort_unstable();
    assert_eq!(of, ["a", "b", "c"]);
    assert_eq!(kept(&["a"; 5], 3).keepers().len(), 3, "one region has to do");
    assert_eq!(kept(&["a", "b"], 3).keepers().len(), 2, "and so have two nodes");
}

#[test]
fn who_is_lost_is_replaced_and_let_go_only_when_enough_hold_the_checkpoint() {
    let mut fleet = kept(&[""; 5], 3);
    let before = fleet.keepers();
    all_keep(&mut fleet);
    let lost = before[0];
    fleet.lose(lost);
    let with_another = fleet.keepers();
    assert_eq!(with_another.len(), 4, "the one who is away still counts: it may be the only one");
    fleet.news();
    let another = with_another.into_iter().find(|node| !before.contains(node)).unwrap();
    fleet.keep(another);
    assert_eq!(releases(&mut fleet), [Release::Away]);
    assert!(!fleet.keepers().contains(&lost) && fleet.keepers().len() == 3);
}

#[test]
fn who_comes_back_is_asked_again_and_the_one_too_many_goes() {
    let mut fleet = kept(&[""; 5], 3);
    let before = fleet.keepers();
    all_keep(&mut fleet);
    fleet.lose(before[0]);
    fleet.join(before[0]);
    let holding = |fleet: &Fleet| {
        let (_, _, newest) = fleet.state.checkpoints().iter().last().unwrap();
        newest.keepers.values().filter(|keeper| keeper.holds()).count()
    };
    assert_eq!(holding(&fleet), 2, "its disk may be another");
    fleet.news();
    fleet.keep(before[0]);
    assert_eq!((holding(&fleet), fleet.keepers()), (3, before));
    assert_eq!(releases(&mut fleet), [Release::Spare]);
}

#[test]
fn who_does_not_fetch_in_time_is_replaced_and_asked_last() {
    let mut fleet = kept(&[""; 4], 3);
    let before = fleet.keepers();
    fleet.keep(before[0]);
    fleet.keep(before[1]);
    fleet.news();
    fleet.tick(4 * DEADLINE_MS);
    assert!(releases(&mut fleet).contains(&Release::Late));
    let another = (0..4).find(|node| !before.contains(node)).unwrap();
    assert!(fleet.keepers().contains(&another) && !fleet.keepers().contains(&before[2]));
    fleet.lose(another);
    assert!(fleet.keepers().contains(&before[2]), "nobody else is there");
}

#[test]
fn a_proof_is_believed_and_nothing_else_is() {
    type Case = (fn(Vec<u8>) -> Vec<u8>, Option<Release>);
    let cases: [Case; 4] = [
        (|proof| proof, None),
        (|_| Vec::new(), Some(Release::Lost)),
        (|proof| vec![0; proof.len()], Some(Release::False)),
        (|proof| proof[1..].to_vec(), Some(Release::False)),
    ];
    for (change, expected) in cases {
        let mut fleet = kept(&[""; 4], 3);
        all_keep(&mut fleet);
        let holder = fleet.keepers()[0];
        fleet.news();
        let proof = fleet.challenge(holder, 7, None).unwrap();
        let told = fleet.state.keeps_for(&fleet.id(holder));
        assert_eq!(told[0].challenge.map(|challenge| (challenge.nonce, challenge.bytes)), Some((7, 5_000)));
        let other = fleet.prove(holder, 8, proof.clone());
        assert!(matches!(other, Err(Refusal::NotAssigned { .. })), "of another challenge");
        fleet.prove(holder, 7, change(proof.clone())).unwrap();
        assert_eq!(releases(&mut fleet).first().copied(), expected);
        assert_eq!(fleet.keepers().contains(&holder), expected.is_none());
        assert_eq!(fleet.keepers().len(), 3, "who failed is replaced at once");
        assert!(fleet.prove(holder, 7, proof).is_err(), "a challenge is answered once");
    }
}

#[test]
fn silence_is_a_failure() {
    let mut fleet = kept(&[""; 4], 3);
    all_keep(&mut fleet);
    let holder = fleet.keepers()[0];
    fleet.challenge(holder, 7, None).unwrap();
    fleet.tick(CHALLENGE_MS - 1);
    assert!(fleet.keepers().contains(&holder));
    assert_eq!(fleet.state.next_deadline_ms(), Some(fleet.now_ms + 1));
    fleet.news();
    fleet.tick(1);
    assert_eq!(releases(&mut fleet), [Release::Silent]);
}

#[test]
fn only_holders_are_challenged() {
    let mut fleet = kept(&[""; 4], 3);
    let keeper = fleet.keepers()[0];
    assert!(fleet.challenge(keeper, 7, None).is_err(), "it has not said that it holds it");
    fleet.keep(keeper);
    assert!(fleet.challenge(keeper, 7, None).is_ok());
    assert!(fleet.challenge(keeper, 8, None).is_err(), "one challenge at a time");
    let other = (0..4).find(|node| !fleet.keepers().contains(node)).unwrap();
    assert!(fleet.challenge(other, 7, None).is_err());
}

#[test]
fn a_checkpoint_that_nobody_has_to_keep_any_more_is_asked_of_nobody() {
    let mut fleet = Fleet::new(4);
    (0..4).for_each(|node| fleet.join(node));
    let plan = RoundPlan { steps: 33, evaluate_every: 99, ..plan() };
    let checkpoints = CheckpointPlan { redundancy: 2, interval: 3, keep: 2, storage: None };
    let job = JobDescription { checkpoints, ..job("job", plan) };
    let id = job.id();
    fleet.apply(Command::JobSubmitted { job, now_ms: fleet.now_ms }).unwrap();
    assert!(fleet.finish(&id, 200));
    let rounds: Vec<u32> = fleet.state.checkpoints().iter().map(|(_, round, _)| round).collect();
    assert_eq!(rounds, [5, 8, 10]);
    let asked: usize = (0..4).map(|node| fleet.state.keeps_for(&fleet.id(node)).len()).sum();
    assert_eq!(asked, 3 * 2);
    let next = fleet.submit("next", RoundPlan { steps: 3, ..crate::fleet::plan() });
    assert!(fleet.finish(&next, 100));
    let left = fleet.state.checkpoints().iter().filter(|(job, _, _)| **job == id).count();
    assert_eq!(left, 1, "its last");
}
