//! What a node computes of stages that write: passes in their order, whatever way they came. No sockets.

use std::collections::{BTreeMap, VecDeque};

use zoo_model::{DecodePass, DecoderStage, Pages, StageOutput, TokenReport};

use crate::message::{Onward, plain};

/// Stages that continue sequences.
#[derive(Default)]
pub(crate) struct Writer {
    generation: u64,
    stages: BTreeMap<u32, Hosted>,
    /// Those that are here from the next generation on.
    coming: BTreeMap<u32, Hosted>,
    waiting: VecDeque<Onward>,
    passes: u64,
}

struct Hosted {
    stage: DecoderStage,
    pages: Pages,
    /// The number of the pass that comes next.
    next: u64,
}

/// What comes of a pass.
#[derive(Debug, PartialEq)]
pub(crate) enum Written {
    /// For a stage that is elsewhere.
    Onward(Onward),
    /// It is done.
    Done { generation: u64, number: u64, reports: Result<Vec<Option<TokenReport>>, String> },
    /// One before it has not come.
    Missed { generation: u64 },
}

impl Writer {
    /// Writes with a stage, from the next generation on.
    pub(crate) fn host(&mut self, number: u32, stage: DecoderStage, pages: u32) {
        let pages = stage.pages(pages as usize);
        self.coming.insert(number, Hosted { stage, pages, next: 0 });
    }

    /// What was written before is gone, and stages that are elsewhere are no longer kept.
    pub(crate) fn begin(&mut self, generation: u64, is_here: impl Fn(u32) -> bool) {
        self.generation = generation;
        self.stages.append(&mut self.coming);
        self.stages.retain(|stage, _| is_here(*stage));
        self.stages.values_mut().for_each(|hosted| hosted.next = 0);
        self.waiting.clear();
    }

    /// Takes a pass; one of another generation, or for a stage that is not here, is nothing.
    pub(crate) fn receive(&mut self, onward: Onward) {
        if onward.generation == self.generation && self.stages.contains_key(&onward.to) {
            self.waiting.push_back(onward);
        }
    }

    /// Passes done so far.
    pub(crate) fn passes(&self) -> u64 {
        self.passes
    }

    /// Computes the oldest pass, if there is one.
    pub(crate) fn work(&mut self) -> Option<Written> {
        let Onward { generation, number, to, pass, rows } = self.waiting.pop_front()?;
        let hosted = self.stages.get_mut(&to)?;
        if hosted.next != number {
            return Some(Written::Missed { generation });
        }
        hosted.next += 1;
        self.passes += 1;
        let rows = match rows.and_then(|rows| hosted.run(&pass, &rows)) {
            Ok(StageOutput::Reports(reports)) => {
                return Some(Written::Done { generation, number, reports: Ok(reports) });
            }
            Ok(StageOutput::Rows(rows)) => Ok(rows.iter().flat_map(|value| value.to_le_bytes()).collect()),
            // It goes on all the same: whoever comes after counts it, and the last says why.
            Err(reason) if hosted.stage.leaving_width().is_some() => Err(reason),
            Err(reason) => return Some(Written::Done { generation, number, reports: Err(reason) }),
        };
        let onward = Onward { generation, number, to: to + 1, pass, rows };
        if self.stages.contains_key(&onward.to) {
            self.waiting.push_front(onward);
            return self.work();
        }
        Some(Written::Onward(onward))
    }
}

impl Hosted {
    fn run(&mut self, pass: &DecodePass, rows: &[u8]) -> Result<StageOutput, String> {
        let rows = numbers(rows).ok_or("rows are not whole numbers of four bytes")?;
        self.stage.run(&mut self.pages, pass, &rows).map_err(plain)
    }
}

fn numbers(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zoo_model::{
        Network, NetworkDefinition, NetworkOptions, PassPart, Profile, RowRequest, Sampler, Wanted, preset,
    };

    fn network() -> Network {
        let config = preset::by_name("qwen3-tiny").expect("a preset");
        let definition = NetworkDefinition::decoder(&config).expect("a network");
        let mut network =
            Network::build(&definition, Profile::F32Exact, NetworkOptions::default()).expect("it is sound");
        network.initialise(3);
        network
    }

    fn stage(network: &Network, stages: usize, at: usize) -> DecoderStage {
        let mut coming =
            DecoderStage::one(network.definition(), network.profile(), stages, at).expect("so many");
        for vnode in network.vnodes() {
            coming.load(vnode.id(), &vnode.state_bytes()).expect("its own state");
        }
        coming.complete().expect("all of it")
    }

    fn pass(number: u64, token: u32) -> Onward {
        let sampler = Sampler::greedy();
        let request = RowRequest {
            row: 0,
            token: Wanted::Choice { sampler, position: number + 1 },
            likelihoods: Some(2),
        };
        let part = PassPart { rows: 1, first: number as u32, pages: vec![1] };
        let pass = DecodePass { tokens: vec![token], parts: vec![part], requests: vec![request] };
        Onward { generation: 1, number, to: 0, pass, rows: Ok(vec![]) }
    }

    /// What comes of three passes by stages on these nodes.
    fn through(nodes: &[u32], passes: [Onward; 3]) -> Vec<Result<Vec<Option<TokenReport>>, String>> {
        let network = network();
        let mut writers: Vec<Writer> = (0..=*nodes.last().unwrap()).map(|_| Writer::default()).collect();
        for (at, node) in nodes.iter().enumerate() {
            writers[*node as usize].host(at as u32, stage(&network, nodes.len(), at), 4);
        }
        for (node, writer) in (0..).zip(&mut writers) {
            writer.begin(1, |stage| nodes[stage as usize] == node);
        }
        let through = |mut onward: Onward| {
            loop {
                let writer = &mut writers[nodes[onward.to as usize] as usize];
                writer.receive(onward);
                match writer.work().expect("a pass waits") {
                    Written::Onward(next) => onward = next,
                    Written::Done { reports, .. } => return reports,
                    Written::Missed { .. } => panic!("nothing was missed"),
                }
            }
        };
        passes.into_iter().map(through).collect()
    }

    #[test]
    fn wherever_the_stages_are_the_reports_are_the_same() {
        let passes = || [0, 1, 2].map(|number| pass(number, 7 + number as u32));
        let alone = through(&[0], passes());
        assert!(alone.iter().all(Result::is_ok));
        for nodes in [&[0, 0][..], &[0, 1], &[0, 1, 1], &[0, 1, 2]] {
            assert_eq!(through(nodes, passes()), alone, "{nodes:?}");
        }
    }

    #[test]
    fn a_pass_that_one_stage_cannot_compute_is_answered_by_the_last_and_the_next_ones_are_computed() {
        for nodes in [&[0][..], &[0, 0], &[0, 1], &[0, 1, 2]] {
            let found = through(nodes, [pass(0, 7), pass(1, u32::MAX), pass(2, 9)]);
            let [Ok(_), Err(reason), Ok(_)] = &found[..] else { panic!("{nodes:?}: {found:?}") };
            assert!(reason.contains("token 4294967295 is not below"), "{reason}");
        }
    }

    #[test]
    fn a_token_that_is_none_cannot_be_asked_for() {
        let mut asked = pass(0, 7);
        asked.pass.requests[0].token = Wanted::Given(u32::MAX);
        asked.pass.requests[0].likelihoods = Some(u32::MAX);
        let mut more = pass(1, 7);
        more.pass.requests[0].likelihoods = Some(u32::MAX);
        let found = through(&[0, 1], [asked, more, pass(2, 9)]);
        assert!(found[0].is_err() && found[2].is_ok());
        let reports = found[1].as_ref().expect("every token is as many as there are");
        assert_eq!(reports[0].as_ref().map(|report| report.top.len()), Some(256));
    }

    #[test]
    fn a_pass_that_comes_without_the_one_before_it_is_not_computed_nor_is_one_of_another_generation() {
        let network = network();
        let mut writer = Writer::default();
        writer.host(0, stage(&network, 1, 0), 4);
        writer.receive(pass(0, 7));
        assert_eq!(writer.work(), None, "it is of a generation that has not begun");
        writer.begin(1, |_| true);
        writer.receive(pass(1, 7));
        assert_eq!(writer.work(), Some(Written::Missed { generation: 1 }));
        writer.receive(Onward { to: 1, ..pass(0, 7) });
        assert_eq!(writer.work(), None, "there is no such stage here");
        writer.receive(pass(0, 7));
        writer.begin(2, |_| false);
        assert_eq!(writer.work(), None);
        assert!(writer.stages.is_empty());
    }

    #[test]
    fn what_is_no_pass_is_refused_with_its_reason() {
        let network = network();
        let mut writer = Writer::default();
        writer.host(1, stage(&network, 2, 1), 4);
        writer.begin(1, |_| true);
        for rows in [vec![0; 5], vec![0; 8]] {
            writer.receive(Onward { to: 1, rows: Ok(rows), number: writer.passes(), ..pass(0, 7) });
            let Some(Written::Done { reports: Err(cause), .. }) = writer.work() else { panic!("a refusal") };
            assert!(!cause.is_empty());
        }
    }
}
