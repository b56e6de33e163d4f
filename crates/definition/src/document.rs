//! The parts of a file, before anybody looks at how they fit.

use std::collections::BTreeMap;

use zoo_model::{NodeOptimizer, Profile, Scope, TARGETS, TOKENS};

use crate::keys::{self, Keys};
use crate::kinds::{self, Type};
use crate::optimizer;
use crate::refusal::Refusal;
use crate::tree::{Tree, Value};

/// Most nodes, and most edges.
const NODES_MAX: usize = 1 << 14;
const EDGES_MAX: usize = 1 << 16;
/// Longest name, bytes.
const NAME_MAX: usize = 256;
/// What can be reported.
const METRICS: &[(&str, ())] =
    &[("loss", ()), ("learning_rate", ()), ("gradient_norm", ()), ("tokens_per_second", ())];

/// The keys of a file.
pub struct Document<'a> {
    pub name: String,
    /// Positions of a sequence.
    pub context: usize,
    pub profile: Option<Profile>,
    pub nodes: Vec<Node<'a>>,
    /// Places in `nodes` by id.
    pub places: BTreeMap<String, usize>,
    pub edges: Vec<Edge>,
    pub outputs: Vec<Named>,
    /// Where the key costs stands, and whom it names; none where the file does not say.
    pub costs: Option<(u64, Vec<Named>)>,
    pub metrics: Vec<String>,
    /// Where the nodes begin.
    pub nodes_line: u64,
}

/// A node before its kind is known in full.
pub struct Node<'a> {
    pub id: String,
    pub line: u64,
    pub of: Type,
    /// What the type makes of it.
    pub config: Keys<'a>,
    pub common: Common<'a>,
}

/// What every node may say.
#[derive(Default)]
pub struct Common<'a> {
    pub optimizer: Option<NodeOptimizer>,
    pub scope: Scope,
    pub colocate_group: Option<String>,
    pub initial_std: Option<f64>,
    pub output_initial_std: Option<f64>,
    pub input_shape: Option<&'a Tree>,
    pub output_shape: Option<&'a Tree>,
}

/// From one node's output to another's slot.
pub struct Edge {
    pub from: String,
    pub to: String,
    pub from_slot: usize,
    /// None: the next that is free.
    pub to_slot: Option<usize>,
    pub line: u64,
}

/// A name and where it stands.
pub struct Named {
    pub name: String,
    pub line: u64,
}

impl<'a> Document<'a> {
    /// Reads all keys.
    pub fn of(tree: &'a Tree) -> Result<Self, Refusal> {
        let mut file = Keys::of(tree, "the file")?;
        let name = match file.take("name") {
            Some(tree) => name(tree, "name")?,
            None => "network".to_owned(),
        };
        let mut precision = Precision::default();
        if let Some(tree) = file.take("precision") {
            precision.say(tree, "precision")?;
        }
        let context = keys::size(file.need("context", "512, the positions of a sequence")?, "context")?;
        let written = file.need("nodes", "and one node per line")?;
        let nodes_line = written.line;
        let nodes = nodes(written, &mut precision)?;
        let places = places(&nodes)?;
        let edges = edges(file.need("edges", "and one {from: a, to: b} per line")?)?;
        let outputs = file.take("outputs").map_or(Ok(Vec::new()), |tree| names(tree, "outputs"))?;
        let costs = match file.take("costs") {
            Some(tree) => Some((tree.line, names(tree, "costs")?)),
            None => None,
        };
        let metrics = file.take("metrics").map_or(Ok(Vec::new()), metrics)?;
        file.end()?;
        let profile = precision.profile;
        Ok(Self { name, context, profile, nodes, places, edges, outputs, costs, metrics, nodes_line })
    }

    /// The line of a node.
    pub fn line_of(&self, id: &str) -> u64 {
        self.places.get(id).map_or(self.nodes_line, |&at| self.nodes[at].line)
    }
}

fn nodes<'a>(tree: &'a Tree, precision: &mut Precision) -> Result<Vec<Node<'a>>, Refusal> {
    let list = keys::list(tree, "nodes")?;
    if list.is_empty() || list.len() > NODES_MAX {
        let cause = format!("a network of {} nodes is not possible", list.len());
        return Err(Refusal::new(tree.line, cause, format!("write 1 to {NODES_MAX} nodes")));
    }
    list.iter().map(|item| node(item, precision)).collect()
}

fn node<'a>(tree: &'a Tree, precision: &mut Precision) -> Result<Node<'a>, Refusal> {
    let mut node = Keys::of(tree, "a node")?;
    let id = name(node.need("id", "a name of its own")?, "id")?;
    named_node(&id, tree.line, node, precision).map_err(|refusal| refusal.of_node(&id))
}

fn named_node<'a>(
    id: &str,
    line: u64,
    mut node: Keys<'a>,
    precision: &mut Precision,
) -> Result<Node<'a>, Refusal> {
    let written = node.need("type", "linear, or another kind")?;
    let of = kinds::type_of(keys::text(written, "type")?, written.line)?;
    let mut config = match node.take("config") {
        Some(tree) => Keys::of(tree, "its config")?,
        None => Keys::none(line, "its config"),
    };
    let common = Common::take(&mut node, &mut config, precision)?;
    node.end()?;
    Ok(Node { id: id.to_owned(), line, of, config, common })
}

impl<'a> Common<'a> {
    fn take(node: &mut Keys<'a>, config: &mut Keys<'a>, precision: &mut Precision) -> Result<Self, Refusal> {
        let mut either = |key: &'static str| match (node.take(key), config.take(key)) {
            (Some(_), Some(again)) => {
                let cause = format!("{key} stands beside the config and in it");
                Err(Refusal::new(again.line, cause, "write it once"))
            }
            (one, other) => Ok(one.or(other)),
        };
        for key in ["precision", "param_precision", "activation_precision"] {
            if let Some(tree) = either(key)? {
                precision.say(tree, key)?;
            }
        }
        let scopes = [("shared", Scope::Shared), ("cluster", Scope::Cluster), ("personal", Scope::Personal)];
        let scope =
            either("scope")?.map_or(Ok(Scope::Shared), |tree| keys::one_of(tree, "scope", &scopes))?;
        let colocate_group =
            either("colocate_group")?.map(|tree| name(tree, "colocate_group")).transpose()?;
        if let Some(tree) = either("colocate_policy")? {
            keys::one_of(tree, "colocate_policy", &[("required", ()), ("preferred", ())])?;
            if colocate_group.is_none() {
                let cause = "a colocate_policy without a colocate_group says nothing";
                return Err(Refusal::new(tree.line, cause, "add colocate_group, or remove the policy"));
            }
        }
        Ok(Self {
            optimizer: either("optimizer")?.map(optimizer::read).transpose()?,
            scope,
            colocate_group,
            initial_std: either("initial_std")?.map(|tree| deviation(tree, "initial_std")).transpose()?,
            output_initial_std: either("output_initial_std")?
                .map(|tree| deviation(tree, "output_initial_std"))
                .transpose()?,
            input_shape: either("input_shape")?,
            output_shape: either("output_shape")?,
        })
    }
}

fn deviation(tree: &Tree, key: &str) -> Result<f64, Refusal> {
    let number = keys::number(tree, key)?;
    if (0.0..=1.0).contains(&number) {
        return Ok(number);
    }
    Err(Refusal::new(tree.line, format!("{key} ({number}) is not between 0 and 1"), "0.02 is usual"))
}

fn places(nodes: &[Node]) -> Result<BTreeMap<String, usize>, Refusal> {
    let mut places = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        if node.id == TOKENS || node.id == TARGETS {
            let cause = format!("'{}' is what the network is given, not a node", node.id);
            return Err(Refusal::new(node.line, cause, "choose another id").of_node(&node.id));
        }
        if let Some(first) = places.insert(node.id.clone(), at) {
            let cause = format!("the node of line {} has the same id", nodes[first].line);
            return Err(Refusal::new(node.line, cause, "give every node an id of its own").of_node(&node.id));
        }
    }
    Ok(places)
}

fn edges(tree: &Tree) -> Result<Vec<Edge>, Refusal> {
    let list = keys::list(tree, "edges")?;
    if list.len() > EDGES_MAX {
        let cause = format!("{} edges are more than {EDGES_MAX}", list.len());
        return Err(Refusal::new(tree.line, cause, "write fewer edges"));
    }
    let slot = |tree: &Tree, key| -> Result<usize, Refusal> {
        let text = keys::text(tree, key)?;
        text.trim().parse().ok().filter(|slot| *slot < NODES_MAX).ok_or_else(|| {
            Refusal::new(tree.line, format!("{key} is '{text}', not a slot"), "slots count from 0")
        })
    };
    let edge = |tree: &Tree| -> Result<Edge, Refusal> {
        let mut edge = Keys::of(tree, "an edge")?;
        let from = name(edge.need("from", "the id of the node whose output it is")?, "from")?;
        let to = name(edge.need("to", "the id of the node that takes it")?, "to")?;
        let from_slot = edge.take("from_slot").map_or(Ok(0), |tree| slot(tree, "from_slot"))?;
        let to_slot = edge.take("to_slot").map(|tree| slot(tree, "to_slot")).transpose()?;
        edge.end()?;
        Ok(Edge { from, to, from_slot, to_slot, line: tree.line })
    };
    list.iter().map(edge).collect()
}

fn name(tree: &Tree, key: &str) -> Result<String, Refusal> {
    let text = keys::text(tree, key)?;
    if text.is_empty() || text.len() > NAME_MAX || text.chars().any(char::is_control) {
        let cause = format!("{key} is empty, longer than {NAME_MAX} bytes, or has control characters");
        return Err(Refusal::new(tree.line, cause, "write a short name"));
    }
    Ok(text.to_owned())
}

fn names(tree: &Tree, key: &str) -> Result<Vec<Named>, Refusal> {
    let list = keys::list(tree, key)?;
    list.iter().map(|tree| Ok(Named { name: name(tree, key)?, line: tree.line })).collect()
}

/// Metrics are names, or keys with a type.
fn metrics(tree: &Tree) -> Result<Vec<String>, Refusal> {
    let metric = |tree: &Tree| -> Result<String, Refusal> {
        let of = match &tree.value {
            Value::Keys(_) => {
                let mut metric = Keys::of(tree, "a metric")?;
                let of = metric.need("type", "loss")?;
                metric.end()?;
                of
            }
            _ => tree,
        };
        keys::one_of(of, "a metric", METRICS)?;
        Ok(keys::text(of, "a metric")?.to_owned())
    };
    keys::list(tree, "metrics")?.iter().map(metric).collect()
}

/// The one numeric profile of a network, wherever it is said.
#[derive(Default)]
struct Precision {
    profile: Option<Profile>,
    line: u64,
}

impl Precision {
    fn say(&mut self, tree: &Tree, key: &str) -> Result<(), Refusal> {
        let profile = profile(tree, key)?;
        match self.profile {
            Some(other) if other != profile => {
                let cause = format!("{key} means {profile}, but line {} says {other}", self.line);
                let hint = "a network has one precision: write it once, beside the name";
                Err(Refusal::new(tree.line, cause, hint))
            }
            _ => {
                (self.profile, self.line) = (Some(profile), tree.line);
                Ok(())
            }
        }
    }
}

fn profile(tree: &Tree, key: &str) -> Result<Profile, Refusal> {
    match keys::text(tree, key)? {
        "float32" | "fp32" | "f32" | "f32-exact" => Ok(Profile::F32Exact),
        "bfloat16" | "bf16" | "bf16-exact" => Ok(Profile::Bf16Exact),
        "float16" | "fp16" | "f16" => {
            let cause = format!("{key}: 16-bit floats of IEEE 754 are not computed with");
            Err(Refusal::new(tree.line, cause, "write bf16, which is as small, or float32"))
        }
        other => Err(Refusal::new(tree.line, format!("{key} is '{other}'"), "write float32 or bf16")),
    }
}
