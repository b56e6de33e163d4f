//! A dispute as a file.

mod common;

use std::sync::OnceLock;

use common::{arbiter, played, setting};
use zoo_content::Digest;
use zoo_dispute::{CheckError, Flip, Game, Knowledge, Program, Task, Terms, TermsError, check};
use zoo_model::{Family, MuonSettings, Optimizer};
use zoo_protocol::{Profile, TrainWindow};
use zoo_training::TrainingSpec;

fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let setting = setting(Family::Llama, Profile::F32Exact, 2);
        let mut liar = setting.liar(Flip { step: 1, tensor: 100, element: 5, bit: 22 });
        let terms = setting.terms(liar.outcome().expect("it trains"));
        played(&terms, &mut liar, &mut setting.honest()).file(&arbiter()).expect("it is over")
    })
}

#[test]
fn a_byte_changed_anywhere_is_detected() {
    let mut file = file().to_vec();
    check(&file).expect("it holds");
    let places: Vec<usize> =
        (0..file.len()).filter(|at| *at < 300 || at % 13 == 0 || at + 200 > file.len()).collect();
    for at in places {
        for bit in [1, 0x80] {
            file[at] ^= bit;
            assert!(check(&file).is_err(), "byte {at} of {}", file.len());
            file[at] ^= bit;
        }
    }
    for length in [0, 7, 9, 10, 11, file.len() / 2, file.len() - 1] {
        assert!(check(&file[..length]).is_err());
    }
    file.push(0);
    assert!(matches!(check(&file), Err(CheckError::Format(_))));
}

#[test]
fn whoever_signs_a_record_cannot_say_another_verdict() {
    let checked = check(file()).expect("it holds");
    let signed = |record: &zoo_dispute::Record| {
        let sealed = zoo_protocol::encode(&zoo_protocol::Sealed::seal(record, &arbiter()));
        check(&[&file()[..10], &sealed].concat())
    };
    signed(&checked.record).expect("it is the same");
    let mut other = checked.record.clone();
    other.verdict.loser = zoo_dispute::Role::Challenger;
    assert!(matches!(signed(&other), Err(CheckError::Verdict { .. })));
    let mut shorter = checked.record.clone();
    shorter.moves.pop();
    assert!(matches!(signed(&shorter), Err(CheckError::Verdict { .. })));
    let mut swapped = checked.record.clone();
    swapped.moves.swap(0, 2);
    assert!(matches!(signed(&swapped), Err(CheckError::Move { number: 1, .. })));
    let mut framed = checked.record.clone();
    framed.terms.task.base = vec![1];
    assert!(matches!(signed(&framed), Err(CheckError::Terms(_))));
    let mut earlier = checked.record.clone();
    earlier.terms.task.round += 1;
    assert!(matches!(signed(&earlier), Err(CheckError::Move { number: 1, .. })));
    let mut late = checked.record;
    late.moves.iter_mut().for_each(|(at_ms, _)| *at_ms += 501);
    assert!(signed(&late).is_err());
}

#[test]
fn terms_that_make_no_sense_are_refused_with_what_is_wrong() {
    let setting = setting(Family::Llama, Profile::F32Exact, 2);
    let (terms, task) = (setting.honest_terms(), setting.replay.task());
    let program = |change: fn(&mut TrainingSpec)| {
        let mut spec = setting.spec.clone();
        change(&mut spec);
        Task { program: spec.to_bytes(), ..task.clone() }
    };
    let muon = program(|spec| spec.optimizer = Optimizer::Muon(MuonSettings::default()));
    assert!(matches!(muon.check(), Err(TermsError::Other("base"))), "the base is that of another program");
    let longer = program(|spec| spec.model.context = 5000);
    assert!(matches!(longer.check(), Err(TermsError::Data(_))));
    let deep = program(|spec| spec.model.layers = 300);
    assert!(matches!(deep.check(), Err(TermsError::Value { what: "number of layers", .. })));
    let spaced = Task { program: [&task.program[..], b" "].concat(), ..task.clone() };
    assert!(matches!(spaced.check(), Err(TermsError::NotCanonical)));
    assert!(matches!(Task { program: vec![1], ..task.clone() }.check(), Err(TermsError::Program(_))));
    assert!(matches!(Terms { move_ms: 0, ..terms.clone() }.check(), Err(TermsError::Value { .. })));
    let mut past = task.clone();
    past.share.first_sequence = u64::MAX;
    assert!(matches!(past.check(), Err(TermsError::Value { what: "first sequence", .. })));
    assert!(matches!(Program::of(&past, 0, None), Err(TermsError::Value { .. })));
    let past = Terms { task: past, ..terms.clone() };
    assert!(matches!(Game::open(past.clone()), Err(TermsError::Value { what: "first sequence", .. })));
    assert_ne!(terms.digest(), past.digest());
}

#[test]
fn a_task_is_the_window_that_a_node_was_asked_for_and_no_other() {
    let task = setting(Family::Qwen3, Profile::F32Exact, 3).replay.task().clone();
    let share = |share: zoo_training::Share| {
        let zoo_training::Share { first_sequence, sequences_per_step, inner_steps } = share;
        zoo_protocol::Share { first_sequence, sequences_per_step, inner_steps }
    };
    let work = TrainWindow {
        network: arbiter().id(),
        job: Digest::of(b"job"),
        round: task.round,
        program: Digest::of(&task.program),
        profile: Profile::F32Exact,
        base: Digest::of(&task.base),
        data: task.data.digest,
        first_step: task.first_step,
        share: share(task.share),
        lead: task.lead.map(share),
        ahead_steps: task.ahead_steps,
        kept: None,
        reveals: None,
    };
    let kept = task.kept.as_ref().map(|kept| kept.blob.digest);
    assert!(task.is(&work, kept));
    assert!(!task.is(&work, None));
    assert!(!task.is(&TrainWindow { round: work.round + 1, ..work.clone() }, kept));
    assert!(!task.is(&TrainWindow { base: work.data, ..work.clone() }, kept));
    assert!(!task.is(&TrainWindow { lead: None, ..work.clone() }, kept));
    assert!(!task.is(&TrainWindow { ahead_steps: 9, ..work }, kept));
}
