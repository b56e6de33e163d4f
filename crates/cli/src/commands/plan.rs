//! `zoo plan`: who would host what of a network.

mod cluster_file;
mod report;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use zoo_job::{Layer, build};
use zoo_model::NetworkDefinition;
use zoo_placement::{Cluster, Objective, Plan, PlanError, Problem, Terms, Workload, plan, replan};
use zoo_training::{Estimate, TrainingSpec, whole_chunk_sequences};

use super::train::layers;
use cluster_file::Described;
use report::Report;

/// What a process takes beside a network, bytes: the program, its stacks, what products are packed into.
const PROCESS_BYTES: u64 = 16 << 20;

/// Arguments of `zoo plan`.
#[derive(clap::Args)]
#[command(
    name = "plan",
    after_help = "Examples:
  zoo plan --preset qwen3-100m --nodes nodes.yaml            which machines host what, and how fast that is
  zoo plan run.yaml --nodes nodes.yaml --explain             why
  zoo plan run.yaml --nodes nodes.yaml --objective price=50  an hour's price of 1 has to bring 50 tokens/s
  zoo plan run.yaml --nodes nodes.yaml --without lynx        what moves when a machine leaves

nodes.yaml:
  nodes:
    ibex: {memory_mib: 16000, gflops: 400, upload_kib_per_s: 2000, region: eu}
    newt: {memory_mib: 2000, tokens_per_s: 900, upload_kib_per_s: 5000, region: us, price: 0.2, count: 4}

Nothing is started and nobody is asked. docs/model-builder.md lists every key."
)]
pub struct PlanCommand {
    /// A YAML or TOML file that says what to train, as for zoo train
    config: Option<PathBuf>,
    /// Start from this preset (zoo presets lists them)
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Set any key, as in training.micro_batch_sequences=4
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Layer::parse_setting)]
    settings: Vec<(String, Value)>,
    /// A YAML, TOML or JSON file that describes the machines
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// What counts beside tokens a second: price, traffic, risk, tier, redundancy, pays_within_s
    #[arg(long, value_name = "KEY=VALUE", value_parser = Layer::parse_setting)]
    objective: Vec<(String, Value)>,
    /// Plan, then leave this node out: what becomes of the plan, and which state moves
    #[arg(long, value_name = "NODE")]
    without: Vec<String>,
    /// Say why, node by node
    #[arg(long)]
    explain: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A way to train, and the plan for it.
struct Way {
    spec: TrainingSpec,
    workload: Workload,
    plan: Plan,
}

impl PlanCommand {
    /// Plans and prints.
    pub fn run(self) -> Result<()> {
        let named = [("preset", self.preset.clone().map(Value::from))];
        let spec = build(None, &layers::of(self.config.as_deref(), &self.settings, named)?)?.training;
        let network = NetworkDefinition::decoder(&spec.model)?;
        let described = Described::read(&self.nodes, spec.model.training_flops_per_token())?;
        let objective = self.objective(&described)?;
        let cluster = described.cluster(&[])?;
        let way = best_way(&spec, &network, &cluster, &objective)?;
        let problem = Problem { cluster: &cluster, workload: &way.workload, objective: &objective };
        if self.without.is_empty() {
            return Report::new(problem, &way.spec, &way.plan, &network).print(self.json, self.explain);
        }
        if let Some(unknown) = self.without.iter().find(|id| cluster.place(id).is_none()) {
            bail!("--without {unknown}: no node is called that\nhint: {} names them", self.nodes.display());
        }
        let rest = described.cluster(&self.without)?;
        let next = Problem { cluster: &rest, ..problem };
        let change = replan(&next, &cluster, &way.plan)?;
        let report = Report::new(next, &way.spec, &change.plan, &network);
        report.after(&way.plan, &change.moves).print(self.json, self.explain)
    }

    fn objective(&self, described: &Described) -> Result<Objective> {
        let mut all = serde_json::to_value(described.objective).context("an objective is plain data")?;
        let keys = all.as_object_mut().context("an objective has keys")?;
        for (key, value) in &self.objective {
            keys.insert(key.clone(), value.clone());
        }
        let objective: Objective = serde_json::from_value(all)
            .map_err(|error| anyhow!("--objective: {error}\nhint: as in --objective price=50"))?;
        objective.validate().map_err(|error| anyhow!(error))?;
        Ok(objective)
    }
}

/// The plan that is worth the most, with activations kept or, unless the job says so anyway, computed again: that is slower, and fits more.
fn best_way(
    spec: &TrainingSpec,
    network: &NetworkDefinition,
    cluster: &Cluster,
    objective: &Objective,
) -> Result<Way> {
    let mut best: Option<Way> = None;
    let mut refused: Option<PlanError> = None;
    let ways: &[bool] = if spec.recompute { &[true] } else { &[false, true] };
    for &recompute in ways {
        let spec = in_micro_batches(spec, recompute);
        let workload = Workload::of(network, &terms(&spec))?;
        match plan(&Problem { cluster, workload: &workload, objective }) {
            Ok(plan) if best.as_ref().is_none_or(|best| plan.value > best.plan.value) => {
                best = Some(Way { spec, workload, plan });
            }
            Ok(_) => {}
            // What the way with the least memory takes says the most.
            Err(error) => refused = Some(error),
        }
    }
    best.ok_or_else(|| refused.map_or_else(|| anyhow!("nothing can be planned"), Into::into))
}

/// The specification with a micro-batch of its own: what it says, or else the smallest, which takes the least memory.
fn in_micro_batches(spec: &TrainingSpec, recompute: bool) -> TrainingSpec {
    let smallest = whole_chunk_sequences(spec.model.context) as u32;
    let micro_batch = spec.micro_batch_sequences.unwrap_or(smallest).min(spec.batch_sequences);
    TrainingSpec { micro_batch_sequences: Some(micro_batch), recompute, ..spec.clone() }
}

fn terms(spec: &TrainingSpec) -> Terms {
    let Estimate { parameters, state_bytes, .. } = Estimate::of(spec, 1, 1);
    let context = spec.model.context;
    Terms {
        micro_tokens: spec.micro_batch(spec.batch_sequences) as usize * context,
        step_tokens: spec.batch_sequences as usize * context,
        moments: state_bytes / (4 * parameters) - 1,
        profile: spec.profile,
        recompute: spec.recompute,
        process_bytes: PROCESS_BYTES,
    }
}
