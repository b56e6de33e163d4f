//! A VNode's state as bytes: canonical, versioned, and checked field by field when read.
//!
//! All numbers are little-endian. `magic[4] version:u16 id:text count:u32`, then for every parameter
//! `name:text rank:u8 dimension:u64...`, for optimiser state `kind:u8`, then the tensors' f32 values.
//! A text is `length:u16` and UTF-8. A VNode knows what it must find, so nothing is allocated by what
//! the bytes claim.

use zoo_content::{Digest, Hasher};

use crate::definition::NodeDefinition;
use crate::parameter::{Moments, Parameter};
use crate::vnode::VNode;

const PARAMETERS: Format = Format { magic: *b"ZVNP", what: "parameters" };
const OPTIMIZER: Format = Format { magic: *b"ZVNO", what: "optimiser state" };
const VERSION: u16 = 1;

const NO_MOMENTS: u8 = 0;
const ADAMW: u8 = 1;
const MUON: u8 = 2;

/// What an optimiser remembers of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// The means of gradients and of their squares.
    AdamW,
    /// The momentum.
    Muon,
}

struct Format {
    magic: [u8; 4],
    what: &'static str,
}

/// Why bytes are not the state of a VNode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "VNode '{vnode}': {cause}\nhint: use a checkpoint of the same model, and fetch it again if it may be damaged"
)]
pub struct StateError {
    /// The VNode that was to be loaded.
    pub vnode: String,
    /// What is wrong with the bytes.
    pub cause: String,
}

/// How a VNode's state lies in its bytes, for who has no VNode.
impl NodeDefinition {
    /// What stands before the values of every parameter in [`VNode::state_bytes`]; of a VNode without any, all of it.
    pub fn state_frames(&self) -> Vec<Vec<u8>> {
        self.frames(&PARAMETERS, |_, _| ())
    }

    /// What stands before what is remembered of every parameter in [`VNode::optimizer_bytes`]; of a VNode without any, all of it.
    pub fn optimizer_frames(&self, remembered: impl Fn(usize) -> Remembered) -> Vec<Vec<u8>> {
        self.frames(&OPTIMIZER, |place, frame| {
            frame.push(match remembered(place) {
                Remembered::AdamW => ADAMW,
                Remembered::Muon => MUON,
            });
        })
    }

    fn frames(&self, format: &Format, end: impl Fn(usize, &mut Vec<u8>)) -> Vec<Vec<u8>> {
        let parameters = self.parameters();
        let mut frame = Vec::new();
        write_header(&mut frame, format, &self.id, parameters.len());
        if parameters.is_empty() {
            return vec![frame];
        }
        let frames = parameters.iter().enumerate().map(|(place, parameter)| {
            write_shape(&mut frame, parameter.name, &parameter.shape);
            end(place, &mut frame);
            std::mem::take(&mut frame)
        });
        frames.collect()
    }
}

impl VNode {
    /// The parameters, as canonical bytes.
    pub fn state_bytes(&self) -> Vec<u8> {
        let values: usize = self.parameters().iter().map(|parameter| parameter.value.len()).sum();
        let mut bytes = Vec::with_capacity(4 * values + 1024);
        self.write_state(&mut bytes);
        bytes
    }

    /// Digest of [`VNode::state_bytes`], which are not put together for it.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        self.write_state(&mut hasher);
        hasher.finish()
    }

    fn write_state(&self, sink: &mut impl Sink) {
        write_header(sink, &PARAMETERS, self.id(), self.parameters().len());
        for parameter in self.parameters() {
            write_shape(sink, parameter.name(), parameter.shape());
            write_values(sink, &parameter.value);
        }
    }

    /// Reads [`VNode::state_bytes`] of the same VNode. On an error nothing has changed.
    pub fn load_state(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let values = self.read_parameters(bytes).map_err(|cause| self.state_error(cause))?;
        for (parameter, values) in self.parameters_mut().iter_mut().zip(values) {
            read_values(values, &mut parameter.value);
        }
        Ok(())
    }

    /// What the parameters in [`VNode::state_bytes`] of the same VNode have more than those here: one after the other.
    pub fn difference_to(&self, bytes: &[u8]) -> Result<Vec<f32>, StateError> {
        let theirs = self.read_parameters(bytes).map_err(|cause| self.state_error(cause))?;
        let mut difference = Vec::with_capacity(self.parameter_count());
        for (parameter, theirs) in self.parameters().iter().zip(theirs) {
            let (theirs, _) = theirs.as_chunks::<4>();
            difference.extend(
                theirs.iter().zip(&parameter.value).map(|(theirs, mine)| f32::from_le_bytes(*theirs) - mine),
            );
        }
        Ok(difference)
    }

    /// What the optimiser remembers, as canonical bytes.
    pub fn optimizer_bytes(&self) -> Vec<u8> {
        let values: usize = self.parameters().iter().map(|parameter| parameter.value.len()).sum();
        let mut bytes = Vec::with_capacity(8 * values + 1024);
        write_header(&mut bytes, &OPTIMIZER, self.id(), self.parameters().len());
        for parameter in self.parameters() {
            write_shape(&mut bytes, parameter.name(), parameter.shape());
            match &parameter.moments {
                Moments::None => bytes.push(NO_MOMENTS),
                Moments::AdamW { mean, square } => {
                    bytes.push(ADAMW);
                    write_values(&mut bytes, mean);
                    write_values(&mut bytes, square);
                }
                Moments::Muon { momentum } => {
                    bytes.push(MUON);
                    write_values(&mut bytes, momentum);
                }
            }
        }
        bytes
    }

    /// Reads [`VNode::optimizer_bytes`] of the same VNode. On an error nothing has changed.
    pub fn load_optimizer(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let moments = self.read_moments(bytes).map_err(|cause| self.state_error(cause))?;
        for (parameter, moments) in self.parameters_mut().iter_mut().zip(moments) {
            parameter.moments = moments;
        }
        Ok(())
    }

    /// Forgets what the optimiser remembers, as at the start of a run.
    pub fn reset_optimizer(&mut self) {
        self.parameters_mut().iter_mut().for_each(|parameter| parameter.moments = Moments::None);
    }

    fn read_header(&self, reader: &mut Reader, format: &Format) -> Result<(), String> {
        let Format { magic, what } = format;
        reader.expect(magic, || format!("the bytes are not a VNode's {what}"))?;
        let version = u16::from_le_bytes(reader.array()?);
        if version != VERSION {
            return Err(format!("version {version} of {what} is not known, only {VERSION} is"));
        }
        reader.expect_text(self.id(), "id")?;
        let count = u32::from_le_bytes(reader.array()?);
        if count as usize != self.parameters().len() {
            return Err(format!("the bytes have {count} parameters, the VNode {}", self.parameters().len()));
        }
        Ok(())
    }

    fn read_parameters<'a>(&self, bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, String> {
        let mut reader = Reader { rest: bytes };
        self.read_header(&mut reader, &PARAMETERS)?;
        let mut values = Vec::new();
        for parameter in self.parameters() {
            reader.expect_shape(parameter)?;
            values.push(reader.take(4 * parameter.value.len())?);
        }
        reader.end()?;
        Ok(values)
    }

    fn read_moments(&self, bytes: &[u8]) -> Result<Vec<Moments>, String> {
        let mut reader = Reader { rest: bytes };
        self.read_header(&mut reader, &OPTIMIZER)?;
        let mut all = Vec::new();
        for parameter in self.parameters() {
            reader.expect_shape(parameter)?;
            let length = parameter.value.len();
            let [kind] = reader.array()?;
            all.push(match kind {
                NO_MOMENTS => Moments::None,
                ADAMW => Moments::AdamW { mean: reader.tensor(length)?, square: reader.tensor(length)? },
                MUON => Moments::Muon { momentum: reader.tensor(length)? },
                unknown => return Err(format!("optimiser {unknown} is not known")),
            });
        }
        reader.end()?;
        Ok(all)
    }

    fn state_error(&self, cause: String) -> StateError {
        StateError { vnode: self.id().to_owned(), cause }
    }
}

/// Where bytes go.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for Hasher {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

fn write_text(sink: &mut impl Sink, text: &str) {
    let length = u16::try_from(text.len()).expect("ids and names are short");
    sink.put(&length.to_le_bytes());
    sink.put(text.as_bytes());
}

fn write_header(sink: &mut impl Sink, format: &Format, id: &str, parameters: usize) {
    sink.put(&format.magic);
    sink.put(&VERSION.to_le_bytes());
    write_text(sink, id);
    sink.put(&(parameters as u32).to_le_bytes());
}

fn write_shape(sink: &mut impl Sink, name: &str, shape: &[usize]) {
    write_text(sink, name);
    sink.put(&[shape.len() as u8]);
    for &dimension in shape {
        sink.put(&(dimension as u64).to_le_bytes());
    }
}

/// Puts f32 values, little-endian: where the machine's are so too, as they lie there, at the speed of memory and in one piece,
/// which a hash takes several times faster than many small ones.
pub(crate) fn write_values(sink: &mut impl Sink, values: &[f32]) {
    if cfg!(target_endian = "little") {
        sink.put(bytemuck::cast_slice(values));
    } else {
        values.iter().for_each(|value| sink.put(&value.to_le_bytes()));
    }
}

fn read_values(bytes: &[u8], values: &mut [f32]) {
    let (places, _) = bytes.as_chunks::<4>();
    for (place, value) in places.iter().zip(values) {
        *value = f32::from_le_bytes(*place);
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| format!("the bytes end {} too early", count - self.rest.len()))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], String> {
        Ok(self.take(COUNT)?.try_into().expect("as many as were taken"))
    }

    fn tensor(&mut self, length: usize) -> Result<Vec<f32>, String> {
        let bytes = self.take(4 * length)?;
        let mut values = vec![0.0; length];
        read_values(bytes, &mut values);
        Ok(values)
    }

    fn expect(&mut self, expected: &[u8], refusal: impl FnOnce() -> String) -> Result<(), String> {
        if self.take(expected.len())? == expected { Ok(()) } else { Err(refusal()) }
    }

    fn expect_text(&mut self, expected: &str, what: &str) -> Result<(), String> {
        let length = u16::from_le_bytes(self.array()?);
        let text = self.take(length.into())?;
        if text == expected.as_bytes() {
            return Ok(());
        }
        Err(format!("{what} '{}' is not '{expected}'", String::from_utf8_lossy(text)))
    }

    fn expect_shape(&mut self, parameter: &Parameter) -> Result<(), String> {
        self.expect_text(parameter.name(), "parameter")?;
        let mut expected = vec![parameter.shape().len() as u8];
        for &dimension in parameter.shape() {
            expected.extend_from_slice(&(dimension as u64).to_le_bytes());
        }
        let refusal =
            || format!("parameter '{}' does not have the shape {:?}", parameter.name(), parameter.shape());
        self.expect(&expected, refusal)
    }

    fn end(&self) -> Result<(), String> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", self.rest.len())) }
    }
}
