//! Brings the next block of A nearer while the current one is being multiplied.

use super::{Element, View};

/// Bytes of a cache line.
const LINE: usize = 64;

/// The cache lines of a block, to be fetched a few at a time.
pub(super) struct Ahead {
    line: *const u8,
    left_in_run: usize,
    runs: usize,
    lines_in_run: usize,
    /// Bytes from one run to the next.
    stride: usize,
    lines_at_once: usize,
}

impl Ahead {
    /// The lines of `block`, spread over as many calls of [`Ahead::fetch`]; nothing if there is no block.
    pub(super) fn over<T: Element>(block: Option<View<T>>, calls: usize) -> Self {
        let (data, runs, len, stride) = match block {
            Some(a) if a.col_stride == 1 => (a.data, a.rows, a.cols, a.row_stride),
            Some(a) if a.row_stride == 1 => (a.data, a.cols, a.rows, a.col_stride),
            _ => (std::ptr::null(), 0, 0, 0),
        };
        let size = size_of::<T>();
        let lines_in_run = (len * size).div_ceil(LINE);
        let lines_at_once = (runs * lines_in_run).div_ceil(calls.max(1));
        let (line, stride) = (data.cast(), stride * size);
        Self { line, left_in_run: lines_in_run, runs, lines_in_run, stride, lines_at_once }
    }

    /// Fetches the next lines.
    #[inline(always)]
    pub(super) fn fetch(&mut self) {
        for _ in 0..self.lines_at_once {
            if self.runs == 0 {
                return;
            }
            prefetch(self.line);
            self.line = self.line.wrapping_add(LINE);
            self.left_in_run -= 1;
            if self.left_in_run == 0 {
                self.line = self.line.wrapping_sub(self.lines_in_run * LINE).wrapping_add(self.stride);
                self.left_in_run = self.lines_in_run;
                self.runs -= 1;
            }
        }
    }
}

/// A hint that the line at `address` will be read; any address will do.
#[inline(always)]
pub(super) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: part of the base instruction set; a hint reads nothing and cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
