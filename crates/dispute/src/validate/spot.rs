//! Elements computed again, and compared with `==`.

use std::ops::Range;

use zoo_kernels::random;

use super::report::{Check, Wrong};
use super::seed::{SPOTS, Seed};
use crate::operator::{Operator, Unread};
use crate::trace::{Blobs, Trace};
use crate::tree::word;

/// A tensor whose elements are looked at.
pub struct Spots<'a> {
    pub claimed: &'a Trace,
    pub tensor: usize,
    pub blobs: &'a Blobs<'a>,
}

impl Spots<'_> {
    /// So many, drawn independently of each other.
    pub fn drawn(&self, seed: &Seed, count: u32, check: &mut Check) -> Result<(), Unread> {
        let (key, length) = (seed.key(self.tensor, SPOTS), self.values().len());
        for index in 0..u64::from(count) {
            let drawn = (u128::from(random::bits(key, 0, index)) * length as u128) >> 64;
            self.element(drawn as usize, check)?;
        }
        check.drawn = count.into();
        Ok(())
    }

    /// These, until one is wrong.
    pub fn elements(&self, elements: Range<usize>, check: &mut Check) -> Result<(), Unread> {
        for element in elements {
            self.element(element, check)?;
            if check.wrong.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// All.
    pub fn whole(&self, inputs: &[&[f32]], check: &mut Check) -> Result<(), Unread> {
        check.whole = true;
        if let Operator::Tokens(_) | Operator::Stored(_) = self.operator() {
            return self.elements(0..self.values().len(), check);
        }
        let computed = self.operator().compute(inputs, self.values().len());
        let is_number = self.operator().is_number();
        let bits = |value: &f32| if is_number { word(*value) } else { value.to_bits() };
        let pairs = self.values().iter().zip(&computed).map(|(one, other)| (bits(one), bits(other)));
        if let Some((element, (claimed, computed))) = pairs.enumerate().find(|(_, (one, other))| one != other)
        {
            check.wrong = Some(Wrong { element, claimed, computed });
        }
        check.spent += check.again;
        Ok(())
    }

    fn element(&self, element: usize, check: &mut Check) -> Result<(), Unread> {
        let states = self.claimed.states(self.tensor, element, self.blobs)?;
        let computed = states.last().expect("at least one segment")[0];
        let claimed = self.values()[element].to_bits();
        if claimed != computed {
            check.wrong.get_or_insert(Wrong { element, claimed, computed });
        }
        check.spent += self.operator().terms(element).max(1) as u64;
        Ok(())
    }

    fn operator(&self) -> &Operator {
        &self.claimed.program.tensors[self.tensor].operator
    }

    fn values(&self) -> &[f32] {
        &self.claimed.tensors[self.tensor]
    }
}
