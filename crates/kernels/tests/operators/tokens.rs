use zoo_kernels::{cross_entropy, embedding};

use crate::support::{KINDS, agree, assert_bits, everywhere, ordinary, tokens, zeros};

#[test]
fn losses_and_gradients() {
    let shapes =
        [(1, 1), (2, 2), (3, 7), (5, 15), (7, 16), (9, 17), (300, 255), (65, 256), (64, 257), (3, 10_007)];
    for ((rows, vocab), kind) in shapes.into_iter().flat_map(|shape| KINDS.map(|kind| (shape, kind))) {
        let (z, targets) = (kind.take(1, rows * vocab), tokens(2, rows, vocab));
        agree!(format!("{rows} x {vocab} {kind:?}"); losses = zeros(rows);
            cross_entropy::losses(&z, vocab, &targets, losses));
        agree!(format!("{rows} x {vocab} {kind:?}"); z = z.clone(), losses = zeros(rows);
            cross_entropy::losses_and_gradient(z, vocab, &targets, 1.0 / rows as f32, losses));
        agree!(format!("{rows} x {vocab} {kind:?}"); losses = zeros(rows);
            square_error::losses(&z, vocab, &targets, losses));
        agree!(format!("{rows} x {vocab} {kind:?}"); z = z.clone(), losses = zeros(rows);
            square_error::losses_and_gradient(z, vocab, &targets, 1.0 / rows as f32, losses));
    }
}

#[test]
fn the_fused_loss_is_the_loss() {
    let (rows, vocab) = (70, 300);
    let (mut z, targets) = (ordinary(1, rows * vocab), tokens(2, rows, vocab));
    let (mut losses, mut fused) = (zeros(rows), zeros(rows));
    cross_entropy::losses(&z, vocab, &targets, &mut losses);
    cross_entropy::losses_and_gradient(&mut z, vocab, &targets, 0.5, &mut fused);
    assert_eq!(losses, fused);
    // A row's gradient sums to zero: probability only moves.
    for row in z.chunks(vocab) {
        assert!(row.iter().map(|x| f64::from(*x)).sum::<f64>().abs() < 1e-6);
    }
}

#[test]
fn the_loss_of_an_even_guess_is_the_logarithm_of_the_vocabulary() {
    for vocab in [1usize, 2, 256, 8192] {
        for offset in [0.0f32, 1e4, -1e4] {
            let mut losses = zeros(1);
            cross_entropy::losses(&vec![offset; vocab], vocab, &[0], &mut losses);
            let expected = libm::log(vocab as f64);
            assert!((f64::from(losses[0]) - expected).abs() < 2e-6 * expected.max(1.0));
        }
    }
}

#[test]
fn a_nan_or_an_infinity_in_the_logits_shows_in_the_loss() {
    for broken in [f32::NAN, f32::INFINITY] {
        for at in [0, 15, 16, 36] {
            let mut z = ordinary(1, 37);
            z[at] = broken;
            everywhere(|place| {
                let mut losses = zeros(2);
                cross_entropy::losses(&z, 37, &[3], &mut losses[..1]);
                cross_entropy::losses_and_gradient(&mut z.clone(), 37, &[3], 1.0, &mut losses[1..]);
                assert!(losses.iter().all(|loss| !loss.is_finite()), "{broken} at {at} {place}");
            });
        }
    }
}

#[test]
#[should_panic(expected = "target 5 is outside the vocabulary of 5")]
fn a_target_outside_the_vocabulary_is_refused() {
    cross_entropy::losses(&zeros(5), 5, &[5], &mut zeros(1));
}

#[test]
#[should_panic(expected = "token 7 is outside the table of 7")]
fn a_token_outside_the_table_is_refused() {
    embedding::forward(&zeros(14), 2, &[7], &mut zeros(2));
}

#[test]
fn embeddings_and_positions() {
    for (count, width, vocab) in [(1, 1, 1), (7, 15, 3), (300, 16, 20), (257, 33, 256), (600, 100, 50)] {
        for kind in KINDS {
            let (ids, table, dy) =
                (tokens(1, count, vocab), kind.take(2, vocab * width), kind.take(3, count * width));
            let what = format!("{count} of {vocab} x {width} {kind:?}");
            agree!(what; y = zeros(count * width); embedding::forward(&table, width, &ids, y));
            agree!(what; dtable = table.clone(); embedding::backward(&dy, width, &ids, dtable));
            for context in [1, vocab.div_ceil(2)] {
                agree!(what; y = dy.clone();
                    embedding::add_positions(&table, width, context, vocab - context, y));
                agree!(what; dtable = table.clone();
                    embedding::backward_positions(&dy, width, context, dtable));
            }
        }
    }
}

#[test]
fn learned_positions_of_scattered_rows() {
    let (width, rows) = (19, 23);
    let (table, y) = (ordinary(1, rows * width), ordinary(2, rows * width));
    let positions: Vec<u32> = (0..rows as u32).map(|row| (row * 5 + 3) % rows as u32).collect();
    let mut expected = y.clone();
    for (row, position) in expected.chunks_mut(width).zip(&positions) {
        zoo_kernels::reference::embedding::add_positions(&table, width, 1, *position as usize, row);
    }
    everywhere(|place| {
        let mut found = y.clone();
        embedding::add_positions_at(&table, width, &positions, &mut found);
        assert_bits(place, &found, &expected);
    });
}
