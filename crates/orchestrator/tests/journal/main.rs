//! The journal on disk: what is written is there, what was changed is noticed, what is old is read.

mod commands;
mod files;
mod history;
mod reading;
mod snapshots;
