//! A curve in one line of text.

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `values` in at most `width` characters, between their own lowest and highest. More values
/// than characters are averaged; what is not finite is left out.
pub fn sparkline(values: &[f64], width: usize) -> String {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let width = width.min(finite.len());
    let means: Vec<f64> = (0..width)
        .map(|at| {
            let bucket = &finite[at * finite.len() / width..(at + 1) * finite.len() / width];
            bucket.iter().sum::<f64>() / bucket.len() as f64
        })
        .collect();
    let lowest = means.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let span = (highest - lowest).max(f64::MIN_POSITIVE);
    means.iter().map(|mean| LEVELS[((mean - lowest) / span * 7.0).round() as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_keeps_its_shape_in_any_width() {
        let falling: Vec<f64> = (0..16).map(|at| f64::from(16 - at)).collect();
        let cases: [(&[f64], usize, &str); 7] = [
            (&[], 5, ""),
            (&[1.0], 5, "▁"),
            (&[2.0, 2.0], 5, "▁▁"),
            (&[1.0, 2.0, 8.0], 5, "▁▂█"),
            (&[1.0, f64::NAN, 8.0], 5, "▁█"),
            (&falling, 8, "█▇▆▅▄▃▂▁"),
            (&falling, 0, ""),
        ];
        for (values, width, expected) in cases {
            assert_eq!(sparkline(values, width), expected, "{values:?} in {width}");
        }
    }
}
