//! The liar loses every time, and the honest never.

mod common;

use common::{Setting, arbiter, played, setting, settings};
use zoo_dispute::operator::Operator;
use zoo_dispute::{Flip, Forgery, Knowledge, Player, Reason, Replay, Role, check};
use zoo_kernels::random;
use zoo_model::Family;
use zoo_protocol::Profile;

#[test]
fn a_flipped_bit_is_found_named_and_proven_in_every_tensor() {
    for Setting { name, window, terms } in settings() {
        let mut honest = Replay::new(window.clone(), &terms);
        let trace = honest.trace(1).expect("it is traced");
        let (mut found, mut harmless) = (0, 0);
        for (at, tensor) in trace.program.tensors.iter().enumerate() {
            if tensor.operator == Operator::Before {
                continue;
            }
            let element = random::bits(3, at as u64, 0) as usize % tensor.len();
            // An id stays one of the vocabulary; a value changes in its mantissa or its sign.
            let is_id = matches!(tensor.operator, Operator::Tokens(_));
            let bit = if is_id { 0 } else { [22, 20, 31][at % 3] };
            let flip = Flip { step: 1, tensor: at, element, bit };
            let forgery = Forgery::new(Replay::new(window.clone(), &terms), flip);
            let mut liar = Player::new(forgery);
            let mut honest = Player::new(Replay::new(window.clone(), &terms));
            let hearing = played(&terms, &mut liar, &mut honest);
            let verdict = hearing.game().verdict().expect("it is over").clone();
            let what = format!("{name}: {} {tensor:?}: {verdict:?}", tensor.name);
            if verdict.reason == Reason::Withdrawn {
                assert_eq!(verdict.loser, Role::Challenger, "{what}");
                harmless += 1;
                continue;
            }
            found += 1;
            assert_eq!(verdict.loser, Role::Maker, "{what}");
            assert!(matches!(verdict.reason, Reason::Computation { .. }), "{what}");
            assert_eq!(verdict.place.step, Some(1), "{what}");
            let place = verdict.place.tensor.as_ref().expect("a tensor was named");
            let strides = place.shape.iter().zip(place.at.as_ref().expect("an element was named"));
            let index = strides.fold(0, |index, (extent, at)| index * extent + at);
            assert_eq!((&place.tensor, index), (&tensor.name, element as u64), "{what}");
            assert!(hearing.game().moves() <= 32, "{what}");
            let file = hearing.file(&arbiter()).expect("it is over");
            assert_eq!(check(&file).expect("it holds").record.verdict, verdict, "{what}");
        }
        println!("{name}: {found} found, {harmless} changed nothing");
        assert!(harmless * 5 < found, "{name}: {harmless} flips of {found} changed nothing");
    }
}

#[test]
fn who_agrees_finds_nothing_to_dispute() {
    let Setting { window, terms, .. } = setting(Family::Qwen3, Profile::F32Exact, 2);
    let [mut one, mut other] = [0, 1].map(|_| Player::new(Replay::new(window.clone(), &terms)));
    let hearing = played(&terms, &mut one, &mut other);
    let verdict = hearing.game().verdict().expect("it is over");
    assert_eq!((verdict.loser, &verdict.reason), (Role::Challenger, &Reason::Withdrawn));
}
