//! All stages on one machine.

use zoo_model::{NetworkDefinition, Profile, Stage};

use crate::agent::{Batch, Done, PipelineError, Settings, StageAgent};
use crate::message::Outgoing;
use crate::record::Pass;

/// All stages of a pipeline: what a whole replica comes to, computed by whoever wants to know.
pub struct Replica {
    stages: Vec<StageAgent>,
}

impl Replica {
    /// A replica before its first step, its parameters drawn from `seed`.
    pub fn new(
        settings: &Settings,
        definition: &NetworkDefinition,
        profile: Profile,
        seed: u64,
    ) -> Result<Self, PipelineError> {
        settings.schedule.check().map_err(PipelineError::Settings)?;
        let cut = Stage::cut(definition, profile, settings.schedule.stages as usize);
        let cut = cut.map_err(|error| PipelineError::Settings(error.to_string()))?;
        let agent = |(stage, mut model): (u32, Stage)| {
            model.initialise(seed);
            StageAgent::new(settings.clone(), stage, model)
        };
        Ok(Self { stages: (0..).zip(cut).map(agent).collect::<Result<_, _>>()? })
    }

    /// Runs to the end; every pass of every stage. `batch` gives a micro-batch, `watch` sees what comes of each pass.
    pub fn run<'a>(
        &mut self,
        batch: impl Fn(u64) -> Batch<'a>,
        mut watch: impl FnMut(&Done),
    ) -> Result<Vec<Pass>, PipelineError> {
        let mut passes = Vec::new();
        while self.stages.iter().any(|stage| !stage.is_finished()) {
            for at in 0..self.stages.len() {
                while let Some(operation) = self.stages[at].ready() {
                    let mut done = self.stages[at].work(batch(operation.micro_batch()))?;
                    watch(&done);
                    passes.extend(done.pass.take());
                    self.deliver(done.messages);
                    if let Some(checkpoint) = done.checkpoint {
                        let said = self.stages[at].saved(checkpoint.position);
                        self.deliver(said);
                    }
                }
            }
        }
        Ok(passes)
    }

    /// Its stages, with their present values.
    pub fn stages(&self) -> &[StageAgent] {
        &self.stages
    }

    /// Its stages, to change them.
    pub fn stages_mut(&mut self) -> &mut [StageAgent] {
        &mut self.stages
    }

    /// Every message at once, so that none is ever early, and what a status is answered with is a duplicate.
    fn deliver(&mut self, messages: Vec<Outgoing>) {
        for Outgoing { to, message } in messages {
            let answer = self.stages[to as usize].receive(message);
            let again = answer.expect("neighbours of one schedule are never too early");
            for Outgoing { to, message } in again {
                let answer = self.stages[to as usize].receive(message);
                answer.expect("what is sent again is what was lacking");
            }
        }
    }
}
