use zoo_kernels::{Onto, norm};

use crate::support::{BOTH, KINDS, agree, everywhere, ordinary, zeros};

/// Rows x width; the last are long enough to be shared among threads.
const SHAPES: [(usize, usize); 10] =
    [(1, 1), (2, 7), (3, 15), (64, 16), (65, 17), (63, 33), (129, 255), (300, 256), (257, 257), (520, 100)];

#[test]
fn rms_norm_forward() {
    for ((rows, width), kind) in SHAPES.into_iter().flat_map(|shape| KINDS.map(|kind| (shape, kind))) {
        let (x, gain) = (kind.take(1, rows * width), kind.take(2, width));
        agree!(format!("{rows} x {width} {kind:?}"); y = zeros(rows * width), rstd = zeros(rows);
            norm::rms_forward(&x, &gain, 1e-5, y, rstd));
    }
}

#[test]
fn rms_norm_backward() {
    for ((rows, width), kind) in SHAPES.into_iter().flat_map(|shape| KINDS.map(|kind| (shape, kind))) {
        let (x, gain, dy) = (kind.take(1, rows * width), kind.take(2, width), kind.take(3, rows * width));
        let rstd = ordinary(4, rows);
        for (dx_onto, gain_onto) in [(Onto::Zero, Onto::Value), (Onto::Value, Onto::Zero)] {
            agree!(format!("{rows} x {width} {kind:?} {dx_onto:?}");
                dx = kind.take(5, rows * width), dgain = kind.take(6, width);
                norm::rms_backward(&dy, &x, &gain, &rstd, dx, dx_onto, dgain, gain_onto));
        }
    }
}

#[test]
fn layer_norm_forward() {
    for ((rows, width), kind) in SHAPES.into_iter().flat_map(|shape| KINDS.map(|kind| (shape, kind))) {
        let (x, gain, bias) = (kind.take(1, rows * width), kind.take(2, width), kind.take(3, width));
        for bias in [None, Some(&bias[..])] {
            agree!(format!("{rows} x {width} {kind:?} bias {}", bias.is_some());
                y = zeros(rows * width), mean = zeros(rows), rstd = zeros(rows);
                norm::layer_forward(&x, &gain, bias, 1e-5, y, mean, rstd));
        }
    }
}

#[test]
fn layer_norm_backward() {
    for ((rows, width), kind) in SHAPES.into_iter().flat_map(|shape| KINDS.map(|kind| (shape, kind))) {
        let (x, gain, dy) = (kind.take(1, rows * width), kind.take(2, width), kind.take(3, rows * width));
        let (mean, rstd) = (ordinary(4, rows), ordinary(5, rows));
        for onto in BOTH {
            agree!(format!("{rows} x {width} {kind:?} {onto:?}");
                dx = kind.take(6, rows * width), dgain = kind.take(7, width), dbias = kind.take(8, width);
                norm::layer_backward(&dy, &x, &gain, &mean, &rstd, dx, onto, dgain, Some(dbias), onto));
        }
        agree!(format!("{rows} x {width} {kind:?} without bias");
            dx = zeros(rows * width), dgain = zeros(width);
            norm::layer_backward(&dy, &x, &gain, &mean, &rstd, dx, Onto::Zero, dgain, None, Onto::Zero));
    }
}

/// What lets a small machine and a big one do the same work identically.
#[test]
fn micro_batches_of_whole_chunks_give_the_gain_gradients_of_the_whole() {
    let (rows, width, cut) = (600, 37, 256 * 37);
    let (x, dy, gain) = (ordinary(1, rows * width), ordinary(2, rows * width), ordinary(3, width));
    let (mean, rstd) = (ordinary(4, rows), ordinary(5, rows));
    everywhere(|place| {
        let mut dx = zeros(rows * width);
        let (mut whole, mut cut_up) =
            ([zeros(width), zeros(width), zeros(width)], [zeros(width), zeros(width), zeros(width)]);
        let mut run = |[a, b, c]: &mut [Vec<f32>; 3], from: usize, to: usize, onto: Onto| {
            let (dy, x, dx) = (
                &dy[from * width..to * width],
                &x[from * width..to * width],
                &mut dx[from * width..to * width],
            );
            norm::rms_backward(dy, x, &gain, &rstd[from..to], dx, Onto::Zero, a, onto);
            norm::layer_backward(
                dy,
                x,
                &gain,
                &mean[from..to],
                &rstd[from..to],
                dx,
                Onto::Zero,
                b,
                Some(c),
                onto,
            );
        };
        run(&mut whole, 0, rows, Onto::Zero);
        run(&mut cut_up, 0, cut / width, Onto::Zero);
        run(&mut cut_up, cut / width, 512, Onto::Value);
        run(&mut cut_up, 512, rows, Onto::Value);
        assert_eq!(whole, cut_up, "{place}");
    });
}

#[test]
fn a_nan_is_never_hidden() {
    for (rows, width) in [(1, 1), (3, 17), (65, 40)] {
        let gain = ordinary(2, width);
        let mut x = ordinary(1, rows * width);
        let last = x.len() - 1;
        x[last] = f32::NAN;
        everywhere(|place| {
            let (mut y, mut mean, mut rstd) = (zeros(x.len()), zeros(rows), zeros(rows));
            norm::rms_forward(&x, &gain, 1e-5, &mut y, &mut rstd);
            assert!(y[last / width * width..].iter().all(|y| y.is_nan()), "rms {place}");
            norm::layer_forward(&x, &gain, None, 1e-5, &mut y, &mut mean, &mut rstd);
            assert!(y[last / width * width..].iter().all(|y| y.is_nan()), "layer {place}");
        });
    }
}
