//! A journal as people look back at it: what every node did, when, and what it cost.
//!
//! ```text
//! journal -- recorder --> timeline -- viewer, picture, player --> a terminal
//!                                  \- summary --> text, JSON
//! ```
//!
//! The timeline is built once, from every command in order; after that every moment is found by bisection, and only
//! what is visible is drawn.

mod picture;
mod player;
mod recorder;
mod rows;
mod summary;
#[cfg(test)]
mod tests;
mod timeline;
mod viewer;

pub use picture::screen;
pub use player::play;
pub use recorder::Recorder;
pub use summary::{as_json, as_text};
pub use timeline::Timeline;
pub use viewer::Viewer;
