//! The operators of the numeric profile f32-exact, specified to the last bit.
