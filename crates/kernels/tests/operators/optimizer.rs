use zoo_kernels::optimizer::{AdamW, Muon, Sgd};
use zoo_kernels::reference;

use crate::support::{KINDS, Numbers, agree_from, ordinary, zeros};

const ADAMW: AdamW = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
const MUON: Muon = Muon { lr: 1e-2, momentum: 0.95, nesterov: true, weight_decay: 0.1 };

#[test]
fn adamw_steps() {
    for len in [1, 2, 7, 15, 16, 17, 255, 256, 257, 300, 100_003] {
        for (kind, step) in KINDS.into_iter().flat_map(|kind| [1, 2, 1000, u64::MAX].map(|step| (kind, step)))
        {
            let g = kind.take(1, len);
            let second: Vec<f32> = kind.take(2, len).into_iter().map(f32::abs).collect();
            let (scale, decay) = (if step == 2 { 0.3 } else { 1.0 }, step != 1000);
            agree_from(
                &format!("adamw {len} {kind:?} step {step}"),
                [kind.take(3, len), kind.take(4, len), second],
                |[p, m, v]| ADAMW.step(step, decay, p, &g, m, v, scale),
                |[p, m, v]| reference::optimizer::adamw(&ADAMW, step, decay, p, &g, m, v, scale),
            );
        }
    }
}

/// Ten steps against the formula of PyTorch's documentation, in f64.
#[test]
fn adamw_is_the_published_adamw() {
    let (mut p, mut m, mut v) = (ordinary(1, 100), zeros(100), zeros(100));
    let mut exact: Vec<[f64; 3]> = p.iter().map(|p| [f64::from(*p), 0.0, 0.0]).collect();
    for step in 1..=10 {
        let g = ordinary(step, 100);
        ADAMW.step(step, true, &mut p, &g, &mut m, &mut v, 0.5);
        for ([p, m, v], g) in exact.iter_mut().zip(&g) {
            let g = 0.5 * f64::from(*g);
            *p -= ADAMW.lr * ADAMW.weight_decay * *p;
            *m = ADAMW.beta1 * *m + (1.0 - ADAMW.beta1) * g;
            *v = ADAMW.beta2 * *v + (1.0 - ADAMW.beta2) * g * g;
            let m_hat = *m / (1.0 - ADAMW.beta1.powi(step as i32));
            let v_hat = *v / (1.0 - ADAMW.beta2.powi(step as i32));
            *p -= ADAMW.lr * m_hat / (v_hat.sqrt() + ADAMW.eps);
        }
    }
    for (p, [exact, ..]) in p.iter().zip(exact) {
        assert!((f64::from(*p) - exact).abs() < 1e-6, "{p} {exact}");
    }
}

#[test]
fn muon_steps() {
    for shape in [(1, 1), (1, 17), (16, 1), (7, 15), (33, 17), (64, 64), (100, 257), (300, 40)] {
        let n = shape.0 * shape.1;
        for (kind, nesterov) in
            [(Numbers::Ordinary, true), (Numbers::Ordinary, false), (Numbers::Extreme, true)]
        {
            let (settings, g) = (Muon { nesterov, ..MUON }, kind.take(1, n));
            agree_from(
                &format!("muon {shape:?} {kind:?} {nesterov}"),
                [kind.take(2, n), kind.take(3, n)],
                |[p, m]| settings.step(shape, p, &g, m, 0.7),
                |[p, m]| reference::optimizer::muon(&settings, shape, p, &g, m, 0.7),
            );
        }
    }
}

#[test]
fn sgd() {
    for (len, kind) in [1, 17, 100_003].into_iter().flat_map(|len| KINDS.map(|kind| (len, kind))) {
        let (settings, g) = (Sgd { lr: 0.01, weight_decay: 0.1 }, kind.take(1, len));
        for decay in [false, true] {
            agree_from(
                &format!("sgd {len} {kind:?} {decay}"),
                [kind.take(2, len)],
                |[p]| settings.step(decay, p, &g, 0.7),
                |[p]| reference::optimizer::sgd(&settings, decay, p, &g, 0.7),
            );
        }
    }
}

/// The published coefficients bring every singular value near one, and the
/// scale rule gives the update a root mean square near 0.2.
#[test]
fn a_muon_update_is_nearly_orthogonal() {
    for shape in [(40usize, 40usize), (20, 90), (90, 20)] {
        let (rows, cols) = shape;
        let settings = Muon { lr: 1.0, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        let mut p = zeros(rows * cols);
        settings.step(shape, &mut p, &ordinary(1, rows * cols), &mut zeros(rows * cols), 1.0);
        let scale = 0.2 * (rows.max(cols) as f64).sqrt();
        let squares: f64 = p.iter().map(|p| f64::from(*p).powi(2)).sum();
        let mean_singular_square = squares / scale.powi(2) / rows.min(cols) as f64;
        assert!((0.5..1.4).contains(&mean_singular_square), "{shape:?} {mean_singular_square}");
        let root_mean_square = (squares / (rows * cols) as f64).sqrt();
        assert!((0.13..0.25).contains(&root_mean_square), "{shape:?} {root_mean_square}");
    }
}

#[test]
fn a_gradient_of_zeros_moves_nothing_but_by_decay() {
    let mut p = vec![1.0; 12];
    MUON.step((3, 4), &mut p, &zeros(12), &mut zeros(12), 1.0);
    assert_eq!(p, vec![(1.0 - MUON.lr * MUON.weight_decay) as f32; 12]);
    let mut p = vec![1.0; 12];
    ADAMW.step(1, false, &mut p, &zeros(12), &mut zeros(12), &mut zeros(12), 1.0);
    assert_eq!(p, vec![1.0; 12]);
}

#[test]
#[should_panic(expected = "steps count from 1")]
fn step_zero_is_refused() {
    ADAMW.step(0, true, &mut [], &[], &mut [], &mut [], 1.0);
}
