//! What an update is about, and its bytes.
//!
//! ```text
//! "ZUPD"  version u16  codec u8  scale exponent u8  round u32  tokens u64  layout 8 bytes
//! vnode: length u16, UTF-8
//! ```
//!
//! All integers are little-endian and of fixed width, so that a header has one encoding. Names and shapes of the
//! parameters are not in it: who expects an update knows them, and what is not for them is told by their [`Layout::id`].

use zoo_content::{Digest, DigestPrefix, MAX_BLOB_BYTES};

use crate::{SCALE_EXPONENT, UpdateError};

/// Longest name of a VNode or a parameter, bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Most parameters of a VNode.
pub const MAX_PARAMETERS: usize = 4096;
/// Most elements of a VNode: their dense encoding fits into a blob.
pub const MAX_ELEMENTS: u64 = (MAX_BLOB_BYTES - MAX_HEADER_BYTES) / size_of::<i32>() as u64;

const MAX_HEADER_BYTES: u64 = (FIXED_BYTES + MAX_NAME_BYTES) as u64;
const FIXED_BYTES: usize = 30;
const MAGIC: &[u8; 4] = b"ZUPD";
/// The version of the format of updates and of sums of them.
pub(crate) const VERSION: u16 = 3;

/// Rows and columns of a parameter tensor; a vector is one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
}

/// One parameter tensor of a VNode, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    name: String,
    shape: Shape,
}

impl Shape {
    /// A vector.
    pub const fn vector(len: u32) -> Self {
        Self { rows: 1, cols: len }
    }

    /// A matrix.
    pub const fn matrix(rows: u32, cols: u32) -> Self {
        Self { rows, cols }
    }

    /// Number of elements.
    pub const fn elements(self) -> u64 {
        self.rows as u64 * self.cols as u64
    }
}

impl std::fmt::Display for LayoutId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Display for Layout {
    /// Its id, and what it is of: `7f0c1e...: weight 4x8, bias 1x8`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.id())?;
        let named = self.parameters.iter().take(NAMED_MAX).enumerate();
        named.into_iter().try_for_each(|(at, Parameter { name, shape })| {
            write!(f, "{} {name} {shape}", if at == 0 { ":" } else { "," })
        })?;
        if self.parameters.len() > NAMED_MAX { f.write_str(", ...") } else { Ok(()) }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.rows, self.cols)
    }
}

impl Parameter {
    /// Its name within the VNode.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its rows and columns.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Number of its elements, at least 1.
    pub fn elements(&self) -> u64 {
        self.shape.elements()
    }
}

/// What tells one layout from another in few bytes: the beginning of a digest of all names and shapes.
///
/// It only has to name an honest mistake. Whoever finds another layout of equal id has found nothing: the bytes mean what
/// the layout that was expected says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutId(DigestPrefix);

/// Parameters that a message names.
const NAMED_MAX: usize = 8;

/// The parameters of a VNode in network order. Exists only within the limits of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    parameters: Vec<Parameter>,
    elements: u64,
}

impl Layout {
    /// From names and shapes.
    pub fn new<N: Into<String>>(
        parameters: impl IntoIterator<Item = (N, Shape)>,
    ) -> Result<Self, UpdateError> {
        let mut layout = Self { parameters: Vec::new(), elements: 0 };
        for (name, shape) in parameters {
            layout.push(name.into(), shape)?;
        }
        Ok(layout)
    }

    /// The parameters in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Elements of all parameters together.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// What tells it from others.
    ///
    /// The digest is over: count u32, then of every parameter: name length u16, UTF-8; rows u32; columns u32.
    pub fn id(&self) -> LayoutId {
        let mut bytes = (self.parameters.len() as u32).to_le_bytes().to_vec();
        for Parameter { name, shape: Shape { rows, cols } } in &self.parameters {
            put_name(&mut bytes, name);
            bytes.extend([rows, cols].into_iter().flat_map(|size| size.to_le_bytes()));
        }
        LayoutId(Digest::of(&bytes).prefix())
    }

    /// The part of every parameter in `values`, which has all elements in order.
    pub fn split<'a, T>(&'a self, values: &'a [T]) -> impl Iterator<Item = (&'a Parameter, &'a [T])> {
        debug_assert_eq!(values.len() as u64, self.elements);
        let mut rest = values;
        self.parameters.iter().map(move |parameter| {
            let (part, tail) = rest.split_at(parameter.elements() as usize);
            rest = tail;
            (parameter, part)
        })
    }

    pub(crate) fn check_len<T>(&self, values: &[T]) -> Result<(), UpdateError> {
        let actual = values.len() as u64;
        if actual == self.elements {
            return Ok(());
        }
        Err(UpdateError::Elements { expected: self.elements, actual })
    }

    fn push(&mut self, name: String, shape: Shape) -> Result<(), UpdateError> {
        let elements = shape.elements();
        check_name("parameter name", &name)?;
        at_most("parameters of a vnode", self.parameters.len() as u64 + 1, MAX_PARAMETERS as u64)?;
        if elements == 0 {
            return Err(UpdateError::NoElements(name));
        }
        self.elements = self.elements.saturating_add(elements);
        at_most("elements of a vnode", self.elements, MAX_ELEMENTS)?;
        self.parameters.push(Parameter { name, shape });
        Ok(())
    }
}

/// What an update is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The round it contributes to.
    pub round: u32,
    /// Id of the VNode in the network definition, at most [`MAX_NAME_BYTES`].
    pub vnode: String,
    /// Tokens that the replica trained on.
    pub tokens: u64,
    /// The VNode's parameters.
    pub layout: Layout,
}

impl Header {
    /// Checks that what is of this header can be added to what is of that VNode and layout.
    pub(crate) fn require_place(&self, vnode: &str, layout: &Layout) -> Result<(), UpdateError> {
        require("vnode", &vnode, &self.vnode.as_str())?;
        let [expected, actual] = [layout, &self.layout].map(|layout| layout.parameters.len());
        require("a number of parameters of", &expected, &actual)?;
        for (expected, actual) in layout.parameters.iter().zip(&self.layout.parameters) {
            require("parameter", &expected.name, &actual.name)?;
            require("a parameter of shape", &expected.shape, &actual.shape)?;
        }
        Ok(())
    }

    pub(crate) fn validate(&self) -> Result<(), UpdateError> {
        check_name("vnode id", &self.vnode)
    }

    /// The bytes before the codec's own. The header must be valid.
    pub(crate) fn encode(&self, codec: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[codec, SCALE_EXPONENT]);
        bytes.extend_from_slice(&self.round.to_le_bytes());
        bytes.extend_from_slice(&self.tokens.to_le_bytes());
        bytes.extend_from_slice(&self.layout.id().0);
        put_name(&mut bytes, &self.vnode);
        bytes
    }

    /// Checks that `bytes` begin with the header that is expected, and names the field that differs; the codec's own bytes
    /// after it.
    pub(crate) fn decode<'a>(bytes: &'a [u8], codec: u8, expected: &Self) -> Result<&'a [u8], UpdateError> {
        let mut reader = Reader { total: bytes.len(), rest: bytes };
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(UpdateError::Magic);
        }
        let version = u16::from_le_bytes(reader.array()?);
        if version != VERSION {
            return Err(UpdateError::Version(version));
        }
        let [actual, exponent] = reader.array()?;
        if actual != codec {
            return Err(UpdateError::Codec { expected: codec, actual });
        }
        if exponent != SCALE_EXPONENT {
            return Err(UpdateError::ScaleExponent(exponent));
        }
        require("round", &expected.round, &u32::from_le_bytes(reader.array()?))?;
        let tokens = u64::from_le_bytes(reader.array()?);
        let layout = LayoutId(reader.array()?);
        require("vnode", &expected.vnode, &reader.name("vnode id")?)?;
        if layout != expected.layout.id() {
            let (expected, actual) = (expected.layout.to_string(), layout.to_string());
            return Err(UpdateError::Unexpected { what: "a layout of", expected, actual });
        }
        require("tokens", &expected.tokens, &tokens)?;
        Ok(reader.rest)
    }
}

struct Reader<'a> {
    total: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], UpdateError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| UpdateError::Length {
            expected: (self.total - self.rest.len() + len) as u64,
            actual: self.total as u64,
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], UpdateError> {
        self.take(N).map(|taken| taken.try_into().expect("take returns as many bytes as it was asked for"))
    }

    fn name(&mut self, what: &'static str) -> Result<String, UpdateError> {
        let len = usize::from(u16::from_le_bytes(self.array()?));
        at_most(what, len as u64, MAX_NAME_BYTES as u64)?;
        let name = std::str::from_utf8(self.take(len)?).map_err(|_| UpdateError::Name { what })?;
        check_name(what, name)?;
        Ok(name.to_string())
    }
}

fn put_name(bytes: &mut Vec<u8>, name: &str) {
    bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
}

/// Names are shown to people: no control characters, which could steer a terminal.
fn check_name(what: &'static str, name: &str) -> Result<(), UpdateError> {
    at_most(what, name.len() as u64, MAX_NAME_BYTES as u64)?;
    if name.is_empty() || name.contains(char::is_control) { Err(UpdateError::Name { what }) } else { Ok(()) }
}

fn at_most(what: &'static str, actual: u64, limit: u64) -> Result<(), UpdateError> {
    if actual > limit { Err(UpdateError::Limit { what, actual, limit }) } else { Ok(()) }
}

fn require<T: PartialEq + ToString>(what: &'static str, expected: &T, actual: &T) -> Result<(), UpdateError> {
    if expected == actual {
        return Ok(());
    }
    Err(UpdateError::Unexpected { what, expected: expected.to_string(), actual: actual.to_string() })
}
