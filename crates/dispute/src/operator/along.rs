//! A parameter moved along orthogonal directions, one for each of the matrices that are stacked in it.

use super::{Read, Unread};

/// Input 0 is the parameter, those after it are the directions.
#[derive(Clone, Debug, PartialEq)]
pub struct Along {
    /// The factor of the parameter: what decay leaves of it.
    pub keep: f32,
    /// Of every matrix its first element and how far it moves.
    pub matrices: Vec<(usize, f32)>,
}

impl Along {
    /// An element.
    pub fn at(&self, element: usize, read: &mut impl Read) -> Result<f32, Unread> {
        let after = self.matrices.partition_point(|(first, _)| *first <= element);
        let (first, step) = *self.matrices.get(after.wrapping_sub(1)).ok_or(Unread)?;
        let direction = read.value(after, element - first)?;
        Ok((-step).mul_add(direction, read.value(0, element)? * self.keep))
    }
}
