//! What a node may take decides how much goes through the network at once, and no bit.

use std::ops::ControlFlow;

use zoo_content::MemoryStore;
use zoo_protocol::Evaluate;
use zoo_tasks::{AtHand, TaskError, evaluate, train};
use zoo_training::Share;

use crate::orchestrator::Job;

/// Enough for several micro-batches of different sizes within some MiB.
const SEQUENCES: u32 = 40;

#[test]
fn nodes_with_different_limits_take_different_micro_batches_and_end_with_the_same_digests() {
    let job = Job::new();
    let store = MemoryStore::default();
    job.save(&store);
    let share = Share { first_sequence: 0, sequences_per_step: SEQUENCES, inner_steps: 1 };
    let window = job.window(0, job.base, share);
    let trained = |available_mib| {
        let mut at_hand = AtHand::default();
        train(&store, &mut at_hand, &window, None, available_mib, &mut |_| ControlFlow::Continue(()))
    };
    let whole = trained(None).unwrap();
    let mut micro_batches = Vec::new();
    for available_mib in 1.. {
        match trained(Some(available_mib)) {
            Ok(window) => assert_eq!(window.outcome, whole.outcome, "within {available_mib} MiB"),
            Err(TaskError::Memory { needed_mib, available_mib }) => {
                assert!(needed_mib > available_mib && micro_batches.is_empty(), "{needed_mib} MiB");
                continue;
            }
            Err(cause) => panic!("{cause}"),
        }
        let left = (available_mib << 20) - job.data.blob().len() as u64;
        let fitted = job.spec.fitted(SEQUENCES, left).unwrap();
        micro_batches.push(fitted.micro_batch(SEQUENCES));
        if micro_batches.last() == Some(&SEQUENCES) {
            break;
        }
    }
    micro_batches.dedup();
    assert!(micro_batches.len() >= 3 && micro_batches.is_sorted(), "{micro_batches:?}");
}

#[test]
fn what_does_not_fit_in_the_smallest_pieces_is_refused_with_what_it_would_take() {
    let job = Job::new();
    let store = MemoryStore::default();
    job.save(&store);
    let work = Evaluate {
        job: Job::id(),
        round: 0,
        program: job.spec.digest(),
        checkpoint: job.base,
        data: job.data.digest(),
        shard: 0,
        shards: 1,
    };
    let scored = |available_mib| evaluate(&store, &mut AtHand::default(), &work, available_mib);
    let refused = scored(Some(0)).unwrap_err();
    assert!(refused.to_string().contains("at least about"), "{refused}");
    assert!(refused.to_string().contains("and 0 MiB are available here"), "{refused}");
    let TaskError::Memory { needed_mib, .. } = refused else { panic!("{refused}") };
    assert_eq!(scored(Some(needed_mib)).unwrap(), scored(None).unwrap());
}
