//! The inner loop, pseudo-gradients, the outer step, schedules and checkpoints.
