//! A network at work, as people and programs are shown it.

mod audience;
pub mod format;
mod json;
mod narration;
mod network;
mod overview;
mod screen;
mod sparkline;
mod table;
mod trust;

pub use audience::Audience;
pub use json::print_line;
pub use narration::full_sentence;
pub use network::{JobState, JobView, NetworkView};
pub use overview::{NodeState, NodeView, Overview};
pub use sparkline::sparkline;
pub use trust::{CheckView, Standing, TrustView};
pub use zoo_api::event_line;
