//! What a text is does not depend on what happens around it.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use tokio::sync::mpsc::UnboundedReceiver;
use zoo_gateway::{Engine, EngineSettings, Event, Finish, TokenReport, Work};
use zoo_model::{
    DecodePass, Decoder, DecoderStage, Likelihood, PagePool, Pages, PassOutcome, Passes, Positions, Profile,
    Sampler, Sequence, StageOutput, Step, generate,
};

use crate::model;

fn work(number: usize, prompt_tokens: usize, tokens_max: usize) -> Work {
    let vocab = model::tokenizer().vocab_size();
    Work {
        prompt: (0..prompt_tokens).map(|at| ((number / 2 * 31 + at * 17) % vocab) as u32).collect(),
        tokens_max,
        sampler: Sampler { temperature: 1.2, top_k: 0, top_p: 0.95, seed: number as u64 },
        stops: Vec::new(),
        ignore_end: true,
        likelihoods: None,
        echo: false,
    }
}

/// What the same text is when nobody else is there.
fn alone(decoder: &Decoder, work: &Work) -> Vec<u32> {
    let pool = &mut PagePool::new(decoder, decoder.context());
    let go_on = &mut |_| ControlFlow::Continue(());
    generate(decoder, pool, &work.prompt, work.tokens_max, &work.sampler, go_on).expect("room enough")
}

/// Everything that comes, to the end.
fn collect(mut events: UnboundedReceiver<Event>) -> (Vec<TokenReport>, Vec<TokenReport>, String, Finish) {
    let (mut prompt, mut written, mut all) = (Vec::new(), Vec::new(), String::new());
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Prompt(more) => prompt.extend(more),
            Event::Token { report, text } => {
                written.push(report);
                all.push_str(&text);
            }
            Event::Done { finish, text } => return (prompt, written, all + &text, finish),
            Event::Failed(cause) => panic!("{cause}"),
        }
    }
    panic!("the engine went away");
}

fn tokens(reports: &[TokenReport]) -> Vec<u32> {
    reports.iter().map(|report| report.token).collect()
}

#[test]
fn texts_are_the_same_in_every_batch_and_in_a_cache_of_any_size() {
    for profile in Profile::ALL {
        let decoder = model::decoder(profile);
        // Pairs of texts have the same prompt; some prompts are longer than a page, some texts fill the context.
        let works: Vec<Work> = (0..24).map(|n| work(n, 1 + n * 3, 20 + n % 7)).collect();
        let expected: Vec<Vec<u32>> = works.iter().map(|work| alone(&decoder, work)).collect();
        for (positions, batch) in [(4096, 16), (model::CONTEXT, 16), (3 * model::CONTEXT, 5), (4096, 1)] {
            let (engine, _) = model::engine(profile, positions, batch);
            let texts: Vec<_> = works.iter().map(|work| engine.submit(work.clone()).expect("room")).collect();
            for (at, (events, expected)) in texts.into_iter().zip(&expected).enumerate() {
                let (_, written, text, finish) = collect(events);
                assert_eq!(&tokens(&written), expected, "text {at}, {positions} positions, batch {batch}");
                assert_eq!(text, model::tokenizer().decode(expected));
                assert_eq!(finish, Finish::Length);
            }
            let counters = engine.counters();
            assert_eq!(counters.finished.get(), 24);
            let is_small = positions == model::CONTEXT;
            assert!(
                !is_small || counters.preempted.get() > 0,
                "a small cache makes texts wait for one another"
            );
        }
    }
}

/// A network in stages, of which one is replaced now and then by a fresh one.
struct Shaky {
    stages: Vec<DecoderStage>,
    pages: Vec<Pages>,
    count: usize,
    waiting: VecDeque<DecodePass>,
    passes: u64,
}

impl Shaky {
    fn new(profile: Profile, stages: usize, positions: usize) -> Self {
        let network = model::network(profile);
        let stage = |at: usize| {
            let mut coming = DecoderStage::one(network.definition(), profile, stages, at).expect("so many");
            for vnode in network.vnodes() {
                coming.load(vnode.id(), &vnode.state_bytes()).expect("its own state");
            }
            coming.complete().expect("all of it")
        };
        let stages: Vec<DecoderStage> = (0..stages).map(stage).collect();
        let count = positions / 16;
        let pages = stages.iter().map(|stage| stage.pages(count)).collect();
        Self { stages, pages, count, waiting: VecDeque::new(), passes: 0 }
    }
}

impl Passes for Shaky {
    fn under_way_max(&self) -> usize {
        self.stages.len()
    }

    fn submit(&mut self, pass: DecodePass) {
        assert!(self.waiting.len() < self.stages.len(), "no more are under way than may be");
        self.waiting.push_back(pass);
    }

    fn wait(&mut self) -> PassOutcome {
        self.passes += 1;
        if self.passes.is_multiple_of(7) {
            let fresh = self.passes as usize % self.stages.len();
            self.pages[fresh] = self.stages[fresh].pages(self.count);
            self.waiting.clear();
            return PassOutcome::Lost;
        }
        let pass = self.waiting.pop_front().expect("a pass was handed over");
        let mut rows = Vec::new();
        for (stage, pages) in self.stages.iter().zip(&mut self.pages) {
            match stage.run(pages, &pass, &rows).expect("a pass") {
                StageOutput::Rows(next) => rows = next,
                StageOutput::Reports(reports) => return PassOutcome::Done(reports),
            }
        }
        unreachable!("the last stage has the head")
    }
}

#[test]
fn texts_are_the_same_through_stages_that_lose_what_they_kept() {
    for profile in Profile::ALL {
        let decoder = model::decoder(profile);
        let works: Vec<Work> = (0..40)
            .map(|n| Work { likelihoods: Some(2), echo: n % 5 == 0, ..work(n, 1 + n, 20 + n % 7) })
            .collect();
        let served = model::served(&decoder, None);
        for (stages, positions) in [(1, 4096), (2, 4096), (3, 3 * model::CONTEXT)] {
            let settings = EngineSettings { threads: 1, cache_positions: positions, batch_max: 36 };
            let passes = Box::new(Shaky::new(profile, stages, positions));
            let (engine, thread) = Engine::over(passes, served.clone(), settings).expect("threads");
            let texts: Vec<_> = works.iter().map(|work| engine.submit(work.clone()).expect("room")).collect();
            for (at, (events, work)) in texts.into_iter().zip(&works).enumerate() {
                let (prompt, written, ..) = collect(events);
                assert_eq!(tokens(&written), alone(&decoder, work), "text {at} through {stages} stages");
                assert_eq!(prompt.len(), if work.echo { work.prompt.len() } else { 0 });
            }
            assert!(engine.counters().lost.get() > 2, "pages were lost");
            assert_eq!(engine.counters().failed.get(), 0);
            drop(engine);
            thread.join().expect("it ends with its last text");
        }
    }
}

#[test]
fn a_second_text_with_the_same_start_finds_it_in_the_cache() {
    let (engine, _) = model::engine(Profile::F32Exact, 4096, 4);
    let (_, first, ..) = collect(engine.submit(work(0, 70, 10)).expect("room"));
    assert_eq!(engine.counters().cached_tokens.get(), 0);
    let (_, second, ..) = collect(engine.submit(work(0, 70, 10)).expect("room"));
    assert_eq!(engine.counters().cached_tokens.get(), 64);
    assert_eq!(first, second);
}

#[test]
fn likelihoods_are_those_of_the_logits_also_of_the_prompt_and_after_preemption() {
    let decoder = model::decoder(Profile::F32Exact);
    for positions in [4096, model::CONTEXT] {
        let (engine, _) = model::engine(Profile::F32Exact, positions, 8);
        let works: Vec<Work> =
            (0..8).map(|n| Work { likelihoods: Some(3), echo: n % 2 == 0, ..work(n, 20 + n, 30) }).collect();
        let texts: Vec<_> = works.iter().map(|work| engine.submit(work.clone()).expect("room")).collect();
        for (events, work) in texts.into_iter().zip(&works) {
            let (prompt, written, ..) = collect(events);
            let all = [work.prompt.clone(), tokens(&written)].concat();
            if work.echo {
                assert_eq!(tokens(&prompt), work.prompt);
                assert_eq!((prompt[0].log_probability, prompt[0].top.len()), (None, 0));
            } else {
                assert!(prompt.is_empty());
            }
            let (mut pool, mut sequence) = (PagePool::new(&decoder, 128), Sequence::default());
            let step = Step { sequence: &mut sequence, tokens: &all, positions: Positions::All };
            let logits = decoder.decode(&mut pool, &mut [step]).expect("room");
            let reports = prompt.iter().skip(1).chain(&written).rev().zip((0..all.len() - 1).rev());
            for (report, at) in reports {
                let likelihood = Likelihood::new(logits.row(at).expect("finite"));
                assert_eq!(report.log_probability, Some(likelihood.log_probability(all[at + 1])), "{at}");
                assert_eq!(report.top, likelihood.top(3));
            }
        }
    }
}

#[test]
fn nothing_to_write_is_done_at_once_or_after_the_prompt() {
    let (engine, _) = model::engine(Profile::F32Exact, 256, 4);
    let (prompt, written, text, finish) = collect(engine.submit(work(1, 5, 0)).expect("room"));
    assert_eq!((prompt.len(), written.len(), text.as_str(), finish), (0, 0, "", Finish::Length));
    let echo = Work { likelihoods: Some(0), echo: true, ..work(1, 50, 0) };
    let (prompt, written, _, finish) = collect(engine.submit(echo).expect("room"));
    assert_eq!((prompt.len(), written.len(), finish), (50, 0, Finish::Length));
}

#[test]
fn a_text_ends_at_its_stop_sequence() {
    let (engine, _) = model::engine(Profile::F32Exact, 256, 4);
    let (_, whole, text, _) = collect(engine.submit(work(3, 9, 60)).expect("room"));
    let middle: String = text.chars().skip(text.chars().count() / 2).take(3).collect();
    let stopped = Work { stops: vec!["never there".to_owned(), middle.clone()], ..work(3, 9, 60) };
    let (_, written, short, finish) = collect(engine.submit(stopped).expect("room"));
    assert_eq!(finish, Finish::Stop);
    assert_eq!(short, text[..text.find(&middle).expect("it is from there")]);
    assert_eq!(tokens(&written), tokens(&whole)[..written.len()]);
}

#[test]
fn a_text_that_nobody_waits_for_ends() {
    let (engine, _) = model::engine(Profile::F32Exact, 1024, 4);
    drop(engine.submit(work(0, 8, 100)).expect("room"));
    let mut kept = engine.submit(work(1, 8, 100)).expect("room");
    assert!(kept.blocking_recv().is_some());
    drop(kept);
    let (_, written, ..) = collect(engine.submit(work(2, 8, 50)).expect("room"));
    assert_eq!(written.len(), 50);
    let counters = engine.counters();
    // The second may have been done before its client went away.
    assert_eq!(counters.finished.get() + counters.cancelled.get(), 3);
    assert!(counters.cancelled.get() >= 1 && counters.written_tokens.get() < 250);
}

#[test]
fn a_queue_that_is_full_refuses() {
    let (engine, _) = model::engine(Profile::F32Exact, model::CONTEXT, 1);
    // Asking has to be faster than writing.
    let asked = work(0, 100, 28);
    let submit = |engine: &Engine| engine.submit(asked.clone());
    let texts: Vec<_> =
        std::iter::repeat_with(|| submit(&engine)).take(4 * zoo_gateway::limits::QUEUE_MAX).collect();
    let refused = texts.iter().filter(|text| text.is_err()).count();
    assert!(refused > 0, "more are refused than can wait");
    let error = texts.iter().find_map(|text| text.as_ref().err()).expect("one");
    assert!(error.to_string().contains("hint: try again"), "{error}");
}
