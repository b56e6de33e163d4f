//! One wrong bit in one element of one tensor is found, named and proven.

mod common;

use common::{Setting, arbiter, played, setting, setting_with};
use zoo_dispute::operator::{Codec, Operator, Point, Tally, What};
use zoo_dispute::program::{Pass, Tensor};
use zoo_dispute::{Flip, Forgery, Knowledge, Player, Program, Reason, Replay, Role, Verdict, check};
use zoo_kernels::random;
use zoo_model::Family;
use zoo_protocol::Profile;

#[test]
fn in_every_kind_of_tensor_of_a_qwen3_step() {
    every_tensor(&setting(Family::Qwen3, Profile::F32Exact, 2), 1);
}

#[test]
fn in_tensors_of_a_gpt2_step() {
    every_tensor(&setting(Family::Gpt2, Profile::F32Exact, 2), 2);
}

#[test]
fn in_tensors_of_a_llama_step() {
    every_tensor(&setting(Family::Llama, Profile::F32Exact, 2), 3);
}

#[test]
fn in_tensors_of_steps_in_bf16() {
    every_tensor(&setting(Family::Qwen3, Profile::Bf16Exact, 2), 5);
    every_tensor(&setting(Family::Gpt2, Profile::Bf16Exact, 2), 7);
}

#[test]
fn in_directions_and_momentum_of_muon() {
    for family in [Family::Qwen3, Family::Llama] {
        let setting = setting_with(true, family, Profile::F32Exact, 2);
        let program = setting.honest().trace(1).expect("it is traced").program.clone();
        let first = program.groups.iter().position(|group| group.pass == Pass::Orthogonalise);
        let first = program.groups[first.expect("there is one")].tensors.start;
        let after = &program.groups[program.after.clone()];
        let end = after.last().expect("there are some").tensors.end;
        let moved: Vec<Tensor> = program.tensors[first..end].to_vec();
        tensors(&setting, 1, 3, |tensor| moved.contains(tensor));
    }
}

#[test]
fn in_what_a_window_begins_with() {
    for family in [Family::Qwen3, Family::Llama] {
        let setting = setting(family, Profile::F32Exact, 3);
        let is_stored =
            |tensor: &Tensor| matches!(tensor.operator, Operator::Stored(_) | Operator::Point(Point::Zero));
        tensors(&setting, 0, 3, is_stored);
    }
}

#[test]
fn in_digests_of_all_parameters() {
    let setting = setting(Family::Llama, Profile::F32Exact, 5);
    tensors(&setting, 3, 1, |tensor| matches!(tensor.operator, Operator::Hash(_)));
}

#[test]
fn in_any_step_and_what_follows_follows_from_it() {
    let setting = setting(Family::Qwen3, Profile::F32Exact, 6);
    let mut honest = setting.honest();
    for step in 0..6 {
        let program = honest.trace(step).expect("it is traced").program.clone();
        let tensor = program.tensors.iter().position(|tensor| tensor.name == "gradient of down");
        let flip = Flip { step, tensor: tensor.expect("there is one"), element: 77, bit: 21 };
        let mut liar = setting.liar(flip);
        let steps = &liar.account().expect("it trains").steps;
        let steps = steps.iter().zip(&honest.account().expect("so does this").steps);
        let differs: Vec<bool> = steps.map(|(one, other)| one.state != other.state).collect();
        assert!((0..6).all(|at| differs[at] == (at as u32 >= step)), "{differs:?}");
        let verdict = play_flip(&setting, &mut liar, &mut honest);
        assert_found(&verdict, &program, flip);
    }
}

/// Every `each`th tensor of the window's last step, outside the second block.
fn every_tensor(setting: &Setting, each: usize) {
    tensors(setting, setting.replay.task().steps() - 1, each, |_| true);
}

/// Every `each`th of these tensors of a step, outside the second block.
fn tensors(setting: &Setting, step: u32, each: usize, wanted: impl Fn(&Tensor) -> bool) {
    let name = &setting.name;
    let mut honest = setting.honest();
    let program = honest.trace(step).expect("it is traced").program.clone();
    let (mut found, mut harmless) = (0, Vec::new());
    let tensors = program.tensors.iter().enumerate().filter(|(_, tensor)| wanted(tensor));
    for (at, tensor) in tensors.step_by(each) {
        // The second block has the operators of the first.
        let is_repeated = program.groups[program.group_of(at)].vnode.starts_with("block.1.");
        if tensor.operator == Operator::Before || is_repeated {
            continue;
        }
        let flip = Flip { step, tensor: at, element: element(tensor, at), bit: bit(tensor, at) };
        let verdict = play_flip(setting, &mut setting.liar(flip), &mut honest);
        // What was rounded away, or masked, changes nothing that is said: there is nothing to accuse of.
        if verdict.reason == Reason::Withdrawn {
            assert_eq!(verdict.loser, Role::Challenger);
            harmless.push(tensor.name.clone());
        } else {
            assert_found(&verdict, &program, flip);
            found += 1;
        }
    }
    assert!(harmless.len() * 3 < found, "{name}: {harmless:?} changed nothing, {found} were found");
}

/// A value changes in its mantissa or its sign, an f64 in its mantissa; an integer stays small, an id one of the vocabulary.
fn bit(tensor: &Tensor, at: usize) -> u32 {
    match &tensor.operator {
        Operator::Tally(Tally { what: What::Mean | What::Deviation, .. }) => 18,
        Operator::Codec(Codec::Kept { .. } | Codec::Left(_)) => 20,
        operator if operator.is_number() || matches!(operator, Operator::Stored(_)) => [22, 20, 31][at % 3],
        _ => 0,
    }
}

fn element(tensor: &Tensor, at: usize) -> usize {
    match &tensor.operator {
        Operator::Tally(Tally { what: What::Mean | What::Deviation, .. }) => 1,
        // A gigabyte more is no size of an update.
        Operator::Codec(Codec::Size(_)) => 0,
        _ => random::bits(3, at as u64, 0) as usize % tensor.len(),
    }
}

/// The verdict, which the file says too.
fn play_flip(setting: &Setting, liar: &mut Player<Forgery<'_>>, honest: &mut Player<Replay<'_>>) -> Verdict {
    let terms = setting.terms(liar.outcome().expect("it trains"));
    let hearing = played(&terms, liar, honest);
    assert!(hearing.game().moves() <= 32, "{} moves", hearing.game().moves());
    let file = hearing.file(&arbiter()).expect("it is over");
    let checked = check(&file).expect("it holds");
    assert_eq!(Some(&checked.record.verdict), hearing.game().verdict());
    checked.record.verdict
}

fn assert_found(verdict: &Verdict, program: &Program, flip: Flip) {
    let tensor = &program.tensors[flip.tensor];
    let group = &program.groups[program.group_of(flip.tensor)];
    let what = format!("{} {}: {verdict:?}", group.vnode, tensor.name);
    assert_eq!(verdict.loser, Role::Maker, "{what}");
    assert!(matches!(verdict.reason, Reason::Computation { .. }), "{what}");
    let place = &verdict.place;
    let (named, element) = (place.group.as_ref().expect("named"), place.tensor.as_ref().expect("named"));
    assert_eq!((place.step, &named.vnode, named.pass), (Some(flip.step), &group.vnode, group.pass), "{what}");
    let at = element.shape.iter().zip(element.at.as_ref().expect("named"));
    let index = at.fold(0, |index, (extent, at)| index * extent + at);
    assert_eq!((&element.tensor, index), (&tensor.name, flip.element as u64), "{what}");
}
