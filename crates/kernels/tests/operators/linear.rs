use zoo_kernels::bf16::{self, Bf16};
use zoo_kernels::linear::{self, Shape};
use zoo_kernels::matmul::Prepared;
use zoo_kernels::{Onto, Profile};

use crate::support::{BOTH, KINDS, agree, agree_from, assert_bits, everywhere, ordinary, zeros};

fn shapes() -> impl Iterator<Item = Shape> {
    let sizes = [
        (1, 1, 1),
        (1, 300, 257),
        (2, 7, 15),
        (16, 16, 16),
        (17, 33, 65),
        (255, 40, 7),
        (257, 17, 100),
        (600, 64, 48),
    ];
    sizes.into_iter().map(|(rows, inputs, outputs)| Shape { rows, inputs, outputs })
}

#[test]
fn the_layer_and_its_gradients() {
    for (shape, kind) in shapes().flat_map(|shape| KINDS.map(|kind| (shape, kind))) {
        let Shape { rows, inputs, outputs } = shape;
        let (x, w) = (kind.take(1, rows * inputs), kind.take(2, outputs * inputs));
        let (dy, bias) = (kind.take(3, rows * outputs), kind.take(4, outputs));
        for onto in BOTH {
            for profile in Profile::ALL {
                let what = format!("{profile} {shape:?} {kind:?} {onto:?}");
                agree!(what; y = dy.clone(); linear::forward(profile, shape, &x, &w, y, onto));
                agree!(what; dx = x.clone(); linear::backward_input(profile, shape, &dy, &w, dx, onto));
                agree!(what; dw = w.clone(); linear::backward_weight(profile, shape, &dy, &x, dw, onto));
            }
            let what = format!("{shape:?} {kind:?} {onto:?}");
            agree!(what; dbias = bias.clone(); linear::backward_bias(&dy, dbias, onto));
        }
        agree!(format!("{shape:?} {kind:?}"); y = dy.clone(); linear::add_bias(y, &bias));
    }
}

#[test]
fn a_prepared_weight_gives_the_bits_of_the_reference() {
    let sizes =
        [(1, 1, 1), (1, 600, 257), (2, 7, 15), (3, 300, 2100), (5, 512, 64), (13, 33, 65), (40, 257, 100)];
    for ((rows, inputs, outputs), kind) in sizes.into_iter().flat_map(|size| KINDS.map(|kind| (size, kind))) {
        let shape = Shape { rows, inputs, outputs };
        let (x, w) = (kind.take(1, rows * inputs), kind.take(2, outputs * inputs));
        let before = kind.take(3, rows * outputs);
        for (onto, profile) in BOTH.into_iter().flat_map(|onto| Profile::ALL.map(|profile| (onto, profile))) {
            agree_from(
                &format!("prepared {profile} {shape:?} {kind:?} {onto:?}"),
                [before.clone()],
                |[y]| Prepared::new(profile, &w, outputs, inputs).forward(rows, &x, y, onto),
                |[y]| zoo_kernels::reference::linear::forward(profile, shape, &x, &w, y, onto),
            );
        }
    }
}

#[test]
fn an_input_in_bf16_gives_the_bits_of_one_in_f32() {
    for (shape, kind) in shapes().flat_map(|shape| KINDS.map(|kind| (shape, kind))) {
        let Shape { rows, inputs, outputs } = shape;
        let (x, w) = (kind.take(1, rows * inputs), kind.take(2, outputs * inputs));
        let dy = kind.take(3, rows * outputs);
        let profile = Profile::Bf16Exact;
        everywhere(|place| {
            let mut rounded = vec![Bf16::default(); x.len()];
            bf16::round_all(&x, &mut rounded);
            assert!(rounded.iter().zip(&x).all(|(rounded, x)| *rounded == Bf16::of(*x)), "{place}");
            let (mut y, mut expected) = (dy.clone(), dy.clone());
            linear::forward(profile, shape, &rounded[..], &w, &mut y, Onto::Value);
            linear::forward(profile, shape, &x, &w, &mut expected, Onto::Value);
            assert_bits(&format!("forward {shape:?} {kind:?} {place}"), &y, &expected);
            let (mut dw, mut expected) = (w.clone(), w.clone());
            linear::backward_weight(profile, shape, &dy, &rounded[..], &mut dw, Onto::Value);
            linear::backward_weight(profile, shape, &dy, &x, &mut expected, Onto::Value);
            assert_bits(&format!("backward {shape:?} {kind:?} {place}"), &dw, &expected);
        });
    }
}

#[test]
#[should_panic(expected = "belongs to the profile bf16-exact")]
fn an_input_in_bf16_is_refused_by_the_other_profile() {
    let shape = Shape { rows: 1, inputs: 1, outputs: 1 };
    linear::forward(Profile::F32Exact, shape, &[Bf16::default()][..], &[1.0], &mut [0.0], Onto::Zero);
}

/// What lets a small machine and a big one do the same work identically.
#[test]
fn micro_batches_of_whole_chunks_give_the_gradients_of_the_whole() {
    let shape = Shape { rows: 700, inputs: 19, outputs: 35 };
    let (x, dy) = (ordinary(1, shape.rows * shape.inputs), ordinary(2, shape.rows * shape.outputs));
    for profile in Profile::ALL {
        everywhere(|place| {
            let run = |(dw, dbias): &mut (Vec<f32>, Vec<f32>), from: usize, to: usize, onto: Onto| {
                let part = Shape { rows: to - from, ..shape };
                let (x, dy) = (
                    &x[from * shape.inputs..to * shape.inputs],
                    &dy[from * shape.outputs..to * shape.outputs],
                );
                linear::backward_weight(profile, part, dy, x, dw, onto);
                linear::backward_bias(dy, dbias, onto);
            };
            let start = (zeros(shape.outputs * shape.inputs), zeros(shape.outputs));
            let (mut whole, mut cut) = (start.clone(), start);
            run(&mut whole, 0, shape.rows, Onto::Zero);
            for (from, to) in [(0, 256), (256, 512), (512, shape.rows)] {
                run(&mut cut, from, to, if from == 0 { Onto::Zero } else { Onto::Value });
            }
            assert_eq!(whole, cut, "{profile} {place}");
        });
    }
}
