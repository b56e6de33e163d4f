//! Networks as people write them: YAML is read into a [`NetworkFile`], which holds the text as it came and the checked
//! definition. What is wrong is refused with its line, its node, the cause and a hint. Opens no file.
//!
//! ```
//! let text = "
//! name: pairs
//! context: 8
//! nodes:
//!   - {id: embedding, type: embedding, config: {vocab_size: '32', dim: 16}}
//!   - {id: logits, type: linear, config: {in_dim: 16, out_dim: 32, tie_weight_alias: embedding}}
//!   - {id: cost, type: cost, config: {function: ce_logits}}
//! edges:
//!   - {from: embedding, to: logits}
//!   - {from: logits, to: cost}
//! costs: [cost]
//! ";
//! let file = zoo_definition::NetworkFile::read(text).expect("valid");
//! assert_eq!(file.definition.nodes.len(), 3);
//! assert_eq!(file.definition.parameter_count(), 32 * 16);
//!
//! let refused = zoo_definition::NetworkFile::read(&text.replace("to: cost", "to: kost")).unwrap_err();
//! assert_eq!(refused.line, Some(10));
//! ```

mod check;
mod document;
mod draw;
mod graph;
mod keys;
mod kinds;
mod optimizer;
mod refusal;
mod tree;

use zoo_model::{NetworkDefinition, Outline, Profile};

pub use draw::{svg, terminal};
pub use refusal::Refusal;

/// Largest file, bytes.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// A network as it was written, and what it says.
#[derive(Clone, Debug)]
pub struct NetworkFile {
    /// The file, word for word.
    pub text: String,
    /// What the network is called.
    pub name: String,
    /// The nodes, in the order in which they were written.
    pub definition: NetworkDefinition,
    /// Order and number of operators.
    pub outline: Outline,
    /// The rule of its matrix products, where the file says it.
    pub profile: Option<Profile>,
    /// What is to be reported while it trains.
    pub metrics: Vec<String>,
}

impl NetworkFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn read(text: &str) -> Result<Self, Refusal> {
        let tree = tree::read(text)?;
        let mut document = document::Document::of(&tree)?;
        let graph = graph::Graph::new(&document)?;
        let definition = check::definition(&mut document, &graph)?;
        let outline = definition.check().map_err(|error| check::refusal(&document, &error))?;
        Ok(Self {
            text: text.to_owned(),
            name: document.name,
            definition,
            outline,
            profile: document.profile,
            metrics: document.metrics,
        })
    }
}
