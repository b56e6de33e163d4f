//! One body, compiled once per instruction set.

/// Defines functions whose body is compiled for every [`crate::isa::Isa`] and
/// chosen at each call by what is active.
///
/// The body is ordinary safe Rust; the compiler vectorises it. What it calls
/// must be `#[inline(always)]`, or the callee keeps the plain instruction set.
/// Floating-point operations are never fused or reordered by the compiler, so
/// every version gives the same bits.
macro_rules! multiversion {
    ($($(#[$attribute:meta])* $vis:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)+) => {$(
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "fma")]
                #[allow(clippy::too_many_arguments)]
                fn fma($($argument: $type),*) $(-> $result)? {
                    plain($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    plain($($argument),*)
                }
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($argument: $type),*) $(-> $result)? {
                    plain($($argument),*)
                }
                use $crate::isa::{Level, level};
                match level() {
                    Level::Plain => plain($($argument),*),
                    // SAFETY: `isa` reports a level only after it detected that
                    // the CPU has every feature the level's body is compiled with.
                    Level::Fma => unsafe { fma($($argument),*) },
                    // SAFETY: as above.
                    Level::Avx2 => unsafe { avx2($($argument),*) },
                    // SAFETY: as above.
                    Level::Avx512 => unsafe { avx512($($argument),*) },
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            plain($($argument),*)
        }
    )+};
}

pub(crate) use multiversion;
