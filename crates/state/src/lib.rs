//! The one state machine: membership, jobs, rounds and work accounting, as a pure function.
