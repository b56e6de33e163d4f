//! A tiny network, its data, and machines whose wires lose, repeat and reorder.

use std::collections::BTreeMap;

use zoo_content::Digest;
use zoo_kernels::random;
use zoo_model::{NetworkDefinition, Optimizer, Profile, Stage, preset};
use zoo_pipeline::{
    Batch, Correction, Format, Order, Outgoing, Pass, Refusal, Replica, Schedule, Settings, StageAgent,
};

pub const SEED: u64 = 7;
const VOCAB: u64 = 32;
const CONTEXT: usize = 16;

/// A decoder that can be cut in seven, with a table of its own in the head.
pub fn definition() -> NetworkDefinition {
    let mut config = preset::by_name("qwen3-tiny").expect("a preset");
    (config.tied_embeddings, config.vocab_size, config.context) = (false, VOCAB as usize, CONTEXT);
    NetworkDefinition::decoder(&config).expect("a possible shape")
}

pub fn schedule(stages: u32, order: Order) -> Schedule {
    Schedule {
        stages,
        micro_batches: 2,
        micro_batch_tokens: CONTEXT as u32,
        steps: 4,
        ahead_per_stage: 2,
        order,
        correction: Correction::Rate { anneal_steps: 3 },
        checkpoint_steps: 2,
    }
}

pub fn settings(schedule: Schedule, format: Format) -> Settings {
    Settings {
        epoch: 5,
        schedule,
        optimizer: Optimizer::default(),
        clip: Some(1.0),
        activations: format,
        gradients: format,
    }
}

/// Micro-batches of a run.
pub struct Data(Vec<(Vec<u32>, Vec<u32>)>);

impl Data {
    pub fn of(schedule: &Schedule) -> Self {
        let token = |micro_batch: u64, at: u64| (random::bits(SEED, micro_batch, at) % VOCAB) as u32;
        let length = u64::from(schedule.micro_batch_tokens);
        let micro_batch = |number: u64| {
            let inputs = (0..length).map(|at| token(number, at)).collect();
            (inputs, (1..=length).map(|at| token(number, at)).collect())
        };
        Self((0..schedule.total()).map(micro_batch).collect())
    }

    pub fn batch(&self, micro_batch: u64) -> Batch<'_> {
        let (inputs, targets) = &self.0[micro_batch as usize];
        Batch { inputs, targets, learning_rate: 0.01 }
    }
}

/// What one machine comes to.
pub fn alone(settings: &Settings) -> Vec<Pass> {
    let data = Data::of(&settings.schedule);
    let mut replica = Replica::new(settings, &definition(), Profile::F32Exact, SEED).expect("possible");
    replica.run(|at| data.batch(at), |_| ()).expect("finite")
}

/// The digests of all VNodes after a step, which must not depend on who hosted what.
pub fn leaves(passes: &[Pass]) -> BTreeMap<(u64, String), Digest> {
    let ends = passes.iter().filter(|pass| !pass.leaves.is_empty());
    let all = ends.flat_map(|pass| {
        let at = pass.operation.micro_batch();
        pass.leaves.iter().map(move |leaf| ((at, leaf.vnode.clone()), leaf.digest))
    });
    all.collect()
}

/// Machines, each with some stages, between wires of which nothing is certain.
pub struct Hosts {
    settings: Settings,
    data: Data,
    host_of: Vec<usize>,
    stages: Vec<StageAgent>,
    disks: Vec<Option<Vec<u8>>>,
    wire: Vec<Outgoing>,
    passes: BTreeMap<(u32, bool, u64), Pass>,
    draws: u64,
    chance: u64,
    /// Passes that were computed, some of them twice.
    pub worked: u64,
}

impl Hosts {
    pub fn new(settings: &Settings, hosts: usize, chance: u64) -> Self {
        let stages = settings.schedule.stages;
        let host_of = (0..u64::from(stages)).map(|stage| {
            // The first stages one each, so that no host is empty; the others anywhere.
            let any = (random::bits(chance, 1, stage) % hosts as u64) as usize;
            if (stage as usize) < hosts { stage as usize } else { any }
        });
        let stages = (0..stages)
            .map(|stage| StageAgent::new(settings.clone(), stage, model(settings, stage)).expect("its part"));
        let stages: Vec<_> = stages.collect();
        Self {
            settings: settings.clone(),
            data: Data::of(&settings.schedule),
            host_of: host_of.collect(),
            disks: vec![None; stages.len()],
            stages,
            wire: Vec::new(),
            passes: BTreeMap::new(),
            draws: 0,
            chance,
            worked: 0,
        }
    }

    /// Runs to the end; after that many passes, that host dies and is replaced.
    pub fn run(mut self, death: Option<(u64, usize)>) -> (Vec<Pass>, u64) {
        let mut death = death;
        for _ in 0..1_000_000 {
            if self.stages.iter().all(StageAgent::is_finished) {
                return (self.passes.into_values().collect(), self.worked);
            }
            if let Some((after, host)) = death
                && self.worked >= after
            {
                self.replace(host);
                death = None;
            }
            self.turn();
        }
        panic!(
            "the pipeline stands still: {:?}",
            self.stages.iter().map(StageAgent::position).collect::<Vec<_>>()
        );
    }

    fn turn(&mut self) {
        let ready: Vec<usize> =
            (0..self.stages.len()).filter(|&at| self.stages[at].ready().is_some()).collect();
        match (self.draw(3), ready.len() as u64, self.wire.len() as u64) {
            (_, 0, 0) => self.tell_all(),
            (0, 1.., _) | (_, 1.., 0) => {
                let at = ready[self.draw(ready.len() as u64) as usize];
                self.work(at);
            }
            (_, _, waiting) => {
                let at = self.draw(waiting) as usize;
                self.deliver(at);
            }
        }
    }

    /// A message is lost, comes and comes again, or comes: any of those on the way.
    fn deliver(&mut self, at: usize) {
        let fate = self.draw(8);
        let outgoing = if fate == 0 { self.wire[at].clone() } else { self.wire.swap_remove(at) };
        if fate == 1 {
            return;
        }
        match self.stages[outgoing.to as usize].receive(outgoing.message) {
            Ok(answers) => self.wire.extend(answers),
            Err(Refusal::Early { .. }) => (),
            Err(refusal) => panic!("{refusal}"),
        }
    }

    fn work(&mut self, at: usize) {
        let operation = self.stages[at].ready().expect("chosen among those");
        let done = self.stages[at].work(self.data.batch(operation.micro_batch())).expect("finite");
        self.worked += 1;
        self.wire.extend(done.messages);
        if let Some(checkpoint) = done.checkpoint {
            self.disks[at] = Some(checkpoint.bytes);
            let said = self.stages[at].saved(checkpoint.position);
            self.wire.extend(said);
        }
        let pass = done.pass.expect("it was ready");
        let key =
            (pass.stage, matches!(operation, zoo_pipeline::Operation::Forward(_)), operation.micro_batch());
        if let Some(before) = self.passes.insert(key, pass.clone()) {
            assert_eq!(before, pass, "a pass that is done again comes to the same");
        }
    }

    /// What a host knew is gone, and so is what was on its way to it.
    fn replace(&mut self, host: usize) {
        for at in (0..self.stages.len()).filter(|&at| self.host_of[at] == host) {
            let (settings, stage) = (self.settings.clone(), at as u32);
            let model = model(&settings, stage);
            let agent = match &self.disks[at] {
                Some(bytes) => StageAgent::restore(settings, stage, model, bytes),
                None => StageAgent::new(settings, stage, model),
            };
            self.stages[at] = agent.expect("its own checkpoint");
            self.wire.retain(|outgoing| outgoing.to != stage);
            let said = self.stages[at].status();
            self.wire.extend(said);
        }
    }

    fn tell_all(&mut self) {
        self.wire.extend(self.stages.iter().flat_map(StageAgent::status));
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.draws += 1;
        random::bits(self.chance, 2, self.draws) % below
    }
}

fn model(settings: &Settings, stage: u32) -> Stage {
    let cut = Stage::cut(&definition(), Profile::F32Exact, settings.schedule.stages as usize);
    let mut model = cut.expect("possible").swap_remove(stage as usize);
    model.initialise(SEED);
    model
}
