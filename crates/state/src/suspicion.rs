//! Nodes that the orchestrator does not hear and their peers reach.
//!
//! A suspect is still live: its blobs are fetched, what it contributed is not dropped on one node's word, and the round in which it
//! trains keeps its place for it. It gets nothing new to do, and what others can do as well moves to them at once. It is heard
//! again, or lost after [`SUSPICION_MS`].

use zoo_protocol::NodeId;

use crate::{Event, LossCause, Refusal, State};

/// A suspect is waited for so long, ms.
pub const SUSPICION_MS: u64 = 10_000;
/// Nodes that are asked about a silent one.
pub const WITNESSES_MAX: usize = 3;

impl State {
    /// Whether a node is silent here and alive for its peers.
    pub fn is_suspect(&self, node: &NodeId) -> bool {
        self.suspects.contains_key(node)
    }

    pub(crate) fn suspect(
        &mut self,
        id: NodeId,
        reached_by: &[NodeId],
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let node = self.nodes.get(&id).ok_or(Refusal::UnknownNode(id))?;
        if !node.live {
            return Err(Refusal::NotLive(id));
        }
        let can_tell =
            |witness: &NodeId| *witness != id && self.is_live(witness) && !self.is_suspect(witness);
        if reached_by.is_empty() || !reached_by.iter().all(can_tell) {
            return Err(Refusal::Invalid(format!("nobody who is there reaches node {}", id.short())));
        }
        // Once suspected it has its time, however often its peers are asked again.
        if !self.is_suspect(&id) {
            self.suspects.insert(id, now_ms);
            events.push(Event::NodeSuspected { node: id, reached_by: reached_by.to_vec() });
        }
        Ok(())
    }

    /// A suspect was heard again. Harmless for everybody else.
    pub(crate) fn hear(&mut self, id: NodeId, events: &mut Vec<Event>) -> Result<(), Refusal> {
        if !self.nodes.contains_key(&id) {
            return Err(Refusal::UnknownNode(id));
        }
        if self.suspects.remove(&id).is_some() {
            events.push(Event::NodeHeard { node: id });
        }
        Ok(())
    }

    /// Who was suspected for too long is lost.
    pub(crate) fn lose_suspects(&mut self, now_ms: u64, events: &mut Vec<Event>) {
        let is_over = |since_ms: &u64| now_ms >= since_ms.saturating_add(SUSPICION_MS);
        let over: Vec<NodeId> =
            self.suspects.iter().filter(|(_, since_ms)| is_over(since_ms)).map(|(id, _)| *id).collect();
        for id in over {
            // It is known: otherwise it would not have been suspected.
            let _ = self.lose(id, LossCause::Unheard, events);
        }
    }

    /// When the first suspect is lost.
    pub(crate) fn suspicion_end_ms(&self) -> Option<u64> {
        self.suspects.values().min().map(|since_ms| since_ms.saturating_add(SUSPICION_MS))
    }
}
