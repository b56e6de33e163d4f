//! One file a subject.

pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod models;
pub(crate) mod network;
pub(crate) mod system;
pub(crate) mod texts;

/// A number of items to list: what is asked for, within bounds.
fn limit(asked: Option<usize>, usual: usize, most: usize) -> Result<usize, crate::Problem> {
    match asked {
        None => Ok(usual),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(limit) => Err(crate::Problem::invalid(format!("limit: {limit} is not within 1 to {most}"))),
    }
}
