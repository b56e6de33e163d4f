//! Ways to make one pseudo-gradient of many, some of which may be lies: what is compared in `zoo-training`'s example `attacks`.
//!
//! What the network does is [`ClippedMean`], after those are left out that have nothing to do with the others ([`crate::Agreement`]): its sums can be made in any order
//! and over any tree. The others need all updates in one place, and stand here to be measured beside it:
//!
//! - [`Mean`]: whoever is loud decides;
//! - [`Median`] and [`TrimmedMean`], coordinate by coordinate (Yin et al. 2018): of sparse updates most coordinates are said by nobody;
//! - [`Krum`], in its form that keeps several (Blanchard et al. 2017): those nearest to their neighbours;
//! - [`CenteredClip`] (Karimireddy et al. 2021): what is far from the centre is pulled to it, the centre from the round before being the first.

use crate::{Aggregate, Agreement, SCALE_EXPONENT, Update, UpdateError, norm_limit, weight_of_tokens};

/// Makes one pseudo-gradient of a VNode's updates.
pub trait Rule {
    /// The pseudo-gradient, of `updates` of one VNode and at least one replica, in the order of its layout.
    ///
    /// # Errors
    /// Updates of several VNodes, or none.
    fn combine(&mut self, updates: &[Update]) -> Result<Vec<f32>, UpdateError>;
}

/// Weighted by tokens; over those who spoke of an element.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean;

/// As [`Mean`], with updates no longer than the median.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClippedMean;

/// The middle of what all said of an element, 0 where they said nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Median;

/// The mean of what all said of an element, but for so many of the largest and the smallest.
#[derive(Clone, Copy, Debug)]
pub struct TrimmedMean(pub usize);

/// As [`Mean`], of all but so many: those whose nearest neighbours are the farthest away.
#[derive(Clone, Copy, Debug)]
pub struct Krum(pub usize);

/// Three times the centre is moved by the mean of what is left of the updates once they are no farther from it than their median.
#[derive(Clone, Debug, Default)]
pub struct CenteredClip {
    /// Where the round before ended, and this one begins; empty for zero everywhere.
    pub centre: Vec<f32>,
}

impl Rule for Mean {
    fn combine(&mut self, updates: &[Update]) -> Result<Vec<f32>, UpdateError> {
        mean(updates, u64::MAX)
    }
}

impl Rule for ClippedMean {
    fn combine(&mut self, updates: &[Update]) -> Result<Vec<f32>, UpdateError> {
        mean(updates, norm_limit(updates.iter().map(Update::norm)))
    }
}

impl Rule for Median {
    fn combine(&mut self, updates: &[Update]) -> Result<Vec<f32>, UpdateError> {
        by_element(updates, |said| said[said.len() / 2])
    }
}

impl Rule for TrimmedMean {
    fn combine(&mut self, updates: &[Update]) -> Result<Vec<f32>, UpdateError> {
        let cut = self.0.min((updates.len() - 1) / 2);
        by_element(updates, |said| {
            let middle = &said[cut..said.len() - cut];
            middle.iter().sum::<f64>() / middle.len() as f64
        })
    }
}

impl Rule for Krum {
    fn combine(&mut self, updates: &[Update]) -> Result<Vec<f32>, UpdateError> {
        let mut agreement = Agreement::new(updates.len());
        agreement.take(updates, u64::MAX);
        let neighbours = updates.len().saturating_sub(self.0 + 2).max(1);
        let score = |one: usize| {
            let others = (0..updates.len()).filter(|other| *other != one);
            let mut distances: Vec<f64> = others.map(|other| agreement.distance(one, other)).collect();
            distances.sort_by(f64::total_cmp);
            distances.iter().take(neighbours).sum::<f64>()
        };
        let mut order: Vec<usize> = (0..updates.len()).collect();
        order.sort_by(|one, other| score(*one).total_cmp(&score(*other)));
        order.truncate(updates.len().saturating_sub(self.0).max(1));
        let kept: Vec<Update> = order.into_iter().map(|at| updates[at].clone()).collect();
        mean(&kept, u64::MAX)
    }
}

impl Rule for CenteredClip {
    fn combine(&mut self, updates: &[Update]) -> Result<Vec<f32>, UpdateError> {
        const ITERATIONS: usize = 3;
        let values: Vec<Vec<f64>> = updates.iter().map(values).collect();
        let elements = values.first().ok_or(UpdateError::Empty)?.len();
        let mut centre: Vec<f64> = self.centre.iter().map(|&value| value.into()).collect();
        centre.resize(elements, 0.0);
        for _ in 0..ITERATIONS {
            let distance = |values: &Vec<f64>| {
                let squares = values.iter().zip(&centre).map(|(value, centre)| (value - centre).powi(2));
                squares.sum::<f64>().sqrt()
            };
            let distances: Vec<f64> = values.iter().map(distance).collect();
            let mut sorted = distances.clone();
            sorted.sort_by(f64::total_cmp);
            let radius = sorted[sorted.len() / 2];
            let mut moved = centre.clone();
            for (values, distance) in values.iter().zip(distances) {
                let share = if distance > radius { radius / distance } else { 1.0 } / updates.len() as f64;
                let steps = values.iter().zip(&centre).map(|(value, centre)| share * (value - centre));
                moved.iter_mut().zip(steps).for_each(|(moved, step)| *moved += step);
            }
            centre = moved;
        }
        self.centre = centre.into_iter().map(|value| value as f32).collect();
        Ok(self.centre.clone())
    }
}

fn mean(updates: &[Update], norm_limit: u64) -> Result<Vec<f32>, UpdateError> {
    let header = updates.first().ok_or(UpdateError::Empty)?.header();
    let mut sum = Aggregate::new(header.round, header.vnode.clone(), header.layout.clone());
    updates
        .iter()
        .try_for_each(|update| sum.add(update, weight_of_tokens(update.header().tokens), norm_limit))?;
    sum.mean()
}

fn by_element(updates: &[Update], middle: impl Fn(&[f64]) -> f64) -> Result<Vec<f32>, UpdateError> {
    let values: Vec<Vec<f64>> = updates.iter().map(values).collect();
    let elements = values.first().ok_or(UpdateError::Empty)?.len();
    let mut said = vec![0.0; updates.len()];
    let of_element = |element: usize| {
        said.iter_mut().zip(&values).for_each(|(said, values)| *said = values[element]);
        said.sort_by(f64::total_cmp);
        middle(&said) as f32
    };
    Ok((0..elements).map(of_element).collect())
}

fn values(update: &Update) -> Vec<f64> {
    const UNIT: f64 = 1.0 / (1u64 << SCALE_EXPONENT) as f64;
    update.values().into_iter().map(|value| f64::from(value) * UNIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, Layout, Shape};

    fn update(values: [f64; 3]) -> Update {
        let layout = Layout::new([("weight", Shape::vector(3))]).unwrap();
        let header = Header { round: 0, vnode: "v".into(), tokens: 64, layout };
        let integers = values.map(|value| (value * f64::from(1u32 << SCALE_EXPONENT)) as i32);
        Update::new(header, integers.to_vec()).unwrap()
    }

    /// Seven that agree on about (1, 0, 0), and three that say something far away.
    fn seven_and_three() -> Vec<Update> {
        let honest = (0..7).map(|replica| update([1.0, 0.02 * f64::from(replica) - 0.06, 0.0]));
        honest.chain((0..3).map(|_| update([-30.0, 40.0, 0.0]))).collect()
    }

    fn distance_to_honest(rule: &mut dyn Rule) -> f32 {
        let combined = rule.combine(&seven_and_three()).unwrap();
        assert_eq!(combined.len(), 3);
        ((combined[0] - 1.0).powi(2) + combined[1].powi(2) + combined[2].powi(2)).sqrt()
    }

    #[test]
    fn three_loud_ones_in_ten_decide_the_mean_and_none_of_the_others() {
        assert!(distance_to_honest(&mut Mean) > 10.0);
        for (name, rule, far) in [
            ("median", &mut Median as &mut dyn Rule, 0.1),
            ("trimmed", &mut TrimmedMean(3), 0.1),
            ("krum", &mut Krum(3), 0.1),
            ("clipped", &mut ClippedMean, 1.0),
            ("centred", &mut CenteredClip::default(), 1.0),
        ] {
            let distance = distance_to_honest(rule);
            assert!(distance < far, "{name}: {distance}");
        }
    }

    #[test]
    fn of_those_who_say_the_same_every_rule_says_it_too() {
        let same = vec![update([0.5, -0.25, 2.0]); 5];
        let rules: [&mut dyn Rule; 6] = [
            &mut Mean,
            &mut ClippedMean,
            &mut Median,
            &mut TrimmedMean(1),
            &mut Krum(1),
            &mut CenteredClip::default(),
        ];
        for rule in rules {
            assert_eq!(rule.combine(&same).unwrap(), [0.5, -0.25, 2.0]);
        }
    }
}
