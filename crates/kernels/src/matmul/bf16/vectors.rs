//! The pair rule without a tile unit: two chains of fused multiply-adds, one for even and one for odd elements.
//!
//! The unit flushes tiny results, after rounding, and takes subnormal operands for zero, which is what the
//! flags FTZ and DAZ of x86 vectors do. They are set inside the assembly that needs them, so that no compiled
//! arithmetic ever runs under them. Other machines look at the exponents of a block: where nothing can become tiny, plain
//! multiplication and addition give the same bits; else they go through the reference's arithmetic.

use super::{BLOCK_WORDS, SINGLES_STRIDE};
use crate::isa::{Level, level};
use crate::matmul::ahead::Ahead;
use crate::matmul::format::fetch_all;
use crate::matmul::micro::{Kernel, Tile};
use crate::matmul::{PANEL, TILE_ROWS};
use crate::onto::Onto;
use crate::reference::bf16;

/// The active instruction set's kernel of [`TILE_ROWS`] rows.
pub(in super::super) fn kernel() -> Kernel {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => x86::avx512,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => x86::avx2,
        #[cfg(target_arch = "x86_64")]
        Level::Fma => scalar_fused,
        _ => scalar::<FUSED>,
    }
}

/// `c = +0` where the product lands onto that.
unsafe fn prepare(tile: &Tile) {
    if tile.onto == Onto::Zero {
        for i in 0..TILE_ROWS {
            // SAFETY: the caller vouches for the rows of c.
            unsafe { std::ptr::write_bytes(tile.c.add(i * tile.c_stride), 0, PANEL) };
        }
    }
}

/// Columns that the plain path sums at a time.
const LANES: usize = 16;

/// The scalar path with the machine's own fused multiply-add instead of a library call.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma")]
unsafe fn scalar_fused(tile: Tile, ahead: &mut Ahead) {
    // SAFETY: the caller's.
    unsafe { scalar::<true>(tile, ahead) }
}

/// Whether every machine of this kind has a fused multiply-add.
const FUSED: bool = cfg!(target_arch = "aarch64");

/// What any target compiles to: block by block, each by plain arithmetic if nothing in it can be flushed.
#[inline(always)]
unsafe fn scalar<const FUSED: bool>(tile: Tile, ahead: &mut Ahead) {
    fetch_all(ahead, TILE_ROWS);
    // SAFETY: every address is inside what the caller vouched for; a block of A has pairs of elements, one of B rows of PANEL words.
    unsafe {
        prepare(&tile);
        for first in (0..tile.words).step_by(BLOCK_WORDS) {
            let rows: [&Row; TILE_ROWS] =
                std::array::from_fn(|i| &*tile.a.add(i * SINGLES_STRIDE + 2 * first).cast());
            let panel = unpack(&*tile.b.cast::<u32>().add(first * PANEL).cast());
            let exponents =
                rows.iter().map(|row| Exponents::of(row.as_flattened())).fold(Exponents::NONE, Exponents::or);
            let plain = exponents.times(Exponents::of(panel.as_flattened().as_flattened())).need_no_flush();
            for (i, row) in rows.into_iter().enumerate() {
                let c: &mut [f32; PANEL] = &mut *tile.c.add(i * tile.c_stride).cast();
                let block =
                    if plain { plain_block::<FUSED>(row, &panel) } else { flushed_block(row, &panel) };
                for (c, block) in c.iter_mut().zip(block) {
                    *c = bf16::add(*c, block);
                }
            }
        }
    }
}

/// A block of a row of A: even and odd elements.
type Row = [[f32; 2]; BLOCK_WORDS];

/// A block of B: for every pair of rows the even one and the odd one.
type Panel = [[[f32; PANEL]; 2]; BLOCK_WORDS];

#[inline(always)]
fn unpack(words: &[[u32; PANEL]; BLOCK_WORDS]) -> Panel {
    let mut panel = [[[0.0; PANEL]; 2]; BLOCK_WORDS];
    for ([even, odd], words) in panel.iter_mut().zip(words) {
        for j in 0..PANEL {
            even[j] = f32::from_bits(words[j] << 16);
            odd[j] = f32::from_bits(words[j] & 0xffff_0000);
        }
    }
    panel
}

/// The sums of a block's two chains for a row of A and every column, where nothing can be flushed. Products of bf16 have 16 bits, so
/// they are exact, and to multiply and then to add rounds as often as the fused operation: once.
#[inline(always)]
fn plain_block<const FUSED: bool>(row: &Row, panel: &Panel) -> [f32; PANEL] {
    let accumulate = |a: f32, b: f32, sum: f32| if FUSED { a.mul_add(b, sum) } else { a * b + sum };
    let mut sums = [0.0; PANEL];
    for (first, sums) in sums.chunks_exact_mut(LANES).enumerate() {
        let (mut even, mut odd) = ([0.0; LANES], [0.0; LANES]);
        for (a, b) in row.iter().zip(panel) {
            let b: [&[f32; LANES]; 2] = b.each_ref().map(|b| b.as_chunks().0).map(|b| &b[first]);
            for lane in 0..LANES {
                even[lane] = accumulate(a[0], b[0][lane], even[lane]);
                odd[lane] = accumulate(a[1], b[1][lane], odd[lane]);
            }
        }
        for lane in 0..LANES {
            sums[lane] = even[lane] + odd[lane];
        }
    }
    sums
}

/// The same by the reference's arithmetic.
#[inline(always)]
fn flushed_block(row: &Row, panel: &Panel) -> [f32; PANEL] {
    std::array::from_fn(|column| {
        let (mut even, mut odd) = (0.0, 0.0);
        for (a, b) in row.iter().zip(panel) {
            even = bf16::fma(a[0], b[0][column], even);
            odd = bf16::fma(a[1], b[1][column], odd);
        }
        bf16::add(even, odd)
    })
}

/// The least and the greatest biased exponent of some numbers that are not zero, or the sums of two such.
#[derive(Clone, Copy)]
struct Exponents {
    least: u32,
    greatest: u32,
}

impl Exponents {
    const NONE: Self = Self { least: u32::MAX >> 1, greatest: 0 };

    #[inline(always)]
    fn of(numbers: &[f32]) -> Self {
        numbers.iter().fold(Self::NONE, |all, number| {
            let exponent = number.to_bits() >> 23 & 0xff;
            let least = if exponent == 0 { Self::NONE.least } else { exponent };
            all.or(Self { least, greatest: exponent })
        })
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), greatest: self.greatest.max(other.greatest) }
    }

    /// Those of the products.
    fn times(self, other: Self) -> Self {
        Self { least: self.least + other.least, greatest: self.greatest + other.greatest }
    }

    /// Whether no product is tiny or infinite, nor any sum of products tiny. With a biased exponent e a number of bf16 is a multiple of
    /// 2^(e - 134), and a product one of 2^(e + f - 268): from 142 on of the least normal number, below which sums of such then never fall.
    fn need_no_flush(self) -> bool {
        self.least >= 142 && self.greatest <= 379
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;

    use super::{BLOCK_WORDS, PANEL, SINGLES_STRIDE, TILE_ROWS, prepare};
    use crate::matmul::ahead::Ahead;
    use crate::matmul::format::fetch_all;
    use crate::matmul::micro::Tile;

    /// MXCSR: flush tiny results, subnormal operands are zero, all exceptions masked, round to nearest.
    const FLUSH: u32 = 0x9fc0;

    /// The operands of the assembly below.
    struct Part {
        a: *const f32,
        b: *const f32,
        blocks: usize,
        c: *mut f32,
        c_stride: usize,
    }

    impl Part {
        /// The part of a tile from this row and column.
        unsafe fn of(tile: &Tile, row: usize, column: usize) -> Self {
            // SAFETY: the caller's.
            unsafe {
                Self {
                    a: tile.a.add(row * SINGLES_STRIDE),
                    b: tile.b.add(column),
                    blocks: tile.words / BLOCK_WORDS,
                    c: tile.c.add(row * tile.c_stride + column),
                    c_stride: 4 * tile.c_stride,
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) unsafe fn avx512(tile: Tile, ahead: &mut Ahead) {
        fetch_all(ahead, TILE_ROWS);
        // SAFETY: the caller's.
        unsafe {
            prepare(&tile);
            six_by_32(Part::of(&tile, 0, 0));
            six_by_32(Part::of(&tile, 6, 0));
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(tile: Tile, ahead: &mut Ahead) {
        fetch_all(ahead, TILE_ROWS);
        // SAFETY: the caller's.
        unsafe {
            prepare(&tile);
            for column in (0..PANEL).step_by(8) {
                for row in (0..TILE_ROWS).step_by(4) {
                    four_by_8(Part::of(&tile, row, column));
                }
            }
        }
    }

    /// One row of A against a pair row of B: two columns of vectors, even and odd.
    macro_rules! row_512 {
        ($offset:literal, $even0:literal, $even1:literal, $odd0:literal, $odd1:literal) => {
            concat!(
                "vbroadcastss zmm28, [{a} + ",
                $offset,
                "]\n",
                "vfmadd231ps zmm",
                $even0,
                ", zmm28, zmm26\n",
                "vfmadd231ps zmm",
                $even1,
                ", zmm28, zmm27\n",
                "vbroadcastss zmm29, [{a} + ",
                $offset,
                " + 4]\n",
                "vfmadd231ps zmm",
                $odd0,
                ", zmm29, zmm24\n",
                "vfmadd231ps zmm",
                $odd1,
                ", zmm29, zmm25",
            )
        };
    }

    /// Adds even and odd, and the sum to a row of C; the accumulators become zero.
    macro_rules! land_512 {
        ($row:literal, $even0:literal, $even1:literal, $odd0:literal, $odd1:literal) => {
            concat!(
                "vaddps zmm",
                $even0,
                ", zmm",
                $even0,
                ", zmm",
                $odd0,
                "\n",
                "vaddps zmm",
                $even1,
                ", zmm",
                $even1,
                ", zmm",
                $odd1,
                "\n",
                "vaddps zmm",
                $even0,
                ", zmm",
                $even0,
                ", [",
                $row,
                "]\n",
                "vaddps zmm",
                $even1,
                ", zmm",
                $even1,
                ", [",
                $row,
                " + 64]\n",
                "vmovups [",
                $row,
                "], zmm",
                $even0,
                "\n",
                "vmovups [",
                $row,
                " + 64], zmm",
                $even1,
                "\n",
                "vpxord zmm",
                $even0,
                ", zmm",
                $even0,
                ", zmm",
                $even0,
                "\n",
                "vpxord zmm",
                $even1,
                ", zmm",
                $even1,
                ", zmm",
                $even1,
                "\n",
                "vpxord zmm",
                $odd0,
                ", zmm",
                $odd0,
                ", zmm",
                $odd0,
                "\n",
                "vpxord zmm",
                $odd1,
                ", zmm",
                $odd1,
                ", zmm",
                $odd1,
            )
        };
    }

    /// zmm0 to zmm11 hold the even chains, zmm12 to zmm23 the odd ones, two for each row.
    #[target_feature(enable = "avx512f")]
    unsafe fn six_by_32(part: Part) {
        const { assert!(4 * SINGLES_STRIDE == 2112 && BLOCK_WORDS == 16 && PANEL == 32) };
        let mut control = [0u32, FLUSH];
        // SAFETY: the caller vouches for a, b and c; the control register is as it was in the end.
        unsafe {
            asm!(
                "stmxcsr [{control}]",
                "ldmxcsr [{control} + 4]",
                "vpternlogd zmm31, zmm31, zmm31, 0xff",
                "vpslld zmm31, zmm31, 16",
                "vpxord zmm0, zmm0, zmm0", "vpxord zmm1, zmm1, zmm1", "vpxord zmm2, zmm2, zmm2",
                "vpxord zmm3, zmm3, zmm3", "vpxord zmm4, zmm4, zmm4", "vpxord zmm5, zmm5, zmm5",
                "vpxord zmm6, zmm6, zmm6", "vpxord zmm7, zmm7, zmm7", "vpxord zmm8, zmm8, zmm8",
                "vpxord zmm9, zmm9, zmm9", "vpxord zmm10, zmm10, zmm10", "vpxord zmm11, zmm11, zmm11",
                "vpxord zmm12, zmm12, zmm12", "vpxord zmm13, zmm13, zmm13", "vpxord zmm14, zmm14, zmm14",
                "vpxord zmm15, zmm15, zmm15", "vpxord zmm16, zmm16, zmm16", "vpxord zmm17, zmm17, zmm17",
                "vpxord zmm18, zmm18, zmm18", "vpxord zmm19, zmm19, zmm19", "vpxord zmm20, zmm20, zmm20",
                "vpxord zmm21, zmm21, zmm21", "vpxord zmm22, zmm22, zmm22", "vpxord zmm23, zmm23, zmm23",
                "test {blocks}, {blocks}",
                "jz 4f",
                "2:",
                "mov {step:e}, 16",
                "3:",
                "vmovups zmm24, [{b}]",
                "vmovups zmm25, [{b} + 64]",
                "vpslld zmm26, zmm24, 16",
                "vpslld zmm27, zmm25, 16",
                "vpandd zmm24, zmm24, zmm31",
                "vpandd zmm25, zmm25, zmm31",
                row_512!("0", "0", "1", "12", "13"),
                row_512!("2112", "2", "3", "14", "15"),
                row_512!("4224", "4", "5", "16", "17"),
                row_512!("6336", "6", "7", "18", "19"),
                row_512!("8448", "8", "9", "20", "21"),
                row_512!("10560", "10", "11", "22", "23"),
                "add {a}, 8",
                "add {b}, 128",
                "dec {step:e}",
                "jnz 3b",
                land_512!("{c}", "0", "1", "12", "13"),
                land_512!("{c} + {stride}", "2", "3", "14", "15"),
                land_512!("{c} + {stride} * 2", "4", "5", "16", "17"),
                land_512!("{below}", "6", "7", "18", "19"),
                land_512!("{below} + {stride}", "8", "9", "20", "21"),
                land_512!("{below} + {stride} * 2", "10", "11", "22", "23"),
                "dec {blocks}",
                "jnz 2b",
                "4:",
                "ldmxcsr [{control}]",
                control = in(reg) control.as_mut_ptr(),
                a = inout(reg) part.a => _,
                b = inout(reg) part.b => _,
                blocks = inout(reg) part.blocks => _,
                c = in(reg) part.c,
                below = in(reg) part.c.wrapping_byte_add(3 * part.c_stride),
                stride = in(reg) part.c_stride,
                step = out(reg) _,
                out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
                out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
                out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _,
                out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
                out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _, out("zmm28") _, out("zmm29") _,
                out("zmm31") _,
                options(nostack),
            );
        }
    }

    /// One row of A against a pair row of B: one vector of columns, even and odd.
    macro_rules! row_256 {
        ($offset:literal, $even:literal, $odd:literal) => {
            concat!(
                "vbroadcastss ymm10, [{a} + ",
                $offset,
                "]\n",
                "vfmadd231ps ymm",
                $even,
                ", ymm10, ymm9\n",
                "vbroadcastss ymm11, [{a} + ",
                $offset,
                " + 4]\n",
                "vfmadd231ps ymm",
                $odd,
                ", ymm11, ymm8",
            )
        };
    }

    /// Adds even and odd, and the sum to a row of C; the accumulators become zero.
    macro_rules! land_256 {
        ($row:literal, $even:literal, $odd:literal) => {
            concat!(
                "vaddps ymm",
                $even,
                ", ymm",
                $even,
                ", ymm",
                $odd,
                "\n",
                "vaddps ymm",
                $even,
                ", ymm",
                $even,
                ", [",
                $row,
                "]\n",
                "vmovups [",
                $row,
                "], ymm",
                $even,
                "\n",
                "vpxor ymm",
                $even,
                ", ymm",
                $even,
                ", ymm",
                $even,
                "\n",
                "vpxor ymm",
                $odd,
                ", ymm",
                $odd,
                ", ymm",
                $odd,
            )
        };
    }

    /// ymm0 to ymm3 hold the even chains, ymm4 to ymm7 the odd ones, one for each row.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn four_by_8(part: Part) {
        const { assert!(4 * SINGLES_STRIDE == 2112 && BLOCK_WORDS == 16 && PANEL == 32) };
        let mut control = [0u32, FLUSH];
        // SAFETY: the caller vouches for a, b and c; the control register is as it was in the end.
        unsafe {
            asm!(
                "stmxcsr [{control}]",
                "ldmxcsr [{control} + 4]",
                "vpcmpeqd ymm15, ymm15, ymm15",
                "vpslld ymm15, ymm15, 16",
                "vpxor ymm0, ymm0, ymm0", "vpxor ymm1, ymm1, ymm1", "vpxor ymm2, ymm2, ymm2",
                "vpxor ymm3, ymm3, ymm3", "vpxor ymm4, ymm4, ymm4", "vpxor ymm5, ymm5, ymm5",
                "vpxor ymm6, ymm6, ymm6", "vpxor ymm7, ymm7, ymm7",
                "test {blocks}, {blocks}",
                "jz 4f",
                "2:",
                "mov {step:e}, 16",
                "3:",
                "vmovups ymm8, [{b}]",
                "vpslld ymm9, ymm8, 16",
                "vpand ymm8, ymm8, ymm15",
                row_256!("0", "0", "4"),
                row_256!("2112", "1", "5"),
                row_256!("4224", "2", "6"),
                row_256!("6336", "3", "7"),
                "add {a}, 8",
                "add {b}, 128",
                "dec {step:e}",
                "jnz 3b",
                land_256!("{c}", "0", "4"),
                land_256!("{c} + {stride}", "1", "5"),
                land_256!("{c} + {stride} * 2", "2", "6"),
                land_256!("{below}", "3", "7"),
                "dec {blocks}",
                "jnz 2b",
                "4:",
                "ldmxcsr [{control}]",
                control = in(reg) control.as_mut_ptr(),
                a = inout(reg) part.a => _,
                b = inout(reg) part.b => _,
                blocks = inout(reg) part.blocks => _,
                c = in(reg) part.c,
                below = in(reg) part.c.wrapping_byte_add(3 * part.c_stride),
                stride = in(reg) part.c_stride,
                step = out(reg) _,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
                out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                out("ymm15") _,
                options(nostack),
            );
        }
    }
}
