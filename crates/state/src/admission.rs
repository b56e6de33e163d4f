//! How fast nodes are, measured by the network and not said by themselves.
//!
//! Now and then those who have no part in a job are measured, all at the same moment: a *sitting*. The host draws a number that nobody
//! could know; from it follows for each of them a [`Benchmark`] of its own. All begin a part at the same moment, each says a pledge of its answer,
//! and the journal's clock says how long that took; when nobody is waited for any longer, the next part begins. Then the host draws again, and
//! who computes whose parts once more follows from that: each one answer, said openly. Where it meets the pledge, the part is right, and when
//! all parts are, the node has a [`Rating`].
//!
//! - Nobody is measured alone: there would be nobody to check.
//! - One who comes to something else settles nothing, for it may be the one who is wrong; another is asked. Two, and the node has no rating.
//! - Who is late has none either. Who gets work meanwhile, is lost, or whose checkers are, keeps what it had, and has its turn in the next sitting.
//! - Of `n` nodes on one machine the `i`th that answers has waited for `i` answers. So together they are rated at most 1 + 1/2 + ... + 1/n times the
//!   machine, in each part, and not n times. What a rating does not say is who the machine belongs to, nor that it will be as fast tomorrow.
//!
//! Who has no rating is [`Tier::Community`] and takes part as ever: a rating orders shares, and shows in no bit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{Benchmark, NodeId, Part, Speeds, Terms, Tier, Work, encode};

use crate::{Event, Phase, Refusal, State};

/// Between two sittings at least, ms.
pub const SITTING_INTERVAL_MS: u64 = 600_000;
/// A rating that is older is due to be measured again, ms.
pub const RATING_MS: u64 = 24 * 3_600_000;
/// Most nodes in a sitting; those first whose keys come first after the draw of the last.
pub const SITTING_MAX: usize = 1 << 10;
/// So many others come to something else than a node did, and it has no rating.
const DOUBTS_MAX: u8 = 2;

/// What was measured of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rating {
    /// What it is taken for.
    pub tier: Tier,
    /// Tokens a second on the benchmark network, by the journal's clock.
    pub speeds: Speeds,
    /// Of a walk over memory, MiB a second.
    pub memory_mib_per_s: u32,
    /// When, ms since the Unix epoch.
    pub at_ms: u64,
}

/// What a sitting waits for from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// A number from which the benchmarks of a new sitting follow.
    Benchmarks,
    /// A number from which it follows who checks whom.
    Checkers,
}

/// Why a node has no rating after a sitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unrated {
    /// A part took too long.
    Late,
    /// Others came to something else.
    Wrong,
}

/// The sitting that is under way, and when the latest began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    pub(crate) sitting: Option<Sitting>,
    pub(crate) latest_ms: Option<u64>,
}

/// Nodes that are measured together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sitting {
    /// How they are measured.
    pub terms: Terms,
    /// Since when the present part is computed, ms.
    pub since_ms: u64,
    /// Those about whom nothing is settled yet.
    pub candidates: BTreeMap<NodeId, Candidate>,
    /// Those who said all their pledges, each checked by the one after it; empty until that was drawn.
    pub circle: Vec<NodeId>,
    /// When it is over, whatever is settled, ms.
    pub ends_ms: u64,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it computes; none once it has said its pledge.
    pub asked: Option<Benchmark>,
    /// The parts that it has done.
    pub pledged: Vec<Pledged>,
    /// Of those, how many others have computed to the same.
    pub confirmed: u8,
    /// How many came to something else.
    pub doubts: u8,
}

/// A part that a node says it has computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pledged {
    /// Which.
    pub benchmark: Benchmark,
    /// Of its answer.
    pub pledge: Digest,
    /// How long that took, ms.
    pub took_ms: u64,
}

impl State {
    /// The sitting that is under way.
    pub fn sitting(&self) -> Option<&Sitting> {
        self.admission.sitting.as_ref()
    }

    /// What the host is to draw now, if anything: it issues [`Command::SittingOpened`](crate::Command::SittingOpened) or
    /// [`Command::CheckersDrawn`](crate::Command::CheckersDrawn). Looks at every node while no sitting is under way.
    pub fn draw_wanted(&self, now_ms: u64) -> Option<Draw> {
        match &self.admission.sitting {
            Some(sitting) => sitting.waits_for_checkers().then_some(Draw::Checkers),
            None => self.is_sitting_due(now_ms).then_some(Draw::Benchmarks),
        }
    }

    fn is_sitting_due(&self, now_ms: u64) -> bool {
        let is_soon = |latest_ms: u64| now_ms < latest_ms.saturating_add(SITTING_INTERVAL_MS);
        if self.admission.latest_ms.is_some_and(is_soon) {
            return false;
        }
        let is_due = |id: &NodeId| {
            let rating = self.nodes.get(id).and_then(|node| node.rating);
            rating.is_none_or(|rating| now_ms >= rating.at_ms.saturating_add(RATING_MS))
        };
        let (mut here, mut due) = (0, false);
        for id in self.unoccupied() {
            (here, due) = (here + 1, due || is_due(id));
            if here >= 2 && due {
                return true;
            }
        }
        false
    }

    /// Live nodes that are heard and have had no part in the job that runs, ordered.
    fn unoccupied(&self) -> impl Iterator<Item = &NodeId> {
        let running = self.running.as_ref();
        let occupied = running.filter(|running| running.phase != Phase::Waiting).map(|it| it.named());
        let is_free = move |id: &&NodeId| occupied.as_ref().is_none_or(|occupied| !occupied.contains(*id));
        let heard = self.live().map(|(id, _)| id).filter(|id| !self.is_suspect(id));
        heard.filter(is_free).filter(|id| !self.activity_of(id).is_busy())
    }

    pub(crate) fn open_sitting(
        &mut self,
        draw: &Digest,
        terms: Terms,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        if self.admission.sitting.is_some() || !self.is_sitting_due(now_ms) {
            return Err(Refusal::NothingToDraw);
        }
        let mut nodes: Vec<NodeId> = self.unoccupied().copied().collect();
        nodes.sort_by_cached_key(|id| order(draw, id));
        nodes.truncate(SITTING_MAX);
        let candidate = |id: NodeId| {
            let asked = Some(Benchmark::first(draw, id, terms.effort));
            (id, Candidate { asked, pledged: Vec::new(), confirmed: 0, doubts: 0 })
        };
        let candidates: BTreeMap<NodeId, Candidate> = nodes.into_iter().map(candidate).collect();
        events.push(Event::BenchmarkStarted { part: Part::ALL[0], nodes: candidates.len() as u32 });
        // Everybody's parts one after the other, and the same for those who check, whose first may be told to another.
        let ends_ms = now_ms.saturating_add(terms.answer_ms.saturating_mul(4 * Part::ALL.len() as u64));
        self.admission = Admission {
            sitting: Some(Sitting { terms, since_ms: now_ms, candidates, circle: Vec::new(), ends_ms }),
            latest_ms: Some(now_ms),
        };
        Ok(())
    }

    pub(crate) fn draw_checkers(&mut self, draw: &Digest, events: &mut Vec<Event>) -> Result<(), Refusal> {
        let sitting = self.admission.sitting.as_mut().filter(|sitting| sitting.waits_for_checkers());
        let sitting = sitting.ok_or(Refusal::NothingToDraw)?;
        sitting.circle = sitting.candidates.keys().copied().collect();
        sitting.circle.sort_by_cached_key(|id| order(draw, id));
        events.push(Event::CheckersDrawn { nodes: sitting.circle.len() as u32 });
        Ok(())
    }

    /// The part of a benchmark that a node computes when it has nothing else to do: its own, or one that it checks.
    pub(crate) fn benchmark_for(&self, node: &NodeId) -> Option<Benchmark> {
        let sitting = self.admission.sitting.as_ref()?;
        match sitting.candidates.get(node).and_then(|candidate| candidate.asked) {
            Some(own) => Some(own),
            None => sitting.checked_by(node).map(|(_, pledged)| pledged.benchmark),
        }
    }

    /// A node says what a part comes to.
    pub(crate) fn benchmarked(
        &mut self,
        node: NodeId,
        (seed, answer): (Digest, Digest),
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        if self.benchmark_for(&node).is_none_or(|asked| asked.seed != seed) {
            return Err(Refusal::NotAssigned { node, why: "it is for another benchmark" });
        }
        let Some(sitting) = &mut self.admission.sitting else { return Ok(()) };
        if let Some(candidate) = sitting.candidates.get_mut(&node)
            && let Some(benchmark) = candidate.asked
        {
            let took_ms = now_ms.saturating_sub(sitting.since_ms);
            // Who is late is let go below.
            if took_ms < sitting.terms.answer_ms {
                candidate.asked = None;
                candidate.pledged.push(Pledged { benchmark, pledge: answer, took_ms });
            }
            return Ok(());
        }
        if let Some((maker, pledged)) = sitting.checked_by(&node) {
            let is_same = pledged.benchmark.pledge(&answer) == pledged.pledge;
            self.settle_candidate(maker, is_same, now_ms, events);
        }
        Ok(())
    }

    /// Another came to the same, or to something else.
    fn settle_candidate(&mut self, maker: NodeId, is_same: bool, now_ms: u64, events: &mut Vec<Event>) {
        let Some(sitting) = &mut self.admission.sitting else { return };
        let Some(candidate) = sitting.candidates.get_mut(&maker) else { return };
        let rating = if is_same {
            candidate.confirmed += 1;
            if usize::from(candidate.confirmed) < candidate.pledged.len() {
                return;
            }
            Some(candidate.rating(&sitting.terms, now_ms))
        } else {
            candidate.doubts += 1;
            if candidate.doubts < DOUBTS_MAX {
                // Somebody else is asked, who has to hear of it.
                events.push(Event::BenchmarkDoubted { node: maker });
                return;
            }
            None
        };
        sitting.candidates.remove(&maker);
        events.push(match rating {
            Some(rating) => Event::NodeRated { node: maker, rating },
            None => Event::NodeUnrated { node: maker, why: Unrated::Wrong },
        });
        self.rate(&maker, rating);
    }

    fn rate(&mut self, id: &NodeId, rating: Option<Rating>) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.rating = rating;
        }
    }

    /// Lets go who is gone, busy or late; begins the next part; ends a sitting that is over.
    pub(crate) fn tend_admission(&mut self, now_ms: u64, events: &mut Vec<Event>) {
        let Some(mut sitting) = self.admission.sitting.take() else { return };
        let is_late = now_ms >= sitting.since_ms.saturating_add(sitting.terms.answer_ms);
        let mut late = Vec::new();
        sitting.candidates.retain(|id, candidate| {
            // Who has answered everything may go; who waits for the next part has to be there for it.
            if candidate.pledged.len() == Part::ALL.len() {
                return true;
            }
            let is_excused = !self.is_live(id) || self.is_suspect(id) || self.work_of_job(id) != Work::Idle;
            let is_late = is_late && candidate.asked.is_some();
            late.extend((is_late && !is_excused).then_some(*id));
            !is_late && !is_excused
        });
        for node in late {
            events.push(Event::NodeUnrated { node, why: Unrated::Late });
            self.rate(&node, None);
        }
        let is_over = sitting.candidates.is_empty() || now_ms >= sitting.ends_ms || sitting.is_lonely();
        if !is_over && let Some(part) = sitting.go_on(now_ms) {
            events.push(Event::BenchmarkStarted { part, nodes: sitting.candidates.len() as u32 });
        }
        self.admission.sitting = (!is_over).then_some(sitting);
    }

    pub(crate) fn admission_deadline_ms(&self) -> Option<u64> {
        let sitting = self.admission.sitting.as_ref()?;
        let late_ms = sitting.since_ms.saturating_add(sitting.terms.answer_ms);
        let is_waiting = sitting.candidates.values().any(|candidate| candidate.asked.is_some());
        Some(if is_waiting { late_ms.min(sitting.ends_ms) } else { sitting.ends_ms })
    }
}

impl Sitting {
    fn waits_for_checkers(&self) -> bool {
        let is_done = |candidate: &Candidate| candidate.pledged.len() == Part::ALL.len();
        self.circle.is_empty() && self.candidates.values().all(is_done)
    }

    /// The part that follows, if nobody is waited for any longer.
    fn go_on(&mut self, now_ms: u64) -> Option<Part> {
        let is_asked = |candidate: &Candidate| candidate.asked.is_some();
        if !self.circle.is_empty() || self.waits_for_checkers() || self.candidates.values().any(is_asked) {
            return None;
        }
        for candidate in self.candidates.values_mut() {
            candidate.asked = candidate.pledged.last().and_then(|last| last.benchmark.next(&last.pledge));
            self.since_ms = now_ms;
        }
        self.candidates.values().find_map(|candidate| candidate.asked).map(|asked| asked.part)
    }

    /// Whether there is nobody who could check anybody.
    fn is_lonely(&self) -> bool {
        self.circle.is_empty() && self.candidates.len() < 2
    }

    /// Whose part a node is asked to check, and which.
    fn checked_by(&self, node: &NodeId) -> Option<(NodeId, &Pledged)> {
        let place = self.circle.iter().position(|id| id == node)?;
        let before = |back: usize| self.circle[(place + self.circle.len() - back) % self.circle.len()];
        // Of a circle of two nobody is left to settle a doubt.
        let backs = 1..=usize::from(DOUBTS_MAX).min(self.circle.len() - 1);
        let mut asked = backs.filter_map(|back| {
            let maker = before(back);
            let candidate = self.candidates.get(&maker)?;
            let is_mine = usize::from(candidate.doubts) + 1 == back;
            let open = candidate.pledged.get(usize::from(candidate.confirmed));
            open.filter(|_| is_mine).map(|pledged| (maker, pledged))
        });
        asked.next()
    }
}

impl Candidate {
    fn rating(&self, terms: &Terms, at_ms: u64) -> Rating {
        let per_second = |amount: u64, took_ms: u64| {
            u32::try_from(amount.saturating_mul(1000) / took_ms.max(1)).unwrap_or(u32::MAX)
        };
        let (mut speeds, mut memory_mib_per_s) = (Speeds::default(), 0);
        for Pledged { benchmark, took_ms, .. } in &self.pledged {
            let effort = benchmark.effort;
            match benchmark.part {
                Part::F32Exact => speeds.f32_exact = per_second(benchmark.tokens(), *took_ms),
                Part::Bf16Exact => speeds.bf16_exact = per_second(benchmark.tokens(), *took_ms),
                Part::Memory => {
                    let walked = u64::from(effort.area_mib) * u64::from(effort.passes);
                    memory_mib_per_s = per_second(walked, *took_ms);
                }
            }
        }
        Rating { tier: terms.tier(speeds, memory_mib_per_s), speeds, memory_mib_per_s, at_ms }
    }
}

/// A place among the others that nobody knew before the draw.
fn order(draw: &Digest, id: &NodeId) -> Digest {
    Digest::of(&encode(&(draw, id)))
}
