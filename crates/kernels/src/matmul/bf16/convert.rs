//! Rounds to bf16 while a square, a row or a panel is packed; what is bf16 already is only moved.

use super::{BLOCK, BLOCK_WORDS, ITEMS, Square};
use crate::bf16::{Bf16, round, widen};
use crate::isa::{Level, level};
use crate::matmul::PANEL;
use crate::multiversion::multiversion;

/// How elements become pairs of bf16. A pair is a word: the even element in its lower half.
pub trait Convert: Copy + Default + Send + Sync + 'static {
    /// The nearest bf16.
    fn rounded(self) -> Bf16;

    /// Pairs of whole blocks.
    fn pairs(from: &[Self], to: &mut [u32]);

    /// Single elements, rounded, as f32.
    fn singles(from: &[Self], to: &mut [f32]);

    /// Pairs of two rows of a panel.
    fn weave(even: &[Self; PANEL], odd: &[Self; PANEL], to: &mut [u32; PANEL]);

    /// A square, item by item, where each item's 32 elements are contiguous.
    ///
    /// # Safety
    /// 32 elements of 16 items must be readable, `from_stride` apart; 16 rows of 16 words writable, `stride` apart.
    unsafe fn along_k(from: *const Self, from_stride: usize, to: *mut u32, stride: usize);

    /// A square, word by word, where the 16 items are contiguous.
    ///
    /// # Safety
    /// 16 items of 32 elements must be readable, those of one element contiguous, elements `stride` apart.
    unsafe fn along_items(from: *const Self, stride: usize, square: &mut Square);
}

impl Convert for f32 {
    #[inline(always)]
    fn rounded(self) -> Bf16 {
        Bf16::of(self)
    }

    #[inline(always)]
    fn pairs(from: &[f32], to: &mut [u32]) {
        assert_eq!(from.len(), 2 * to.len());
        match level() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `level` reports what was detected.
            Level::Avx512 if crate::isa::tiles() => unsafe { x86::halves(from, to.as_mut_ptr().cast()) },
            _ => pairs_plain(from, to),
        }
    }

    fn singles(from: &[f32], to: &mut [f32]) {
        singles_of_f32(from, to);
    }

    #[inline(always)]
    fn weave(even: &[f32; PANEL], odd: &[f32; PANEL], to: &mut [u32; PANEL]) {
        match level() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `level` reports what was detected.
            Level::Avx512 if crate::isa::tiles() => unsafe { x86::weave(even, odd, to) },
            _ => weave_f32(even, odd, to),
        }
    }

    #[inline(always)]
    unsafe fn along_k(from: *const f32, from_stride: usize, to: *mut u32, stride: usize) {
        // SAFETY: the caller's; `level` reports what was detected.
        unsafe {
            match level() {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 if crate::isa::tiles() => x86::along_k(from, from_stride, to, stride),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Avx2 => x86::along_k_avx2(from, from_stride, to, stride),
                _ => along_k_plain(from, from_stride, to, stride),
            }
        }
    }

    #[inline(always)]
    unsafe fn along_items(from: *const f32, stride: usize, square: &mut Square) {
        // SAFETY: the caller's; `level` reports what was detected.
        unsafe {
            match level() {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 if crate::isa::tiles() => x86::along_items(from, stride, square),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Avx2 => x86::along_items_avx2(from, stride, square),
                _ => along_items_plain(from, stride, square),
            }
        }
    }
}

impl Convert for Bf16 {
    #[inline(always)]
    fn rounded(self) -> Bf16 {
        self
    }

    fn pairs(from: &[Bf16], to: &mut [u32]) {
        assert_eq!(from.len(), 2 * to.len());
        pairs_of_bf16(from, to);
    }

    fn singles(from: &[Bf16], to: &mut [f32]) {
        singles_of_bf16(from, to);
    }

    #[inline(always)]
    fn weave(even: &[Bf16; PANEL], odd: &[Bf16; PANEL], to: &mut [u32; PANEL]) {
        weave_bf16(even, odd, to);
    }

    #[inline(always)]
    unsafe fn along_k(from: *const Bf16, from_stride: usize, to: *mut u32, stride: usize) {
        // SAFETY: the caller's.
        unsafe { along_k_plain(from, from_stride, to, stride) }
    }

    #[inline(always)]
    unsafe fn along_items(from: *const Bf16, stride: usize, square: &mut Square) {
        // SAFETY: the caller's.
        unsafe { along_items_plain(from, stride, square) }
    }
}

/// `to = from`, rounded.
pub(crate) fn round_slice(from: &[f32], to: &mut [Bf16]) {
    assert_eq!(from.len(), to.len());
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if crate::isa::tiles() => {
            let whole = from.len() / BLOCK * BLOCK;
            // SAFETY: `level` reports what was detected; both slices have `whole` elements.
            unsafe { x86::halves(&from[..whole], to.as_mut_ptr().cast()) };
            round_plain(&from[whole..], &mut to[whole..]);
        }
        _ => round_plain(from, to),
    }
}

multiversion! {
    fn round_plain(from: &[f32], to: &mut [Bf16]) {
        for (from, to) in from.iter().zip(to) {
            *to = Bf16(round(*from));
        }
    }

    fn pairs_plain(from: &[f32], to: &mut [u32]) {
        for (from, to) in from.chunks_exact(2).zip(to) {
            *to = u32::from(round(from[0])) | u32::from(round(from[1])) << 16;
        }
    }

    fn pairs_of_bf16(from: &[Bf16], to: &mut [u32]) {
        for (from, to) in from.chunks_exact(2).zip(to) {
            *to = u32::from(from[0].0) | u32::from(from[1].0) << 16;
        }
    }

    fn singles_of_f32(from: &[f32], to: &mut [f32]) {
        for (from, to) in from.iter().zip(to) {
            *to = widen(round(*from));
        }
    }

    fn singles_of_bf16(from: &[Bf16], to: &mut [f32]) {
        for (from, to) in from.iter().zip(to) {
            *to = from.to_f32();
        }
    }

    fn weave_f32(even: &[f32; PANEL], odd: &[f32; PANEL], to: &mut [u32; PANEL]) {
        for j in 0..PANEL {
            to[j] = u32::from(round(even[j])) | u32::from(round(odd[j])) << 16;
        }
    }

    fn weave_bf16(even: &[Bf16; PANEL], odd: &[Bf16; PANEL], to: &mut [u32; PANEL]) {
        for j in 0..PANEL {
            to[j] = u32::from(even[j].0) | u32::from(odd[j].0) << 16;
        }
    }
}

#[inline(always)]
unsafe fn along_k_plain<T: Convert>(from: *const T, from_stride: usize, to: *mut u32, stride: usize) {
    for item in 0..ITEMS {
        // SAFETY: 32 elements of the item, 16 words of the row.
        let (from, to) = unsafe {
            (
                &*from.add(item * from_stride).cast::<[T; BLOCK]>(),
                &mut *to.add(item * stride).cast::<[u32; BLOCK_WORDS]>(),
            )
        };
        for p in 0..BLOCK_WORDS {
            to[p] = u32::from(from[2 * p].rounded().0) | u32::from(from[2 * p + 1].rounded().0) << 16;
        }
    }
}

#[inline(always)]
unsafe fn along_items_plain<T: Convert>(from: *const T, stride: usize, square: &mut Square) {
    for (p, row) in square.0.iter_mut().enumerate() {
        // SAFETY: 16 items of two neighbouring elements.
        let (even, odd) = unsafe {
            (
                &*from.add(2 * p * stride).cast::<[T; ITEMS]>(),
                &*from.add((2 * p + 1) * stride).cast::<[T; ITEMS]>(),
            )
        };
        for item in 0..ITEMS {
            row[item] = u32::from(even[item].rounded().0) | u32::from(odd[item].rounded().0) << 16;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, BLOCK_WORDS, ITEMS, PANEL, Square};

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn along_k_avx2(from: *const f32, from_stride: usize, to: *mut u32, stride: usize) {
        // SAFETY: the caller's.
        unsafe { super::along_k_plain(from, from_stride, to, stride) }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn along_k(from: *const f32, from_stride: usize, to: *mut u32, stride: usize) {
        for item in 0..ITEMS {
            // SAFETY: 32 elements of the item are readable, 16 words writable.
            unsafe {
                let from = std::slice::from_raw_parts(from.add(item * from_stride), BLOCK);
                halves(from, to.add(item * stride).cast());
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn along_items_avx2(from: *const f32, stride: usize, square: &mut Square) {
        // SAFETY: the caller's.
        unsafe { super::along_items_plain(from, stride, square) }
    }

    /// Rounds whole blocks; the conversion instruction does as [`crate::bf16::round`], subnormals and NaN included.
    ///
    /// # Safety
    /// `to` must have room for as many halves.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn halves(from: &[f32], to: *mut u16) {
        for (block, from) in from.chunks_exact(BLOCK).enumerate() {
            // SAFETY: 32 elements are readable, 32 halves writable.
            unsafe {
                let (low, high) = (_mm512_loadu_ps(from.as_ptr()), _mm512_loadu_ps(from.as_ptr().add(16)));
                let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_si512(to.add(block * BLOCK).cast(), halves);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn weave(even: &[f32; PANEL], odd: &[f32; PANEL], to: &mut [u32; PANEL]) {
        // SAFETY: 16 elements of each at a time.
        unsafe {
            let in_turn = _mm512_loadu_si512(IN_TURN.as_ptr().cast());
            for j in [0, 16] {
                let even = _mm512_loadu_ps(even.as_ptr().add(j));
                let odd = _mm512_loadu_ps(odd.as_ptr().add(j));
                let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
                _mm512_storeu_si512(to.as_mut_ptr().add(j).cast(), _mm512_permutexvar_epi16(in_turn, halves));
            }
        }
    }

    /// Takes the halves of a converted register in turn.
    const IN_TURN: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 16 {
            order[2 * i] = i as u16;
            order[2 * i + 1] = 16 + i as u16;
            i += 1;
        }
        order
    };

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn along_items(from: *const f32, stride: usize, square: &mut Square) {
        // SAFETY: 16 items of 32 elements are readable; the square is 16 registers.
        unsafe {
            let in_turn = _mm512_loadu_si512(IN_TURN.as_ptr().cast());
            for p in 0..BLOCK_WORDS {
                let even = _mm512_loadu_ps(from.add(2 * p * stride));
                let odd = _mm512_loadu_ps(from.add((2 * p + 1) * stride));
                let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
                let pairs = _mm512_permutexvar_epi16(in_turn, halves);
                _mm512_store_si512(square.0[p].as_mut_ptr().cast(), pairs);
            }
        }
    }
}
