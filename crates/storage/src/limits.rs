//! How long others are waited for, and how much of them is listened to.

use std::time::Duration;

/// To reach a server.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until a server begins to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A slower wire is taken for a dead one.
const SPEED_MIN_BYTES_PER_SECOND: u64 = 64 << 10;
/// A request that failed on the way is made again so often.
pub const RETRIES_MAX: usize = 4;
/// After this time it is not made again.
pub const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// Most snapshots that a storage is asked about.
pub const LISTED_MAX: usize = 10_000;

/// How long a request may take that moves so many bytes.
pub fn patience(bytes: u64) -> Duration {
    ANSWER_TIMEOUT + Duration::from_secs(bytes / SPEED_MIN_BYTES_PER_SECOND)
}
