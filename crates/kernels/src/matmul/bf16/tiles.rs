//! The AMX tile unit: whether it may be used, its configuration, and the kernel.

pub(in super::super) use x86::{Configured, kernel};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{permitted, spin};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid_count, _xgetbv};
    use std::sync::OnceLock;

    use super::super::{BLOCK_WORDS, PAIRS_STRIDE};
    use crate::matmul::ahead::Ahead;
    use crate::matmul::micro::{Kernel, Tile};
    use crate::onto::Onto;

    /// Whether the processor has the unit and the system lets this process use it. The first call asks for
    /// the permission, which is the process's; a refusal (an old kernel, a signal stack too small for the tiles) is a no.
    pub(crate) fn permitted() -> bool {
        static PERMITTED: OnceLock<bool> = OnceLock::new();
        *PERMITTED.get_or_init(|| processor_has_tiles() && system_saves_tiles() && request_permission())
    }

    fn processor_has_tiles() -> bool {
        const AMX_BF16: u32 = 1 << 22;
        const AMX_TILE: u32 = 1 << 24;
        let features = __cpuid_count(7, 0).edx;
        features & AMX_BF16 != 0 && features & AMX_TILE != 0
    }

    fn system_saves_tiles() -> bool {
        const OSXSAVE: u32 = 1 << 27;
        const TILE_STATE: u64 = 0b11 << 17;
        // SAFETY: xgetbv exists where OSXSAVE is set.
        __cpuid_count(1, 0).ecx & OSXSAVE != 0 && unsafe { xcr0() } & TILE_STATE == TILE_STATE
    }

    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: register 0 always exists.
        unsafe { _xgetbv(0) }
    }

    #[cfg(target_os = "linux")]
    fn request_permission() -> bool {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const TILE_DATA: u64 = 18;
        let result: i64;
        // SAFETY: arch_prctl with these arguments changes nothing but the process's permission.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") TILE_DATA,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        result == 0
    }

    #[cfg(not(target_os = "linux"))]
    fn request_permission() -> bool {
        false
    }

    /// What `ldtilecfg` reads: eight tiles of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    static EIGHT_TILES: Configuration = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// The calling thread's tiles are configured while this lives.
    pub(in super::super::super) struct Configured {
        /// The configuration belongs to the thread.
        _not_send: std::marker::PhantomData<*const ()>,
    }

    impl Configured {
        /// # Panics
        /// If the tiles are not [`permitted`].
        pub(in super::super::super) fn new() -> Self {
            assert!(permitted(), "the tile unit is not there");
            // SAFETY: the unit is there, and the configuration is one of its first palette.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const EIGHT_TILES, options(nostack, readonly)) };
            Self { _not_send: std::marker::PhantomData }
        }
    }

    impl Drop for Configured {
        fn drop(&mut self) {
            // SAFETY: the unit is there, see `new`.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }

    /// `rounds` rounds of four products of tiles that never leave the registers; returns the multiply-adds.
    pub(crate) fn spin(rounds: u64) -> u64 {
        let _configured = Configured::new();
        // SAFETY: the thread is configured; the tiles hold zeros.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {rounds}",
                "jnz 2b",
                rounds = inout(reg) rounds.max(1) => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem),
            );
        }
        rounds.max(1) * 4 * 16 * 16 * 32
    }

    /// The kernel of 32 rows.
    pub(in super::super::super) fn kernel() -> Kernel {
        multiply
    }

    /// Four tiles of C (tmm0 to tmm3, two by two), two of A (tmm4, tmm5), two of B (tmm6, tmm7). Nothing is fetched
    /// ahead: this kernel waits for memory as it is, and more requests only make the queue longer.
    unsafe fn multiply(tile: Tile, _ahead: &mut Ahead) {
        let Tile { a, b, words, c, c_stride, onto } = tile;
        let blocks = words / BLOCK_WORDS;
        let c_stride = 4 * c_stride;
        let below = c.wrapping_byte_add(16 * c_stride);
        // SAFETY: the caller vouches for a, b and c, and for a configured thread.
        unsafe {
            match onto {
                Onto::Zero => asm!(
                    "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    options(nostack, nomem),
                ),
                Onto::Value => asm!(
                    "tileloadd tmm0, [{c} + {stride} * 1]",
                    "tileloadd tmm1, [{c} + {stride} * 1 + 64]",
                    "tileloadd tmm2, [{below} + {stride} * 1]",
                    "tileloadd tmm3, [{below} + {stride} * 1 + 64]",
                    c = in(reg) c,
                    below = in(reg) below,
                    stride = in(reg) c_stride,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    options(nostack, readonly),
                ),
            }
            asm!(
                "test {blocks}, {blocks}",
                "jz 3f",
                "2:",
                "tileloadd tmm4, [{a} + {a_stride} * 1]",
                "tileloadd tmm6, [{b} + {b_stride} * 1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "prefetchw [{row}]",
                "prefetchw [{row} + 64]",
                "prefetchw [{row} + {c_stride}]",
                "prefetchw [{row} + {c_stride} + 64]",
                "lea {row}, [{row} + {c_stride} * 2]",
                "tileloadd tmm7, [{b} + {b_stride} * 1 + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a_below} + {a_stride} * 1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 64",
                "add {a_below}, 64",
                "add {b}, 2048",
                "dec {blocks}",
                "jnz 2b",
                "3:",
                "tilestored [{c} + {c_stride} * 1], tmm0",
                "tilestored [{c} + {c_stride} * 1 + 64], tmm1",
                "tilestored [{below} + {c_stride} * 1], tmm2",
                "tilestored [{below} + {c_stride} * 1 + 64], tmm3",
                a = inout(reg) a => _,
                a_below = inout(reg) a.add(16 * PAIRS_STRIDE) => _,
                a_stride = in(reg) 4 * PAIRS_STRIDE,
                b = inout(reg) b => _,
                b_stride = in(reg) 128usize,
                blocks = inout(reg) blocks => _,
                row = inout(reg) c => _,
                c = in(reg) c,
                below = in(reg) below,
                c_stride = in(reg) c_stride,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// Where there is no such unit, nothing asks for it.
#[cfg(not(target_arch = "x86_64"))]
mod x86 {
    use crate::matmul::micro::Kernel;

    pub(in super::super::super) struct Configured;

    impl Configured {
        pub(in super::super::super) fn new() -> Self {
            unreachable!("no tile unit on this target")
        }
    }

    pub(in super::super::super) fn kernel() -> Kernel {
        unreachable!("no tile unit on this target")
    }
}
