//! Every operator against the reference, bit for bit: on every instruction set
//! of this machine, for pools of 1, 2, 3 and 7 threads, at awkward sizes, onto
//! zero and onto values, for ordinary and for extreme numbers.

mod attention;
mod classes;
mod feed_forward;
mod golden;
mod gradients;
mod heads;
mod linear;
mod math;
mod matmul;
mod norm;
mod optimizer;
mod pairs;
mod sketch;
mod support;
mod tensors;
mod tokens;
