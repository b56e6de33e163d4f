//! One wrong bit in one element of one tensor is found, named and proven.

mod common;

use common::{Setting, arbiter, played, setting};
use zoo_dispute::operator::Operator;
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
fn in_any_step_and_what_follows_follows_from_it() {
    let setting = setting(Family::Qwen3, Profile::F32Exact, 6);
    let mut honest = setting.honest();
    for step in 0..6 {
        let program = Program::of(setting.replay.task(), step).expect("it has one");
        let tensor = program.tensors.iter().position(|tensor| tensor.name == "gradient of down");
        let flip = Flip { step, tensor: tensor.expect("there is one"), element: 77, bit: 21 };
        let mut liar = setting.liar(flip);
        let steps = liar.steps().expect("it trains").iter().zip(honest.steps().expect("so does this"));
        let differs: Vec<bool> = steps.map(|(one, other)| one != other).collect();
        assert!((0..6).all(|at| differs[at] == (at as u32 >= step)), "{differs:?}");
        let verdict = play_flip(&setting, &mut liar, &mut honest);
        assert_found(&verdict, &program, flip);
    }
}

/// Every `each`th tensor of the window's last step, outside the second block.
fn every_tensor(setting: &Setting, each: usize) {
    let (name, task) = (&setting.name, setting.replay.task());
    let step = task.share.inner_steps - 1;
    let program = Program::of(task, step).expect("it has one");
    let mut honest = setting.honest();
    let (mut found, mut harmless) = (0, 0);
    for (at, tensor) in program.tensors.iter().enumerate().step_by(each) {
        // The second block has the operators of the first.
        let is_repeated = program.groups[program.group_of(at)].vnode.starts_with("block.1.");
        if tensor.operator == Operator::Before || is_repeated {
            continue;
        }
        let element = random::bits(3, at as u64, 0) as usize % tensor.len();
        // An id stays one of the vocabulary; a value changes in its mantissa or its sign.
        let is_id = matches!(tensor.operator, Operator::Tokens(_));
        let flip = Flip { step, tensor: at, element, bit: if is_id { 0 } else { [22, 20, 31][at % 3] } };
        let verdict = play_flip(setting, &mut setting.liar(flip), &mut honest);
        // What was rounded away, or masked, changes no state: there is nothing to accuse of.
        if verdict.reason == Reason::Withdrawn {
            assert_eq!(verdict.loser, Role::Challenger);
            harmless += 1;
        } else {
            assert_found(&verdict, &program, flip);
            found += 1;
        }
    }
    assert!(harmless * 5 < found, "{name}: {harmless} flips changed nothing, {found} were found");
}

/// The verdict, which the file says too.
fn play_flip(setting: &Setting, liar: &mut Player<Forgery<'_>>, honest: &mut Player<Replay<'_>>) -> Verdict {
    let terms = setting.terms(liar.end().expect("it trains"));
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
