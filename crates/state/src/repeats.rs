//! Reports that say nothing new: a host does not journal them, so that nobody makes the journal grow by repeating itself.

use zoo_protocol::{NodeId, RefusedSummand, Report};

use crate::{Answer, Keeping, Opinion, Phase, ShardState, State, SumState};

impl State {
    /// Whether a report of a node can change anything beyond what the same node has said before. What is refused anyway is not told apart.
    pub fn is_news(&self, node: &NodeId, report: &Report) -> bool {
        match report {
            Report::Trained(sealed) => !self.has_contributed(node, &sealed.digest()),
            Report::Aggregated { job, round, checkpoint, .. } => {
                let kept = self.checkpoints.get(job, *round);
                let holds =
                    kept.is_some_and(|kept| kept.digest == *checkpoint && kept.holders.contains(node));
                !holds && self.answer_of(node) != Some(&Answer::Checkpoint(*checkpoint))
            }
            Report::Summed { sum, sums, .. } => {
                let state = self.aggregating().and_then(|it| it.gathering.sums.get(*sum as usize));
                !state.is_some_and(|sum| matches!(&sum.state, SumState::Done(_, before) if before == sums))
            }
            Report::Missing { maker, .. } => !self.has_claimed(node, maker),
            Report::Refused { summands, .. } => !summands.iter().all(|it| self.has_refused(node, it)),
            Report::Evaluated { shard, .. } => !self.has_evaluated(node, *shard),
            Report::Kept { job, round, ask } => {
                let keeper = self.checkpoints.get(job, *round).and_then(|kept| kept.keepers.get(node));
                keeper.is_none_or(|keeper| keeper.ask != *ask || keeper.state == Keeping::Asked)
            }
            Report::Verified { round, maker, outcome, .. } => {
                !self.has_said(node, (*round, *maker), Opinion::Came(*outcome))
            }
            Report::Withheld { round, maker, .. } => {
                !self.has_said(node, (*round, *maker), Opinion::Withheld)
            }
            Report::Unamendable { .. } => {
                let amends = self.aggregating().and_then(|it| it.amends.as_ref());
                !amends.is_some_and(|amends| amends.unamendable.contains(node))
            }
            // Who has answered is asked something else.
            Report::Benchmarked { seed, .. } => {
                self.benchmark_for(node).is_some_and(|asked| asked.seed == *seed)
            }
            Report::Told { round, secret, .. } => match self.running.as_ref().map(|running| &running.phase) {
                Some(Phase::Settling(settling)) => settling.told.get(node) != Some(&(*round, *secret)),
                _ => true,
            },
            // A challenge is answered once, and after a failure a node is idle.
            Report::Proved { .. } | Report::Failed { .. } => true,
        }
    }

    fn aggregating(&self) -> Option<&crate::Aggregating> {
        match self.running.as_ref().map(|running| &running.phase) {
            Some(Phase::Aggregating(aggregating)) => Some(aggregating),
            _ => None,
        }
    }

    fn answer_of(&self, node: &NodeId) -> Option<&Answer> {
        self.aggregating()?.answers.get(node)
    }

    fn has_contributed(&self, node: &NodeId, commitment: &zoo_content::Digest) -> bool {
        let Some(running) = &self.running else { return false };
        let rounds = [running.round, running.round.saturating_sub(1)];
        let given = rounds.iter().filter_map(|round| running.accepted_from(node, *round));
        given.into_iter().any(|given| given.commitment == *commitment)
    }

    fn has_claimed(&self, node: &NodeId, maker: &NodeId) -> bool {
        let claims = self.aggregating().and_then(|it| it.claims.get(maker));
        claims.is_some_and(|nodes| nodes.contains(node))
            || matches!(self.answer_of(node), Some(Answer::Missing(missing)) if missing.contains(maker))
    }

    fn has_refused(&self, node: &NodeId, refused: &RefusedSummand) -> bool {
        let judges = self.aggregating().and_then(|it| it.refusals.get(&refused.maker));
        judges.is_some_and(|judges| judges.contains_key(node))
    }

    fn has_evaluated(&self, node: &NodeId, shard: u32) -> bool {
        let Some(Phase::Evaluating(evaluating)) = self.running.as_ref().map(|running| &running.phase) else {
            return false;
        };
        matches!(evaluating.shards.get(shard as usize), Some(ShardState::Done(score)) if score.node == *node)
    }

    fn has_said(&self, node: &NodeId, window: crate::WindowName, opinion: Opinion) -> bool {
        let checks = self.running.as_ref().map(|running| &running.verification.checks);
        let check = checks.and_then(|checks| checks.get(&window));
        check.is_some_and(|check| check.opinions.get(node) == Some(&opinion))
    }
}
