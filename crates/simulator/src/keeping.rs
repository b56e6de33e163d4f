//! Checkpoints that are kept: what nodes do about them, what befalls them, and what has to hold.

use zoo_agent::Input;
use zoo_protocol::{Challenge, Keep, NodeId, Report};

use crate::host::{Assignment, Request, SessionId};
use crate::work;
use crate::world::{HEARD_MS, World};

impl World<'_> {
    /// A node is told what to do and what to keep.
    pub fn assigned(&mut self, node: usize, session: SessionId, assignment: Assignment) {
        let Assignment { work, peers, keeps, keep_peers } = assignment;
        self.tell(node, Input::WorkChanged { work: Box::new(work), peers });
        if self.nodes[node].pretends {
            self.pretend(node, session, keeps);
        } else {
            self.tell(node, Input::KeepsChanged { keeps, peers: keep_peers });
        }
    }

    /// What a node does that says it keeps checkpoints and does not.
    fn pretend(&mut self, node: usize, session: SessionId, keeps: Vec<Keep>) {
        for Keep { job, round, ask, challenge, .. } in keeps {
            let report = match challenge {
                None => Report::Kept { job, round, ask },
                Some(_) if self.wires.in_1000(500) => continue, // in silence
                Some(Challenge { nonce, .. }) => Report::Proved { job, round, nonce, proof: vec![7; 1_000] },
            };
            self.request(node, session, Request::Report(report));
        }
    }

    /// A blob on a node's disk becomes another, and nobody knows.
    pub fn rot(&mut self, node: usize) {
        let disk = &self.nodes[node].disk;
        let which = self.weather.between(0, disk.len() as u64) as usize;
        if let Some(blob) = disk.iter().nth(which).copied() {
            self.nodes[node].rotten.insert(blob);
        }
    }

    /// All keepers of a checkpoint but one holder are killed and lose it at once, and whoever else still happens to have it lets it go. It can
    /// be had all the same, and then gets as many holders again.
    pub fn drill(&mut self) {
        let checkpoints: Vec<_> = self.host.state.checkpoints().iter().collect();
        let which = self.weather.between(0, checkpoints.len() as u64) as usize;
        let Some((_, round, checkpoint)) = checkpoints.get(which).copied() else { return };
        let digest = checkpoint.digest;
        // Who is asked to keep it falls as well: it may have said a moment ago that it does, and would not let go of it then.
        let keepers: Vec<usize> = checkpoint.keepers.keys().map(|id| self.by_id[id]).collect();
        let holders = checkpoint.keepers.iter().filter(|(_, keeper)| keeper.holds());
        let holders = holders.map(|(id, _)| self.by_id[id]);
        // Who fell to the last drill may not be missed yet.
        let holders: Vec<usize> = holders.filter(|node| self.nodes[*node].has_checkpoint(&digest)).collect();
        if holders.len() < self.options.checkpoints.redundancy as usize {
            return;
        }
        self.history.drills += 1;
        let spared = holders[self.weather.between(0, holders.len() as u64 - 1) as usize];
        for node in (0..self.nodes.len()).filter(|node| *node != spared) {
            if keepers.contains(&node) {
                let away = self.weather.between(100, 20_000);
                self.kill(node, away);
            }
            let disk = &mut self.nodes[node].disk;
            disk.remove(&digest);
            work::parts(&digest).iter().for_each(|(part, _)| _ = disk.remove(part));
        }
        if !self.nodes.iter().any(|node| node.has_checkpoint(&digest)) {
            self.violation(format!(
                "all holders of round {round} but one are gone, and so is the checkpoint"
            ));
        }
    }

    /// Whoever the state counts on has what it says, but for those who pretend and those whose disk has rotted.
    pub fn check_holders(&mut self) {
        let mut broken = Vec::new();
        for (_, round, checkpoint) in self.host.state.checkpoints().iter() {
            for (id, keeper) in &checkpoint.keepers {
                let node = &self.nodes[self.by_id[id]];
                // A process that has died will be missed, and asked again when it is back.
                let process = node.process.as_ref();
                let is_heard = process.is_some_and(|process| {
                    process.session.is_some() && process.session_since + HEARD_MS < self.now
                });
                let excused = node.pretends || !node.rotten.is_empty() || !is_heard;
                if keeper.holds() && !excused && !node.has_checkpoint(&checkpoint.digest) {
                    broken.push(format!("{} counts as a holder of round {round}, and is none", id.short()));
                }
            }
        }
        broken.into_iter().for_each(|broken| self.violation(broken));
    }

    /// Whether every kept checkpoint is as safe as its job asks.
    pub fn is_repaired(&self) -> bool {
        let honest = self.nodes.iter().filter(|node| !node.pretends).count();
        let wanted = (self.options.checkpoints.redundancy as usize).min(honest);
        self.host.state.checkpoints().iter().all(|(_, _, checkpoint)| {
            let holds = |id: &NodeId| self.nodes[self.by_id[id]].has_checkpoint(&checkpoint.digest);
            checkpoint.keepers.iter().filter(|(id, keeper)| keeper.holds() && holds(id)).count() >= wanted
        })
    }
}
