//! Writing: many sequences at once, from pages, with the bits of a whole forward pass.

mod common;

use common::CONTEXT;
use zoo_model::{
    DecodePass, Decoder, DecoderStage, Likelihood, ModelConfig, Network, NetworkError, NetworkOptions,
    PagePool, PassPart, Positions, Profile, RowRequest, Sequence, StageOutput, Step, Wanted,
};

/// Positions of a page.
const PAGE: usize = 16;

/// A model, what training computes of some sequences, and the same model for writing.
struct Case {
    name: String,
    vocab_size: usize,
    sequences: Vec<Vec<u32>>,
    logits: Vec<Vec<f32>>,
    decoder: Decoder,
}

impl Case {
    fn new(name: &str, config: &ModelConfig, profile: Profile, count: usize) -> Self {
        let network: Network = common::build_in(profile, config, NetworkOptions::default());
        let (tokens, _) = common::batch(config, count, 5);
        let sequences: Vec<Vec<u32>> = tokens.chunks(CONTEXT).map(<[u32]>::to_vec).collect();
        let logits = sequences.iter().map(|it| network.logits(it).expect("finite")).collect();
        let digest = network.digest();
        let decoder = Decoder::new(network).expect("finite");
        assert_eq!(decoder.digest(), digest);
        Self { name: format!("{name} {profile}"), vocab_size: config.vocab_size, sequences, logits, decoder }
    }

    /// Checks the logits of some positions of one sequence.
    fn check(&self, what: &str, sequence: usize, first: usize, found: &[f32]) {
        let expected = &self.logits[sequence][first * self.vocab_size..][..found.len()];
        let same = found.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{} {what}: sequence {sequence} from {first}", self.name);
    }

    /// Continues one sequence and returns the logits of every new position.
    fn alone(&self, pool: &mut PagePool, sequence: &mut Sequence, tokens: &[u32]) -> Vec<f32> {
        let step = Step { sequence, tokens, positions: Positions::All };
        let logits = self.decoder.decode(pool, &mut [step]).expect("room enough");
        assert_eq!(logits.len(), tokens.len());
        (0..tokens.len()).flat_map(|at| logits.row(at).expect("finite").to_vec()).collect()
    }
}

fn cases(count: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, config) in common::configs() {
        cases.extend(Profile::ALL.map(|profile| Case::new(name, &config, profile, count)));
    }
    cases
}

#[test]
fn however_a_sequence_is_cut_its_logits_are_those_of_training() {
    for case in cases(1) {
        for cut in [1, 2, 5, 7, 16, 63, 64] {
            let mut pool = PagePool::new(&case.decoder, CONTEXT);
            let mut sequence = Sequence::default();
            for (tokens, first) in case.sequences[0].chunks(cut).zip((0..).step_by(cut)) {
                let found = case.alone(&mut pool, &mut sequence, tokens);
                case.check(&format!("cut {cut}"), 0, first, &found);
            }
        }
    }
}

#[test]
fn whatever_else_is_in_the_batch_the_logits_of_a_sequence_are_those_of_training() {
    for case in cases(16) {
        for size in 1..=16 {
            let mut pool = PagePool::new(&case.decoder, 16 * CONTEXT);
            let mut sequences: Vec<Sequence> = (0..size).map(|_| Sequence::default()).collect();
            // Sequence i is i tokens ahead; they start with pieces of different lengths, and end one by one.
            while sequences.iter().any(|sequence| sequence.positions() < CONTEXT) {
                let firsts: Vec<usize> = sequences.iter().map(Sequence::positions).collect();
                let mut steps = Vec::new();
                let mut asked = Vec::new();
                for (at, sequence) in sequences.iter_mut().enumerate() {
                    let first = firsts[at];
                    let count = if first == 0 { 1 + 3 * at } else { 1 + usize::from(at % 5 == 4) * 8 };
                    let tokens = &case.sequences[at][first..(first + count).min(CONTEXT)];
                    if tokens.is_empty() {
                        continue;
                    }
                    let positions = [Positions::Last, Positions::All, Positions::None][(first + at) % 3];
                    match positions {
                        Positions::None => {}
                        Positions::Last => asked.push((at, first + tokens.len() - 1)),
                        Positions::All => asked.extend((first..first + tokens.len()).map(|it| (at, it))),
                    }
                    steps.push(Step { sequence, tokens, positions });
                }
                let logits = case.decoder.decode(&mut pool, &mut steps).expect("room enough");
                assert_eq!(logits.len(), asked.len());
                for (row, (sequence, position)) in asked.into_iter().enumerate() {
                    case.check(
                        &format!("batch {size}"),
                        sequence,
                        position,
                        logits.row(row).expect("finite"),
                    );
                }
            }
        }
    }
}

#[test]
fn a_shared_start_is_not_computed_again_and_changes_no_bit() {
    for case in cases(2) {
        let mut pool = PagePool::new(&case.decoder, 4 * CONTEXT);
        let text = &case.sequences[0];
        let mut first = pool.table.open(text);
        assert_eq!(first.positions(), 0);
        case.alone(&mut pool, &mut first, &text[..40]);

        // While the first still writes: two full pages of 40 tokens.
        let mut second = pool.table.open(text);
        assert_eq!(second.positions(), 2 * PAGE);
        let found = case.alone(&mut pool, &mut second, &text[2 * PAGE..]);
        case.check("beside", 0, 2 * PAGE, &found);
        let found = case.alone(&mut pool, &mut first, &text[40..]);
        case.check("the first goes on", 0, 40, &found);
        let in_use = pool.table.pages() - pool.table.available();
        pool.table.release(&mut first);
        pool.table.release(&mut second);
        assert!(in_use < 8 && pool.table.available() == pool.table.pages() && pool.table.reusable() >= 4);

        // After both, and all but the last page: somebody wants its last logits.
        let mut third = pool.table.open(text);
        assert_eq!(third.positions(), CONTEXT - PAGE);
        let found = case.alone(&mut pool, &mut third, &text[CONTEXT - PAGE..]);
        case.check("after", 0, CONTEXT - PAGE, &found);

        // Another end after the same start.
        let mut other = text[..33].to_vec();
        other.extend(&case.sequences[1][..20]);
        let mut fourth = pool.table.open(&other);
        assert_eq!(fourth.positions(), 2 * PAGE);
        let found = case.alone(&mut pool, &mut fourth, &other[2 * PAGE..]);
        let mut fresh = Sequence::default();
        let expected = case.alone(&mut pool, &mut fresh, &other);
        let same = found.iter().eq(&expected[2 * PAGE * case.vocab_size..]);
        assert!(same, "{}: another end", case.name);
        // The same tokens elsewhere in a text are not a start.
        assert_eq!(pool.table.open(&text[PAGE..]).positions(), 0);
    }
}

#[test]
fn the_least_recently_used_page_goes_first_and_ends_go_before_starts() {
    let (name, config) = common::configs().remove(0);
    let case = Case::new(name, &config, Profile::F32Exact, 3);
    let mut pool = PagePool::new(&case.decoder, 5 * PAGE);
    let write = |pool: &mut PagePool, text: usize, count: usize| {
        let mut sequence = pool.table.open(&case.sequences[text]);
        let reused = sequence.positions();
        case.alone(pool, &mut sequence, &case.sequences[text][reused..count]);
        pool.table.release(&mut sequence);
        reused
    };
    assert_eq!(write(&mut pool, 0, 3 * PAGE), 0);
    assert_eq!(write(&mut pool, 1, 2 * PAGE), 0);
    // A third text takes two pages: the last two of the oldest.
    assert_eq!(write(&mut pool, 2, 2 * PAGE), 0);
    assert_eq!(write(&mut pool, 1, 2 * PAGE + 1), 2 * PAGE);
    let mut sequence = pool.table.open(&case.sequences[0]);
    assert_eq!(sequence.positions(), 0, "its last page was the first to go, its first page the next");
    pool.table.release(&mut sequence);
    pool.table.forget();
    assert_eq!((pool.table.available(), pool.table.reusable()), (5, 0));
    assert_eq!(write(&mut pool, 1, PAGE + 1), 0);
}

#[test]
fn a_pass_that_cannot_be_made_changes_nothing() {
    let (name, config) = common::configs().remove(0);
    let case = Case::new(name, &config, Profile::F32Exact, 2);
    let mut pool = PagePool::new(&case.decoder, 3 * PAGE);
    let (mut a, mut b) = (Sequence::default(), Sequence::default());
    let tokens = [&case.sequences[0][..], &case.sequences[1][..]].concat();
    case.alone(&mut pool, &mut a, &tokens[..20]);
    let mut refused = |a_tokens: &[u32], b_tokens: &[u32]| {
        let positions = Positions::Last;
        let steps = &mut [
            Step { sequence: &mut a, tokens: a_tokens, positions },
            Step { sequence: &mut b, tokens: b_tokens, positions },
        ];
        let error = case.decoder.decode(&mut pool, steps).map(drop).expect_err("a refusal");
        assert_eq!((a.positions(), b.positions(), pool.table.available()), (20, 0, 1));
        error
    };
    assert_eq!(refused(&tokens[20..30], &tokens[..17]), NetworkError::Pages { needed: 2, available: 1 });
    assert_eq!(refused(&tokens[20..65], &tokens[..1]), NetworkError::Context { positions: 65, context: 64 });
    assert_eq!(refused(&tokens[20..21], &[]), NetworkError::Empty);
    assert_eq!(refused(&tokens[20..21], &[70]), NetworkError::Token { token: 70, vocab_size: 70 });
    let found = case.alone(&mut pool, &mut a, &tokens[20..40]);
    case.check("after refusals", 0, 20, &found);
    assert!(case.decoder.decode(&mut pool, &mut []).is_err());
}

/// A network cut into stages, with pages for one sequence.
fn stages(network: &Network, count: usize) -> Vec<DecoderStage> {
    let stage = |at: usize| {
        let definition = network.definition();
        let mut coming = DecoderStage::one(definition, network.profile(), count, at).expect("so many stages");
        for id in coming.missing().to_vec() {
            let vnode = network.vnodes().iter().find(|vnode| vnode.id() == id).expect("one of the network's");
            coming.load(&id, &vnode.state_bytes()).expect("its own state");
        }
        coming.complete().expect("all of it")
    };
    (0..count).map(stage).collect()
}

#[test]
fn through_any_number_of_stages_a_token_is_as_likely_as_in_training() {
    for (name, config) in common::configs() {
        for profile in Profile::ALL {
            let network: Network = common::build_in(profile, &config, NetworkOptions::default());
            let (tokens, _) = common::batch(&config, 1, 5);
            let expected = network.logits(&tokens).expect("finite");
            for count in 1..=4 {
                let stages = stages(&network, count);
                assert!(stages.iter().rev().skip(1).all(|stage| stage.leaving_width().is_some()));
                let mut pages: Vec<_> = stages.iter().map(|stage| stage.pages(CONTEXT / PAGE + 3)).collect();
                for (piece, first) in tokens.chunks(7).zip((0..).step_by(7)) {
                    let end = first + piece.len();
                    let request = |row: usize| RowRequest {
                        row: row as u32,
                        token: Wanted::Given(tokens[(first + row + 1) % CONTEXT]),
                        likelihoods: Some(1),
                    };
                    let pass = DecodePass {
                        tokens: piece.to_vec(),
                        parts: vec![PassPart {
                            rows: piece.len() as u32,
                            first: first as u32,
                            // Any pages, in any order.
                            pages: (0..end.div_ceil(PAGE) as u32).map(|page| page ^ 1).collect(),
                        }],
                        requests: (0..piece.len()).step_by(2).map(request).collect(),
                    };
                    let mut rows = Vec::new();
                    let mut reports = Vec::new();
                    for (stage, pages) in stages.iter().zip(&mut pages) {
                        match stage.run(pages, &pass, &rows).expect("a pass") {
                            StageOutput::Rows(next) => rows = next,
                            StageOutput::Reports(all) => reports = all,
                        }
                    }
                    assert_eq!(reports.len(), pass.requests.len());
                    for (report, request) in reports.iter().zip(&pass.requests) {
                        let at = (first + request.row as usize) * config.vocab_size;
                        let likelihood = Likelihood::new(&expected[at..][..config.vocab_size]);
                        let report = report.as_ref().expect("finite");
                        let log_probability = likelihood.log_probability(report.token);
                        assert_eq!(report.log_probability, Some(log_probability), "{name} {profile} {count}");
                        assert_eq!(report.top, likelihood.top(1));
                    }
                }
            }
        }
    }
}

#[test]
fn a_pass_that_is_none_is_refused_and_a_stage_takes_no_other_states() {
    let (_, config) = common::configs().into_iter().next().expect("a configuration");
    let network: Network = common::build_in(Profile::F32Exact, &config, NetworkOptions::default());
    let stages = stages(&network, 2);
    let mut pages = stages[0].pages(3);
    let part = |rows, first, pages: &[u32]| PassPart { rows, first, pages: pages.to_vec() };
    let request = |row| RowRequest { row, token: Wanted::Given(0), likelihoods: None };
    let good = DecodePass {
        tokens: vec![1, 2, 3],
        parts: vec![part(1, 16, &[2, 0]), part(2, 0, &[1])],
        requests: vec![request(0), request(2)],
    };
    stages[0].run(&mut pages, &good, &[]).expect("a pass");
    let wrong = [
        DecodePass::default(),
        DecodePass { tokens: vec![1, 2], ..good.clone() },
        DecodePass { tokens: vec![1, 2, u32::MAX], ..good.clone() },
        DecodePass { requests: vec![request(2), request(0)], ..good.clone() },
        DecodePass { requests: vec![request(3)], ..good.clone() },
        DecodePass { parts: vec![part(1, 16, &[2]), part(2, 0, &[1])], ..good.clone() },
        DecodePass { parts: vec![part(1, 16, &[2, 3]), part(2, 0, &[1])], ..good.clone() },
        DecodePass { parts: vec![part(3, u32::MAX, &[1])], ..good.clone() },
        DecodePass { parts: vec![part(3, 0, &[1]), part(0, 0, &[])], ..good.clone() },
    ];
    for pass in wrong {
        assert!(stages[0].run(&mut pages, &pass, &[]).is_err(), "{pass:?}");
    }
    let width = stages[0].leaving_width().expect("it is not the last");
    let mut pages = stages[1].pages(3);
    assert!(stages[1].run(&mut pages, &good, &vec![0.0; 3 * width - 1]).is_err());

    let mut coming = DecoderStage::one(network.definition(), network.profile(), 2, 0).expect("two stages");
    let first = coming.missing()[0].clone();
    assert!(coming.load(&first, b"something else").is_err());
    assert!(coming.complete().is_none());
}
