//! What a stranger may ask for.

use std::time::Duration;

/// Largest body of a request, bytes.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// The headers of a request must be there after this long, and its body after as long again; a connection may idle
/// between requests for as long.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Longest text that is cut into tokens for who asks for those, bytes.
pub const TOKENIZE_BYTES_MAX: usize = 4 << 20;
/// Texts that one request may ask for: prompts times `n`.
pub const CHOICES_MAX: usize = 256;
/// Most likely tokens that may be asked for beside each token.
pub const TOP_LOGPROBS_MAX: usize = 20;
/// Stop sequences of a request.
pub const STOPS_MAX: usize = 16;
/// Longest stop sequence, bytes.
pub const STOP_BYTES_MAX: usize = 1024;
/// Messages of a conversation.
pub const MESSAGES_MAX: usize = 4096;
/// Texts that wait or are being written; more are refused.
pub const QUEUE_MAX: usize = 1024;
/// Texts that are continued in one pass, at most; the rest wait.
pub const BATCH_MAX: usize = 256;
/// Instructions that a chat template may take.
pub const TEMPLATE_FUEL: u64 = 10_000_000;
/// How long requests may go on when the server is told to stop.
pub const GRACE: Duration = Duration::from_secs(10);
/// Bytes of an answer that `zoo serve check` reads.
pub const ANSWER_BYTES_MAX: u64 = 256 << 20;
