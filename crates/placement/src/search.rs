//! Which nodes go together: from a few beginnings, changes as long as one helps.

use std::cmp::Reverse;

use crate::replica::{Problem, Replica};

/// What a change has to bring, as a part of what there is.
const GAIN_MIN: f64 = 1e-9;

/// So many nodes are divided in every way. There are 2^n sets of them, so a plan is not made like that as a whole.
const DIVIDED_MAX: usize = 5;

/// Some nodes, as replicas and as what is left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    pub replicas: Vec<Replica>,
    pub idle: Vec<usize>,
}

/// Replicas that a search may still try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget(pub usize);

impl Pool {
    pub fn value(&self) -> f64 {
        self.replicas.iter().map(|replica| replica.value).sum()
    }

    /// The best that is found for `nodes`.
    pub fn of(problem: &Problem, nodes: &[usize], budget: Budget) -> Self {
        let beginnings = [
            Self::divided(problem, nodes),
            Self::alone_first(problem, nodes),
            Self::one_pipeline(problem, nodes),
            Self::grouped(problem, nodes),
        ];
        let share = Budget(budget.0 / beginnings.len());
        let mut best = Self { replicas: Vec::new(), idle: nodes.to_vec() };
        for mut pool in beginnings {
            pool.improve(problem, share);
            if pool.value() > best.value() {
                best = pool;
            }
        }
        best
    }

    /// Who can be a replica is one; the others go together.
    fn alone_first(problem: &Problem, nodes: &[usize]) -> Self {
        let mut pool = Self::default();
        for &node in nodes {
            match problem.alone(node).filter(|replica| replica.value > 0.0) {
                Some(replica) => pool.replicas.push(replica),
                None => pool.idle.push(node),
            }
        }
        let rest = Self::grouped(problem, &pool.idle);
        pool.replicas.extend(rest.replicas);
        Self { idle: rest.idle, ..pool }
    }

    /// The best way to divide a few nodes into replicas, of which each is the best that is found for its nodes; more nodes are left idle.
    fn divided(problem: &Problem, nodes: &[usize]) -> Self {
        let mut pool = Self { replicas: Vec::new(), idle: nodes.to_vec() };
        if nodes.len() > DIVIDED_MAX {
            return pool;
        }
        let members = |set: usize| -> Vec<usize> {
            nodes.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1).map(|(_, &node)| node).collect()
        };
        let sets = 1usize << nodes.len();
        let of_set: Vec<Option<Replica>> =
            (0..sets).map(|set| if set == 0 { None } else { best_order(problem, &members(set)) }).collect();
        let value = |set: usize| of_set[set].as_ref().map_or(0.0, |replica| replica.value.max(0.0));
        // Of every set, the best value, and the part that is a replica of it with its first node; none: that node is idle.
        let mut best = vec![(0.0, 0); sets];
        for set in 1..sets {
            let first = set & set.wrapping_neg();
            let rest = set & !first;
            best[set] = (best[rest].0, first);
            let mut others = rest;
            loop {
                let together = value(others | first) + best[rest & !others].0;
                if together > best[set].0 {
                    best[set] = (together, others | first);
                }
                if others == 0 {
                    break;
                }
                others = (others - 1) & rest;
            }
        }
        let mut set = sets - 1;
        while set > 0 {
            let part = best[set].1;
            set &= !part;
            if let Some(replica) = of_set[part].clone().filter(|replica| replica.value > 0.0) {
                pool.take(replica);
            }
        }
        pool
    }

    fn one_pipeline(problem: &Problem, nodes: &[usize]) -> Self {
        let mut pool = Self { replicas: Vec::new(), idle: nodes.to_vec() };
        if let Some(replica) = best_order(problem, nodes) {
            pool.take(replica);
        }
        pool
    }

    /// As many nodes a pipeline as it takes to hold everything, those with the most memory first.
    fn grouped(problem: &Problem, nodes: &[usize]) -> Self {
        let memory = |node: usize| problem.cluster.nodes()[node].memory_bytes;
        let mut rest = nodes.to_vec();
        rest.sort_by_key(|&node| (Reverse(memory(node)), node));
        let mut pool = Self { replicas: Vec::new(), idle: nodes.to_vec() };
        let needed = problem.workload.state_bytes(0..problem.workload.units().len());
        while !rest.is_empty() {
            let (mut bytes, mut found) = (0u64, None);
            for last in 0..rest.len() {
                bytes = bytes.saturating_add(memory(rest[last]));
                if bytes < needed {
                    continue;
                }
                found = best_order(problem, &rest[..=last]).filter(|replica| replica.value > 0.0);
                // A pipeline that does not fit into twice what its state takes fails for another reason than its length.
                if found.is_some() || (bytes > 4 * needed && last > 8) {
                    break;
                }
            }
            let Some(replica) = found else { break };
            rest.retain(|node| replica.stages.iter().all(|stage| stage.node != *node));
            pool.take(replica);
        }
        pool
    }

    /// Adds a replica of idle nodes.
    fn take(&mut self, replica: Replica) {
        self.idle.retain(|node| replica.stages.iter().all(|stage| stage.node != *node));
        self.replicas.push(replica);
    }

    /// Changes one or two replicas at a time as long as that helps; then lets go of what is worth nothing.
    pub fn improve(&mut self, problem: &Problem, budget: Budget) {
        let mut budget = budget;
        while budget.0 > 0 && self.improved_once(problem, &mut budget) {}
        let (kept, worthless) = self.replicas.drain(..).partition(|replica| replica.value > 0.0);
        self.replicas = kept;
        self.idle.extend(worthless.iter().flat_map(Replica::nodes));
        self.idle.sort_unstable();
    }

    fn improved_once(&mut self, problem: &Problem, budget: &mut Budget) -> bool {
        let mut improved = self.use_idle(problem, budget);
        for at in (0..self.replicas.len()).rev() {
            if at < self.replicas.len() {
                improved |= self.change_one(problem, at, budget);
            }
        }
        let mut first = 0;
        while first < self.replicas.len() {
            let mut second = first + 1;
            while second < self.replicas.len() {
                improved |= self.change_two(problem, first, second, budget);
                second += 1;
            }
            first += 1;
        }
        improved
    }

    /// Idle nodes alone, and all of them together.
    fn use_idle(&mut self, problem: &Problem, budget: &mut Budget) -> bool {
        let mut improved = self.try_dividing(problem, &[], budget);
        for node in self.idle.clone() {
            improved |= self.try_instead(problem, &[], &[vec![node]], budget);
        }
        let idle = self.idle.clone();
        if idle.len() > 1 {
            let orders = orders(problem, &idle);
            improved |= orders.into_iter().any(|order| self.try_instead(problem, &[], &[order], budget));
        }
        improved
    }

    /// A replica with an idle node more, instead of one of its own or without it, or in another order.
    fn change_one(&mut self, problem: &Problem, at: usize, budget: &mut Budget) -> bool {
        let order = self.replicas[at].nodes();
        let mut tries: Vec<Vec<Vec<usize>>> = Vec::new();
        for left_out in 0..order.len() {
            let mut shorter = order.clone();
            let node = shorter.remove(left_out);
            tries.push(vec![shorter.clone(), vec![node]]);
            for other in left_out + 1..order.len() {
                let mut swapped = order.clone();
                swapped.swap(left_out, other);
                tries.push(vec![swapped]);
            }
            for &node in &self.idle {
                let mut exchanged = order.clone();
                exchanged[left_out] = node;
                tries.push(vec![exchanged]);
            }
        }
        for &node in &self.idle {
            tries.extend((0..=order.len()).map(|place| vec![with(&order, place, node)]));
        }
        if self.idle.len() > 1 {
            let all: Vec<usize> = order.iter().chain(&self.idle).copied().collect();
            tries.extend(orders(problem, &all).into_iter().map(|order| vec![order]));
        }
        tries.into_iter().any(|orders| self.try_instead(problem, &[at], &orders, budget))
            || self.try_dividing(problem, &[at], budget)
    }

    /// Two replicas as one, with a node of one in the other, or with two nodes exchanged.
    fn change_two(&mut self, problem: &Problem, first: usize, second: usize, budget: &mut Budget) -> bool {
        let [a, b] = [first, second].map(|at| self.replicas[at].nodes());
        if a.len() == 1 && b.len() == 1 && self.are_best_alone(problem, first, second) {
            return false;
        }
        let all = [&a[..], &b[..]].concat();
        let mut tries: Vec<Vec<Vec<usize>>> =
            orders(problem, &all).into_iter().map(|order| vec![order]).collect();
        for (from, to) in [(&a, &b), (&b, &a)] {
            for left in 0..from.len() {
                let mut shorter = from.clone();
                let node = shorter.remove(left);
                tries.extend((0..=to.len()).map(|place| vec![shorter.clone(), with(to, place, node)]));
            }
        }
        for left in 0..a.len() {
            for right in 0..b.len() {
                let (mut a, mut b) = (a.clone(), b.clone());
                std::mem::swap(&mut a[left], &mut b[right]);
                tries.push(vec![a, b]);
            }
        }
        tries.into_iter().any(|orders| self.try_instead(problem, &[first, second], &orders, budget))
            || self.try_dividing(problem, &[first, second], budget)
    }

    /// A node that hosts everything brings as much as it ever can, so two of them are not better together.
    fn are_best_alone(&self, problem: &Problem, first: usize, second: usize) -> bool {
        let full = |at: usize| {
            let replica = &self.replicas[at];
            let upper = crate::plan::brings_at_most(problem, replica.stages[0].node);
            replica.value >= upper * (1.0 - GAIN_MIN)
        };
        full(first) && full(second)
    }

    /// Replaces the replicas at `places` by pipelines over `orders`, of their nodes and idle ones, if that is worth more.
    fn try_instead(
        &mut self,
        problem: &Problem,
        places: &[usize],
        orders: &[Vec<usize>],
        budget: &mut Budget,
    ) -> bool {
        if budget.0 < orders.len() {
            budget.0 = 0;
            return false;
        }
        budget.0 -= orders.len();
        // What is worth nothing yet may become worth something, but nobody begins it anew.
        let found: Vec<Replica> = orders
            .iter()
            .enumerate()
            .filter(|(_, order)| !order.is_empty())
            .filter_map(|(at, order)| Some((at, problem.pipeline(order)?)))
            .filter(|(at, replica)| replica.value > 0.0 || (*at == 0 && !places.is_empty()))
            .map(|(_, replica)| replica)
            .collect();
        let before: f64 = places.iter().map(|&at| self.replicas[at].value).sum();
        let after: f64 = found.iter().map(|replica| replica.value).sum();
        if found.is_empty() || after <= before + GAIN_MIN * before.abs() {
            return false;
        }
        self.replace(places, found);
        true
    }

    fn replace(&mut self, places: &[usize], found: Vec<Replica>) {
        let mut places = places.to_vec();
        places.sort_unstable_by_key(|&at| Reverse(at));
        for at in places {
            self.idle.extend(self.replicas.remove(at).nodes());
        }
        found.into_iter().for_each(|replica| self.take(replica));
        self.idle.sort_unstable();
    }

    /// Divides the nodes of the replicas at `places`, with the idle ones if they are few, anew.
    fn try_dividing(&mut self, problem: &Problem, places: &[usize], budget: &mut Budget) -> bool {
        let own: Vec<usize> = places.iter().flat_map(|&at| self.replicas[at].nodes()).collect();
        let idle = self.idle.iter().copied().take(DIVIDED_MAX.saturating_sub(own.len()));
        let nodes: Vec<usize> = own.iter().copied().chain(idle).collect();
        let tries = (1 << nodes.len()) * orders_max(nodes.len());
        if own.len() > DIVIDED_MAX || nodes.len() < 2 || budget.0 < tries {
            return false;
        }
        budget.0 -= tries;
        let divided = Self::divided(problem, &nodes);
        let before: f64 = places.iter().map(|&at| self.replicas[at].value).sum();
        if divided.value() <= before + GAIN_MIN * before.abs() {
            return false;
        }
        self.replace(places, divided.replicas);
        true
    }
}

impl Replica {
    /// Its nodes, in the order in which activations pass them.
    pub fn nodes(&self) -> Vec<usize> {
        self.stages.iter().map(|stage| stage.node).collect()
    }
}

fn best_order(problem: &Problem, nodes: &[usize]) -> Option<Replica> {
    let orders = orders(problem, nodes);
    let found = orders.into_iter().filter_map(|order| problem.pipeline(&order));
    found.max_by(|a, b| a.value.total_cmp(&b.value))
}

/// How many orders of so many nodes are tried.
fn orders_max(nodes: usize) -> usize {
    (1..=nodes).product::<usize>().min(6)
}

/// Orders worth trying: of up to three nodes all; of more, region by region, then by memory, since what comes first keeps
/// more, or by speed; and the one that a beam search finds.
fn orders(problem: &Problem, nodes: &[usize]) -> Vec<Vec<usize>> {
    match nodes[..] {
        [a] => return vec![vec![a]],
        [a, b] => return vec![vec![a, b], vec![b, a]],
        [a, b, c] => {
            return [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]].map(Vec::from).into();
        }
        _ => {}
    }
    let cluster = problem.cluster;
    let machine = |node: usize| &cluster.nodes()[node];
    let mut by_memory = nodes.to_vec();
    by_memory.sort_by_key(|&node| (cluster.region(node), Reverse(machine(node).memory_bytes), node));
    let mut by_speed = nodes.to_vec();
    by_speed.sort_by(|&a, &b| {
        let speeds = machine(b).flops.total_cmp(&machine(a).flops);
        cluster.region(a).cmp(&cluster.region(b)).then(speeds).then(a.cmp(&b))
    });
    let mut reversed = by_memory.clone();
    reversed.reverse();
    let mut all = vec![by_memory, by_speed, reversed];
    all.extend(problem.drawn_together(nodes));
    all.sort();
    all.dedup();
    all
}

fn with(order: &[usize], place: usize, node: usize) -> Vec<usize> {
    let mut longer = order.to_vec();
    longer.insert(place, node);
    longer
}
