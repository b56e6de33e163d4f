//! One wrong bit in one element of one tensor is found, named and proven.

mod common;

use common::{Setting, arbiter, played, setting};
use zoo_dispute::operator::Operator;
use zoo_dispute::{Flip, Forgery, Knowledge, Player, Program, Reason, Replay, Role, Verdict, check};
use zoo_kernels::random;
use zoo_model::Family;
use zoo_protocol::Profile;

#[test]
fn in_every_tensor_of_a_qwen3_step() {
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
    let Setting { window, terms, .. } = setting(Family::Qwen3, Profile::F32Exact, 6);
    let mut honest = Player::new(Replay::new(window.clone(), &terms));
    for step in 0..6 {
        let program = Program::of(&terms, step).expect("it has one");
        let tensor = program.tensors.iter().position(|tensor| tensor.name == "gradient of down");
        let flip = Flip { step, tensor: tensor.expect("there is one"), element: 77, bit: 21 };
        let forgery = || Forgery::new(Replay::new(window.clone(), &terms), flip);
        let steps = forgery().steps().expect("it trains");
        let differs: Vec<bool> = steps.iter().zip(honest.steps().expect("so does this")).map(|(a, b)| a != b).collect();
        assert!((0..6).all(|at| differs[at] == (at as u32 >= step)), "{differs:?}");
        let verdict = play_flip(&mut Player::new(forgery()), &mut honest, &terms);
        assert_found(&verdict, &program, flip);
    }
}

/// Every `each`th tensor of the window's last step.
fn every_tensor(Setting { name, window, terms }: &Setting, each: usize) {
    let step = terms.share.inner_steps - 1;
    let program = Program::of(terms, step).expect("it has one");
    let mut honest = Player::new(Replay::new(window.clone(), terms));
    let (mut found, mut harmless) = (0, 0);
    for (at, tensor) in program.tensors.iter().enumerate().step_by(each) {
        if tensor.operator == Operator::Before {
            continue;
        }
        let element = random::bits(3, at as u64, 0) as usize % tensor.len();
        // An id stays one of the vocabulary; a value changes in its mantissa or its sign.
        let is_id = matches!(tensor.operator, Operator::Tokens(_));
        let flip = Flip { step, tensor: at, element, bit: if is_id { 0 } else { [22, 20, 31][at % 3] } };
        let mut liar = Player::new(Forgery::new(Replay::new(window.clone(), terms), flip));
        let verdict = play_flip(&mut liar, &mut honest, terms);
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
fn play_flip(
    liar: &mut Player<Forgery<'_>>,
    honest: &mut Player<Replay<'_>>,
    terms: &zoo_dispute::Terms,
) -> Verdict {
    let hearing = played(terms, liar, honest);
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
