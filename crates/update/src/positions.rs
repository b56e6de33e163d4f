//! Which elements of a chunk are kept, in close to as few bits as there are choices.
//!
//! The gaps between kept positions follow, for a choice like any other, a distribution that Golomb's code (Golomb,
//! 1966) suits; its parameter is derived anew for every gap from what is left of the chunk, so nothing about
//! it is sent. 64 of 4096 take about 7.4 bits a position, where `log2 C(4096, 64) / 64` is 7.36. What the end
//! of the chunk rules out is not spent bits on, so every sequence of bits decodes to one choice, and each choice has
//! one encoding.

use crate::UpdateError;
use crate::bits::{BitReader, BitWriter};

/// What is left of a chunk: elements to choose from, and how many still to choose.
#[derive(Clone, Copy)]
struct Left {
    elements: u32,
    choices: u32,
}

/// How one gap is written.
struct Code {
    /// Golomb's parameter: the gap is `quotient * divisor + remainder`.
    divisor: u32,
    /// The largest gap there can be.
    most: u32,
}

impl Left {
    fn code(self) -> Code {
        // ln 2 times the mean gap is the best divisor for a geometric distribution.
        let divisor = (u64::from(self.elements) * 177 / 256 / u64::from(self.choices)).max(1) as u32;
        Code { divisor, most: self.elements - self.choices }
    }

    fn after(self, gap: u32) -> Self {
        Self { elements: self.elements - gap - 1, choices: self.choices - 1 }
    }
}

impl Code {
    fn quotient_most(&self) -> u32 {
        self.most / self.divisor
    }

    /// How many remainders this quotient can have.
    fn remainders(&self, quotient: u32) -> u32 {
        if quotient == self.quotient_most() { self.most % self.divisor + 1 } else { self.divisor }
    }

    fn write(&self, gap: u32, to: &mut BitWriter) {
        let (quotient, remainder) = (gap / self.divisor, gap % self.divisor);
        to.ones(quotient);
        if quotient < self.quotient_most() {
            to.put(0, 1);
        }
        write_below(self.remainders(quotient), remainder, to);
    }

    fn read(&self, from: &mut BitReader) -> Result<u32, UpdateError> {
        let quotient = from.ones(self.quotient_most())?;
        Ok(quotient * self.divisor + read_below(self.remainders(quotient), from)?)
    }
}

/// Writes the positions of a chunk of `elements`, in ascending order.
pub(crate) fn write(elements: u32, positions: impl ExactSizeIterator<Item = u32>, to: &mut BitWriter) {
    let mut left = Left { elements, choices: positions.len() as u32 };
    let mut next = 0;
    for position in positions {
        let gap = position - next;
        left.code().write(gap, to);
        left = left.after(gap);
        next = position + 1;
    }
}

/// Reads `choices` positions of a chunk of `elements`, at most as many.
pub(crate) fn read(
    elements: u32,
    choices: u32,
    from: &mut BitReader,
    mut keep: impl FnMut(u32),
) -> Result<(), UpdateError> {
    let mut left = Left { elements, choices };
    let mut next = 0;
    for _ in 0..choices {
        let gap = left.code().read(from)?;
        left = left.after(gap);
        keep(next + gap);
        next += gap + 1;
    }
    Ok(())
}

/// A number below `count` in truncated binary: the first few take one bit less.
pub(crate) fn write_below(count: u32, value: u32, to: &mut BitWriter) {
    let (bits, short) = truncated(count);
    if value < short {
        to.put(reversed(value, bits - 1), bits - 1);
    } else {
        to.put(reversed(value + short, bits), bits);
    }
}

/// Reads what [`write_below`] wrote.
pub(crate) fn read_below(count: u32, from: &mut BitReader) -> Result<u32, UpdateError> {
    let (bits, short) = truncated(count);
    if bits == 0 {
        return Ok(0);
    }
    let head = reversed(from.take(bits - 1)?, bits - 1);
    if head < short {
        return Ok(head);
    }
    Ok((head << 1 | from.take(1)?) - short)
}

/// Bits of the longer words for numbers below `count`, and how many numbers have one bit less.
fn truncated(count: u32) -> (u32, u32) {
    let bits = u32::BITS - (count - 1).leading_zeros();
    (bits, ((1u64 << bits) - u64::from(count)) as u32)
}

/// A code word's first bit must be read first, and bits are read from the lowest.
fn reversed(value: u32, bits: u32) -> u32 {
    if bits == 0 { 0 } else { value.reverse_bits() >> (u32::BITS - bits) }
}
