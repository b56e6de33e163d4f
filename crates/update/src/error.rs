//! What can be wrong with an update.

/// Why an update was not made, not decoded or not added.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpdateError {
    /// The bytes do not begin as an update does.
    #[error("not an update: the first bytes are not \"ZUPD\"")]
    Magic,
    /// A version of the format that this software does not know.
    #[error(
        "update has format version {0}, this software knows version {known}\nhint: every node of a run needs the same version of zoo",
        known = crate::header::VERSION
    )]
    Version(u16),
    /// Encoded by another codec.
    #[error("update was encoded by codec {actual}, codec {expected} was expected")]
    Codec {
        /// The codec that was asked to decode.
        expected: u8,
        /// The codec that the bytes name.
        actual: u8,
    },
    /// A density that is none.
    #[error("a sparse update keeps 1 to 4096 of 4096 elements, not {0}")]
    Keep(u16),
    /// The sparse codec keeps another share of the elements than was agreed.
    #[error("update keeps {actual} of 4096 elements, {expected} were expected")]
    Density {
        /// What was agreed.
        expected: u16,
        /// What the update says.
        actual: u16,
    },
    /// Bytes that decode to nothing, or to what has another encoding.
    #[error("update is not canonical: {0}")]
    NotCanonical(&'static str),
    /// Integers on another scale.
    #[error("update has scale exponent {0}, the exponent is 24")]
    ScaleExponent(u8),
    /// The bytes end early, or go on after the end.
    #[error("update of {actual} bytes should have {expected}")]
    Length {
        /// What the header asks for, or the least that a header can have.
        expected: u64,
        /// How many there are.
        actual: u64,
    },
    /// A size is larger than it may be.
    #[error("{what}: {actual} exceeds the limit of {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How large it is.
        actual: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A name is empty, not UTF-8, or contains control characters.
    #[error("{what} is empty, not UTF-8, or contains a control character")]
    Name {
        /// Whose name.
        what: &'static str,
    },
    /// A parameter without elements.
    #[error("parameter {0} has no elements")]
    NoElements(String),
    /// Slices of another length than the layout has elements.
    #[error("{actual} values for a layout of {expected} elements")]
    Elements {
        /// What the layout has.
        expected: u64,
        /// What was given.
        actual: u64,
    },
    /// An element that integers on the shared scale cannot hold.
    #[error(
        "element {element} of parameter {parameter} of {vnode} is {value}: not a finite number below 128\nhint: training has diverged; lower the learning rate"
    )]
    Range {
        /// The VNode.
        vnode: String,
        /// The parameter.
        parameter: String,
        /// Index within the parameter.
        element: u64,
        /// The value.
        value: f32,
    },
    /// An update of another round, VNode, layout or number of tokens than the one wanted.
    #[error("update is for {what} {actual}, {expected} was expected")]
    Unexpected {
        /// Which field differs.
        what: &'static str,
        /// What was wanted.
        expected: String,
        /// What the update says.
        actual: String,
    },
    /// A contribution that weighs nothing.
    #[error("an update of weight 0 contributes nothing")]
    ZeroWeight,
    /// More weight than the sums can hold.
    #[error("total weight {0} exceeds the limit of {max}", max = crate::MAX_TOTAL_WEIGHT)]
    Weight(u64),
    /// The mean of no contributions.
    #[error("nothing was added: there is no mean")]
    Empty,
}
