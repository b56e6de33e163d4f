//! Every bound of a relay, by name.

use std::num::NonZero;

/// Clients connected at once; more are refused, and told why.
pub const CLIENTS_MAX: usize = 1024;

/// What one client may send through the relay unless something else is asked for, KiB a second: messages of a busy node take a
/// hundredth of it.
pub const CLIENT_KIB_PER_S: NonZero<u32> = NonZero::new(1024).expect("not zero");

/// The most that can be asked for, KiB a second.
pub const CLIENT_KIB_PER_S_MAX: u32 = 1 << 20;
