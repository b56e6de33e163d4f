//! Two who disagree about a training window, and a referee who recomputes 64 multiply-adds.
//!
//! Draft; see below.

mod forge;
pub mod operator;
pub mod program;
mod replay;
mod terms;
mod trace;
pub mod tree;

pub use forge::{Flip, Forgery};
pub use program::Program;
pub use replay::{Knowledge, Replay, ReplayError, Window};
pub use terms::{STEPS_MAX, Terms, TermsError};
pub use trace::{Batch, State, Trace};
