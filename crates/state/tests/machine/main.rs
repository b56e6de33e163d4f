//! The state machine, rule by rule, then by random histories, then against a journal of old.

mod activity;
mod aggregation;
mod evaluation;
mod fleet;
mod histories;
mod jobs;
mod journal;
mod keeping;
mod membership;
mod training;
mod tree;
