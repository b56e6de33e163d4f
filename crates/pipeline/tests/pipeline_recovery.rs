//! A stage that dies goes on from its checkpoint and what its neighbours kept; nobody else restarts.

mod hosts;

use hosts::{Hosts, alone, definition, leaves, schedule, settings};
use zoo_model::{Profile, Stage};
use zoo_pipeline::{Correction, Format, Order, PipelineError, Replica, Schedule, StageAgent};

#[test]
fn a_host_may_die_after_any_pass() {
    let rate = Correction::Rate { anneal_steps: 3 };
    for (order, correction, format, hosts) in [
        (Order::Stream, rate, Format::F32, 4),
        (Order::Stream, Correction::LookAhead, Format::F32, 4),
        (Order::Stream, Correction::LookAhead, Format::Eight, 2),
        (Order::Flush, rate, Format::Bf16, 3),
    ] {
        let settings = settings(Schedule { correction, ..schedule(4, order) }, format);
        let expected = leaves(&alone(&settings));
        let (_, passes) = Hosts::new(&settings, hosts, 0).run(None);
        for after in 0..passes {
            let host = after as usize % hosts;
            let (found, worked) = Hosts::new(&settings, hosts, after).run(Some((after, host)));
            assert!(leaves(&found) == expected, "{order:?}, host {host} of {hosts} after {after} passes");
            let stages = if hosts == 2 { 3 } else { 2 };
            assert!(worked <= passes * (4 + stages) / 4, "only its own passes were done again");
        }
    }
}

#[test]
fn a_checkpoint_is_its_own_only_encoding_and_of_one_stage_of_one_run() {
    let settings = settings(schedule(3, Order::Stream), Format::Bf16);
    let mut replica =
        Replica::new(&settings, &definition(), Profile::F32Exact, hosts::SEED).expect("possible");
    let data = hosts::Data::of(&settings.schedule);
    let mut written = Vec::new();
    let watch = |done: &zoo_pipeline::Done| {
        let stage = done.pass.as_ref().map(|pass| pass.stage);
        written.extend(done.checkpoint.clone().filter(|_| stage == Some(0)));
    };
    replica.run(|at| data.batch(at), watch).expect("finite");
    let bytes = &written[0].bytes;
    let restore = |stage: u32, epoch: u64, bytes: &[u8]| {
        let mut settings = settings.clone();
        settings.epoch = epoch;
        let model = Stage::cut(&definition(), Profile::F32Exact, 3).expect("possible").remove(stage as usize);
        StageAgent::restore(settings, stage, model, bytes)
    };
    assert_eq!(restore(0, 5, bytes).expect("its own").position(), written[0].position);
    let refused = |result: Result<StageAgent, PipelineError>| {
        let error = result.err().expect("refused").to_string();
        assert!(error.contains("hint: "), "{error}");
    };
    refused(restore(1, 5, bytes));
    refused(restore(0, 6, bytes));
    refused(restore(0, 5, &bytes[..bytes.len() - 1]));
    refused(restore(0, 5, &[bytes.as_slice(), &[0]].concat()));
}
