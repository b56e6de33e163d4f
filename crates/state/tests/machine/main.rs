//! The state machine, rule by rule, then by random histories, then against a journal of old.

mod activity;
mod admission;
mod aggregation;
mod evaluation;
mod finality;
mod fleet;
mod golden;
mod histories;
mod jobs;
mod journal;
mod judging;
mod keeping;
mod lateness;
mod links;
mod membership;
mod newcomers;
mod settling;
mod steering;
mod succession;
mod suspicion;
mod tempo;
mod training;
mod tree;
mod trusted;
mod verification;
