//! Why a plan is as it is.

use crate::plan::{Plan, WhyIdle};
use crate::replica::{Bottleneck, Problem, Replica, Stage};

/// A decision and its reason, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What it is about: a node, or several that were decided alike.
    pub about: String,
    /// What was decided, and why.
    pub why: String,
}

/// Names that an explanation lists; of others it says how many there are.
const NAMES_MAX: usize = 4;

/// Every decision of a plan: first what hosts something, then what does not, then who keeps what.
pub fn explain(problem: &Problem, plan: &Plan) -> Vec<Explanation> {
    let mut all: Vec<Explanation> =
        plan.replicas.iter().flat_map(|replica| of_replica(problem, replica)).collect();
    all.extend(of_idle(problem, plan));
    all.extend(of_keepers(problem, plan));
    all.push(of_bound(plan));
    all
}

/// What holds a replica back, in words.
pub fn bottleneck(problem: &Problem, replica: &Replica) -> String {
    let nodes = problem.cluster.nodes();
    let id = |stage: usize| &nodes[replica.stages[stage].node].id;
    match replica.bottleneck {
        Bottleneck::Compute(stage) => format!("the arithmetic of {}", id(stage)),
        Bottleneck::Link(stage) => format!("the link of {}", id(stage)),
        Bottleneck::Latency(stage) => format!("the way from {} to {}", id(stage), id(stage + 1)),
    }
}

fn of_replica(problem: &Problem, replica: &Replica) -> Vec<Explanation> {
    let nodes = problem.cluster.nodes();
    let memory = problem.memory(&replica.stages);
    let ids: Vec<&str> = replica.stages.iter().map(|stage| nodes[stage.node].id.as_str()).collect();
    if let [stage] = &replica.stages[..] {
        let why = format!(
            "a replica of its own: the whole network takes {} of its {}, so it need not wait for anybody, and brings all that it can",
            size(memory[0]),
            size(nodes[stage.node].memory_bytes)
        );
        return vec![Explanation { about: ids[0].to_owned(), why }];
    }
    let together = format!(
        "one replica: {}; {:.1} tokens/s, held back by {}; all are still there an hour later with a chance of {:.0} %",
        reason_for_company(problem, replica),
        replica.speed,
        bottleneck(problem, replica),
        100.0 * replica.stays
    );
    let mut all = vec![Explanation { about: ids.join(" > "), why: together }];
    for (at, (stage, bytes)) in replica.stages.iter().zip(memory).enumerate() {
        let (compute, link) = problem.times(stage);
        let why = format!(
            "{}: {} of its {}, {} in flight; computes {:.0} % and sends {:.0} % of the time",
            range(problem, stage),
            size(bytes),
            size(nodes[stage.node].memory_bytes),
            micro_batches(Problem::in_flight(replica.stages.len() - 1 - at)),
            100.0 * compute / replica.period_s,
            100.0 * link / replica.period_s
        );
        all.push(Explanation { about: ids[at].to_owned(), why });
    }
    all
}

fn reason_for_company(problem: &Problem, replica: &Replica) -> String {
    let nodes = problem.cluster.nodes();
    let needed = problem.workload.alone_bytes();
    let could = replica.stages.iter().filter(|stage| nodes[stage.node].memory_bytes >= needed).count();
    match could {
        0 => format!("none has the {} that the whole network takes", size(needed)),
        1 => "one could host everything, and takes along what cannot".to_owned(),
        _ => "together they are worth more than apart".to_owned(),
    }
}

fn of_idle(problem: &Problem, plan: &Plan) -> Vec<Explanation> {
    let workload = problem.workload;
    let reasons = [
        (WhyIdle::Tier, format!("left out: the plan asks for {} at least", problem.objective.tier.word())),
        (
            WhyIdle::Memory,
            format!("left out: the smallest part of the network takes {}", size(workload.least_bytes())),
        ),
        (WhyIdle::Price, "left out: costs more than it can bring".to_owned()),
        (
            WhyIdle::Partners,
            format!(
                "free: the whole network takes {}, and with the others that are free it makes no replica that is worth it",
                size(workload.alone_bytes())
            ),
        ),
    ];
    let about = |why: WhyIdle| {
        let alike = plan.idle.iter().filter(|idle| idle.why == why).map(|idle| idle.node);
        names(problem, &alike.collect::<Vec<_>>())
    };
    let explained = reasons.into_iter().map(|(idle, why)| Explanation { about: about(idle), why });
    explained.filter(|explanation| !explanation.about.is_empty()).collect()
}

fn of_keepers(problem: &Problem, plan: &Plan) -> Vec<Explanation> {
    let of = |keepers: &crate::Keepers| {
        let units = problem.workload.units();
        let (first, last) = (&units[keepers.units.start].vnodes, &units[keepers.units.end - 1].vnodes);
        let few = match keepers.nodes.len() < problem.objective.redundancy {
            true => format!("; fewer than the {} that are asked for", problem.objective.redundancy),
            false => String::new(),
        };
        Explanation {
            about: format!("{} to {}", first[0], last[last.len() - 1]),
            why: format!(
                "kept by {}, in {}: lost within an hour with a chance of {:.1e}{few}",
                names(problem, &keepers.nodes),
                counted(keepers.regions, "region"),
                keepers.lost
            ),
        }
    };
    plan.keepers.iter().map(of).collect()
}

fn of_bound(plan: &Plan) -> Explanation {
    Explanation {
        about: "the plan".to_owned(),
        why: format!(
            "worth {:.1} tokens/s; no plan is worth more than {:.1}, which is all that these nodes can compute, so it is at most {:.1} % short of the best",
            plan.value,
            plan.value_max,
            100.0 * plan.gap_max()
        ),
    }
}

fn range(problem: &Problem, stage: &Stage) -> String {
    let units = &problem.workload.units()[stage.units.clone()];
    let (first, last) = (&units[0].vnodes, &units[units.len() - 1].vnodes);
    let mut text = match (&first[0], &last[last.len() - 1]) {
        (first, last) if first == last => first.clone(),
        (first, last) if units.len() == 1 => format!("{first} and {last}"),
        (first, last) => format!("{first} to {last}"),
    };
    if units.len() > 1 && first.len() > 1 {
        text.push_str(&format!(", and {}", first[1..].join(", ")));
    }
    text
}

fn names(problem: &Problem, nodes: &[usize]) -> String {
    let ids = nodes.iter().take(NAMES_MAX).map(|&node| problem.cluster.nodes()[node].id.as_str());
    let listed = ids.collect::<Vec<_>>().join(", ");
    match nodes.len().saturating_sub(NAMES_MAX) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

fn micro_batches(count: u64) -> String {
    counted(count as usize, "micro-batch").replace("micro-batchs", "micro-batches")
}

fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// Bytes, in the unit that people read.
pub fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}
