//! Operators checked without being computed: honest steps never fail, planted errors are found as often as is stated.

mod common;

use std::collections::BTreeSet;

use common::{Setting, settings};
use zoo_content::Digest;
use zoo_dispute::operator::{Operator, Product};
use zoo_dispute::program::Tensor;
use zoo_dispute::validate::{Budget, Check, Report, Seed, ValidateError, validate};
use zoo_dispute::{Blobs, Knowledge, Program, Replay, Trace, step_digest};
use zoo_kernels::{Profile, random};
use zoo_training::{Dataset, Share, Trainer, WindowTask, preset};

const DRAWN: Budget = Budget { rounds: 8, spots: 16, whole: false };
const WHOLE: Budget = Budget { whole: true, ..DRAWN };

fn seed(number: u64) -> Seed {
    Seed::drawn(&Digest::of(b"what was claimed"), &Digest::of(&number.to_le_bytes()))
}

fn checked(claimed: &Trace, number: u64, budget: Budget) -> Report {
    validate(claimed, &Blobs::default(), &seed(number), budget).expect("it can be checked")
}

#[track_caller]
fn assert_honest(report: &Report, what: &str) {
    let failed = |check: &&Check| check.wrong.is_some() || check.suspicious > 0;
    assert_eq!(report.checks.iter().find(failed), None, "{what}");
}

#[test]
fn honest_steps_of_every_family_and_profile_never_fail() {
    for Setting { name, mut replay, .. } in settings() {
        let trace = replay.trace(1).expect("it is traced");
        for (number, budget) in [
            (1, DRAWN),
            (2, WHOLE),
            (3, Budget { rounds: 64, spots: 0, whole: false }),
            (4, Budget { rounds: 1, spots: 300, whole: false }),
        ] {
            let drawn = Seed::drawn(&step_digest(&trace.groups), &Digest::of(&[number]));
            let report = validate(&trace, &replay.blobs(), &drawn, budget).expect("it can be checked");
            assert_honest(&report, &format!("{name}, {budget:?}"));
            // More rounds than that cost more than such small products.
            let is_tested = report.checks.iter().any(|check| check.rounds > 0);
            assert_eq!(is_tested, budget.rounds <= 8, "{name}, {budget:?}");
            assert_eq!(report.unsettled().count(), 0);
        }
    }
}

#[test]
fn honest_steps_of_presets_never_fail_and_cost_less_than_to_compute_them() {
    for name in ["qwen3-tiny", "qwen3-1m", "llama-1m", "gpt2-1m", "bench-s", "nanogpt-shakespeare-char-cpu"] {
        for profile in Profile::ALL {
            let (trace, data) = step(name, profile, 2);
            let blobs = Blobs(vec![(data.digest(), data.blob().bytes())]);
            for number in 0..2 {
                let report = validate(&trace, &blobs, &seed(number), DRAWN).expect("it can be checked");
                assert_honest(&report, &format!("{name} {profile}"));
                assert!(report.spent() < report.again(), "{} of {}", report.spent(), report.again());
            }
        }
    }
}

/// A preset's second step of three, and the data.
fn step(name: &str, profile: Profile, sequences: u32) -> (Trace, Dataset) {
    let mut spec = preset::by_name(name).expect("a preset").spec;
    spec.profile = profile;
    let vocab = spec.model.vocab_size as u32;
    let tokens: Vec<u32> = (0..2000u32).map(|at| at * at % 251 % vocab).collect();
    let data = Dataset::encode(vocab, &tokens, 2000).expect("it is data");
    let base = Trainer::new(spec.clone(), &data).expect("they fit together").checkpoint();
    let share = Share { first_sequence: 0, sequences_per_step: sequences, inner_steps: 3 };
    let window = WindowTask::first(&spec, &data, &base, share);
    let trace = Replay::new(window).expect("they fit together").trace(1).expect("it is traced");
    (trace, data)
}

/// One of the three products of a linear layer.
#[derive(Clone, Copy, Debug)]
enum Form {
    Forward { onto: bool },
    BackwardInput { onto: bool },
    BackwardWeight,
}

const FORMS: [Form; 5] = [
    Form::Forward { onto: false },
    Form::Forward { onto: true },
    Form::BackwardInput { onto: false },
    Form::BackwardInput { onto: true },
    Form::BackwardWeight,
];

/// A program of one product, and what it comes to for these numbers.
fn product(
    form: Form,
    profile: Profile,
    [rows, inputs, outputs]: [usize; 3],
    number: impl Fn(u64, u64) -> f32,
) -> Trace {
    let (product, shapes, onto) = match form {
        Form::Forward { onto } => {
            let product = Product::forward(profile, rows, inputs, outputs, onto);
            (product, [[rows, inputs], [outputs, inputs], [rows, outputs]], onto)
        }
        Form::BackwardInput { onto } => {
            let product = Product::backward_input(profile, rows, inputs, outputs, onto);
            (product, [[rows, outputs], [outputs, inputs], [rows, inputs]], onto)
        }
        Form::BackwardWeight => {
            let product = Product::backward_weight(profile, rows, inputs, outputs);
            (product, [[rows, outputs], [rows, inputs], [outputs, inputs]], false)
        }
    };
    let tensor = |shape: [usize; 2], operator, inputs: Vec<usize>| Tensor {
        name: String::new(),
        shape: shape.to_vec(),
        operator,
        inputs,
    };
    let mut tensors =
        vec![tensor(shapes[0], Operator::Before, vec![]), tensor(shapes[1], Operator::Before, vec![])];
    if onto {
        tensors.push(tensor(shapes[2], Operator::Before, vec![]));
    }
    let mut values: Vec<Vec<f32>> = tensors
        .iter()
        .enumerate()
        .map(|(at, tensor)| (0..tensor.len() as u64).map(|index| number(at as u64, index)).collect())
        .collect();
    let operands: Vec<&[f32]> = values.iter().map(|values| &values[..]).collect();
    let output = product.compute(&operands, shapes[2].iter().product());
    tensors.push(tensor(shapes[2], Operator::Product(product), (0..values.len()).collect()));
    values.push(output);
    let program =
        Program { tensors, groups: Vec::new(), before: 0..0, after: 0..0, claims: Vec::new(), is_cut: false };
    Trace { program, tensors: values, roots: Vec::new(), groups: Vec::new() }
}

fn ordinary(tensor: u64, index: u64) -> f32 {
    random::normal(tensor, 0, index) as f32
}

/// The claimed output of [`product`].
fn output(trace: &mut Trace) -> &mut Vec<f32> {
    trace.tensors.last_mut().expect("it has an output")
}

#[test]
fn honest_products_are_not_even_suspicious_whatever_they_are_made_of() {
    type Number = fn(u64, u64) -> f32;
    let kinds: [(&str, Number); 7] = [
        ("ordinary", ordinary),
        // All roundings go one way.
        ("equal", |_, _| 1.1),
        ("positive", |tensor, index| ordinary(tensor, index).abs() + 0.1),
        // Every second term takes back the one before it, up to a little.
        ("cancelling", |tensor, index| {
            let size = 1e4 + ordinary(tensor, index);
            if tensor == 0 && index % 2 == 1 { -size } else { size }
        }),
        ("of all sizes", |tensor, index| {
            let exponent = random::bits(tensor, 1, index) % 60;
            ordinary(tensor, index) * (exponent as f32 - 30.0).exp2()
        }),
        // Products underflow, or are subnormal, or are flushed.
        ("tiny", |tensor, index| {
            let exponent = random::bits(tensor, 1, index) % 80;
            ordinary(tensor, index) * (-30.0 - exponent as f32).exp2()
        }),
        ("subnormal", |tensor, index| ordinary(tensor, index) * 1e-39),
    ];
    for profile in Profile::ALL {
        for form in FORMS {
            for shape in [[70, 300, 90], [64, 40, 520], [300, 33, 31]] {
                for (kind, number) in kinds {
                    let trace = product(form, profile, shape, number);
                    for number in 0..4 {
                        let report = checked(&trace, number, Budget { rounds: 8, spots: 4, whole: false });
                        assert_honest(&report, &format!("{profile} {form:?} {shape:?} {kind}"));
                        assert_eq!(report.checks[0].rounds, 8, "{shape:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_computed_again_and_accuses_nobody() {
    let number = |tensor, index| {
        if (tensor, index % 300) == (0, 7) { f32::MAX } else { 4.0 * ordinary(tensor, index) }
    };
    for profile in Profile::ALL {
        let trace = product(Form::Forward { onto: false }, profile, [16, 300, 90], number);
        assert!(trace.tensors[2].iter().any(|value| !value.is_finite()));
        let report = checked(&trace, 1, DRAWN);
        let check = &report.checks[0];
        assert_eq!((check.wrong, check.suspicious, check.rows_again), (None, 16, 16), "{profile}");
        assert!(!check.is_unsettled());
        // More rows than are computed again.
        let trace = product(Form::Forward { onto: false }, profile, [40, 300, 90], number);
        let check = &checked(&trace, 1, DRAWN).checks[0];
        assert_eq!((check.wrong, check.suspicious), (None, 40), "{profile}");
        assert!(check.is_unsettled());
    }
}

/// Whether so many of `trials` are within what 99.9 % of all binomials with this probability are.
#[track_caller]
fn assert_binomial(found: u32, trials: u32, probability: f64, what: &str) {
    let (found, trials) = (f64::from(found), f64::from(trials));
    let deviation = (trials * probability * (1.0 - probability)).sqrt();
    let expected = trials * probability;
    assert!(
        (found - expected).abs() <= 3.3 * deviation + 1.0,
        "{what}: {found} of {trials}, not {expected:.0}"
    );
}

fn is_missed(trace: &Trace, number: u64, budget: Budget) -> bool {
    checked(trace, number, budget).wrong().next().is_none()
}

#[test]
fn two_errors_that_half_of_all_vectors_take_for_none_are_missed_as_often_as_is_stated() {
    const SEEDS: u32 = 2000;
    for profile in Profile::ALL {
        for form in FORMS {
            let mut trace = product(form, profile, [40, 60, 50], ordinary);
            let limit = checked(&trace, 0, DRAWN).checks[0].limit.expect("it was tested").error as f32;
            let columns = trace.program.tensors.last().expect("the product").shape[1];
            let wrong = output(&mut trace);
            wrong[3 * columns + 5] += 2.5 * limit;
            wrong[3 * columns + 9] -= 2.5 * limit;
            for rounds in [1, 3] {
                let budget = Budget { rounds, spots: 0, whole: false };
                let missed =
                    (0..u64::from(SEEDS)).filter(|&number| is_missed(&trace, number, budget)).count();
                let stated = checked(&trace, 0, budget).checks[0].missed(0.0, 2.5 * f64::from(limit));
                assert_eq!(stated, f64::from(rounds).exp2().recip());
                assert_binomial(
                    missed as u32,
                    SEEDS,
                    stated,
                    &format!("{profile} {form:?}, {rounds} rounds"),
                );
            }
        }
    }
}

#[test]
fn one_error_beyond_two_limits_is_always_found_and_one_ulp_only_by_a_spot() {
    for profile in Profile::ALL {
        for form in FORMS {
            let mut trace = product(form, profile, [40, 60, 50], ordinary);
            let limit = checked(&trace, 0, DRAWN).checks[0].limit.expect("it was tested").error as f32;
            let honest = output(&mut trace)[77];
            let budget = Budget { rounds: 1, spots: 0, whole: false };
            output(&mut trace)[77] = honest + 2.1 * limit;
            for number in 0..200 {
                let report = checked(&trace, number, budget);
                let (_, wrong) = report.wrong().next().expect("it is found");
                assert_eq!((wrong.element, wrong.computed), (77, honest.to_bits()));
            }
            output(&mut trace)[77] = honest.next_up();
            assert!((0..200).all(|number| is_missed(&trace, number, budget)), "{profile} {form:?}");
        }
    }
}

#[test]
fn many_errors_of_one_ulp_are_missed_by_spots_as_often_as_is_stated() {
    const SEEDS: u32 = 2000;
    let mut product = product(Form::Forward { onto: false }, Profile::F32Exact, [40, 60, 50], ordinary);
    output(&mut product).iter_mut().step_by(8).for_each(|value| *value = value.next_up());
    for spots in [1, 8] {
        let budget = Budget { rounds: 8, spots, whole: false };
        let missed = (0..u64::from(SEEDS)).filter(|&number| is_missed(&product, number, budget)).count();
        let stated = checked(&product, 0, budget).checks[0].missed(1.0 / 8.0, 1e-6);
        assert_eq!(stated, (7.0f64 / 8.0).powi(spots as i32));
        assert_binomial(missed as u32, SEEDS, stated, &format!("{spots} spots"));
    }
}

/// What somebody might do to save work, or to do harm.
#[test]
fn products_that_were_not_computed_are_found_by_every_seed() {
    let [rows, inputs, outputs] = [64, 768, 96];
    for profile in Profile::ALL {
        let honest = || product(Form::Forward { onto: false }, profile, [rows, inputs, outputs], ordinary);
        let shorter =
            product(Form::Forward { onto: false }, profile, [rows, inputs, outputs], |tensor, index| {
                // The last of three chunks is left out.
                if tensor == 0 && index % inputs as u64 >= 512 { 0.0 } else { ordinary(tensor, index) }
            });
        type Change<'a> = Box<dyn Fn(&mut Vec<f32>) + 'a>;
        let changes: [(&str, Change); 6] = [
            ("zeroed", Box::new(|values| values.fill(0.0))),
            ("scaled", Box::new(|values| values.iter_mut().for_each(|value| *value *= 1.001))),
            ("truncated", Box::new(|values| values.clone_from(&shorter.tensors[2]))),
            ("one row of another", Box::new(|values| values.copy_within(..outputs, 7 * outputs))),
            (
                "negated row",
                Box::new(|values| values[..outputs].iter_mut().for_each(|value| *value = -*value)),
            ),
            (
                "in bf16",
                Box::new(|values| {
                    values.iter_mut().for_each(|value| *value = zoo_kernels::bf16::Bf16::of(*value).to_f32());
                }),
            ),
        ];
        for (what, change) in changes {
            let mut trace = honest();
            change(output(&mut trace));
            for number in 0..100 {
                assert!(!is_missed(&trace, number, DRAWN), "{profile}: {what} is missed by seed {number}");
            }
        }
    }
}

#[test]
fn a_wrong_tensor_is_found_where_it_is_and_nothing_after_it_is_blamed() {
    for Setting { name, replay, .. } in settings().into_iter().step_by(2) {
        let honest = replay.clone().trace(1).expect("it is traced");
        let (_, state) = replay.before(1).expect("it trains");
        let blobs = replay.blobs();
        for at in (0..honest.tensors.len()).step_by(7) {
            let tensor = &honest.program.tensors[at];
            if matches!(tensor.operator, Operator::Before | Operator::Tokens(_) | Operator::Stored(_)) {
                continue;
            }
            // All that follows follows from what is wrong, as a maker would do it who does not want to be found.
            let trace = Trace::of((replay.task(), 1), &blobs, state.clone(), |place, values| {
                if place == at {
                    let element = values.len() / 2;
                    values[element] = -1.5 * values[element] - 1.0;
                }
            })
            .expect("it is traced");
            let report = validate(&trace, &blobs, &seed(1), WHOLE).expect("it can be checked");
            let found: Vec<(usize, usize)> =
                report.wrong().map(|(check, wrong)| (check.tensor, wrong.element)).collect();
            assert_eq!(found, [(at, tensor.len() / 2)], "{name}: {} {}", tensor.name, tensor.operator.name());
        }
    }
}

#[test]
fn one_ulp_in_any_operator_that_is_no_product_is_found_in_whole() {
    let Setting { replay, .. } = settings().swap_remove(0);
    let honest = replay.clone().trace(1).expect("it is traced");
    let blobs = replay.blobs();
    for at in 0..honest.tensors.len() {
        let operator = &honest.program.tensors[at].operator;
        if matches!(operator, Operator::Before | Operator::Product(_) | Operator::OverQueries(_)) {
            continue;
        }
        let mut trace = honest.clone();
        let element = trace.tensors[at].len() - 1;
        let value = trace.tensors[at][element];
        trace.tensors[at][element] = f32::from_bits(value.to_bits() ^ 1);
        let report = validate(&trace, &blobs, &seed(1), WHOLE).expect("it can be checked");
        let first = report.wrong().next().map(|(check, wrong)| (check.tensor, wrong.element));
        assert_eq!(first, Some((at, element)), "{}", operator.name());
    }
}

#[test]
fn an_error_beyond_two_limits_is_found_in_every_product_of_a_step() {
    for profile in Profile::ALL {
        let mut trace = step("qwen3-1m", profile, 1).0;
        let operators: Vec<Operator> =
            trace.program.tensors.iter().map(|tensor| tensor.operator.clone()).collect();
        trace.program.tensors.iter_mut().for_each(|tensor| tensor.operator = Operator::Before);
        let mut found = BTreeSet::new();
        for (at, operator) in operators.into_iter().enumerate() {
            let vnode = &trace.program.groups[trace.program.group_of(at)].vnode;
            let is_repeated = vnode.starts_with("block.") && !vnode.starts_with("block.0");
            if is_repeated || !matches!(operator, Operator::Product(_) | Operator::OverQueries(_)) {
                continue;
            }
            trace.program.tensors[at].operator = operator;
            let budget = Budget { rounds: 1, spots: 0, whole: false };
            let limit = checked(&trace, 1, budget).checks[0].limit.expect("it was tested").error as f32;
            let last = trace.tensors[at].len() - 1;
            let honest = trace.tensors[at][last];
            trace.tensors[at][last] = honest + 2.1 * limit;
            let name = trace.program.tensors[at].name.clone();
            for number in 0..3 {
                let check = &checked(&trace, number, budget).checks[0];
                let wrong = check.wrong.expect("it is found");
                assert_eq!((wrong.element, wrong.computed), (last, honest.to_bits()), "{name}, {profile}");
            }
            trace.tensors[at][last] = honest;
            trace.program.tensors[at].operator = Operator::Before;
            found.insert(name);
        }
        for name in [
            "scores",
            "weighted values",
            "gradient of weights",
            "gradient of queries",
            "gradient of keys",
            "logits",
        ] {
            assert!(found.contains(name), "{name} is not among {found:?}");
        }
    }
}

#[test]
fn right_of_a_diagonal_nothing_but_zero_passes() {
    let Setting { mut replay, .. } = settings().swap_remove(0);
    let mut trace = replay.trace(1).expect("it is traced");
    let is_given = |operator: &Operator| matches!(operator, Operator::Tokens(_) | Operator::Stored(_));
    let tensors = trace.program.tensors.iter_mut().filter(|tensor| is_given(&tensor.operator));
    tensors.for_each(|tensor| tensor.operator = Operator::Before);
    let scores =
        trace.program.tensors.iter().position(|tensor| tensor.name == "scores").expect("there are some");
    for value in [1e-40, -0.0, f32::NAN] {
        let mut trace = trace.clone();
        trace.tensors[scores][5] = value;
        let report = checked(&trace, 1, Budget { rounds: 1, spots: 0, whole: false });
        let wrong = report.wrong().find(|(check, _)| check.tensor == scores).expect("it is found").1;
        assert_eq!((wrong.element, wrong.computed), (5, 0));
    }
}

#[test]
fn the_same_seed_finds_the_same_on_every_instruction_set() {
    let mut trace =
        product(Form::BackwardInput { onto: true }, Profile::Bf16Exact, [100, 130, 140], ordinary);
    output(&mut trace)[1234] *= 1.5;
    let report = checked(&trace, 5, DRAWN);
    let active = zoo_kernels::isa::active();
    for isa in zoo_kernels::isa::available() {
        zoo_kernels::isa::force(isa).expect("it is available");
        assert_eq!(checked(&trace, 5, DRAWN), report, "{isa}");
    }
    zoo_kernels::isa::force(active).expect("it was active");
}

#[test]
fn what_cannot_be_checked_is_refused() {
    let trace = product(Form::BackwardWeight, Profile::F32Exact, [40, 60, 50], ordinary);
    let refused = |trace: &Trace, budget| {
        validate(trace, &Blobs::default(), &seed(1), budget).expect_err("it is refused")
    };
    for (rounds, spots) in [(0, 1), (65, 1), (1, (1 << 20) + 1)] {
        let error = refused(&trace, Budget { rounds, spots, whole: false });
        assert!(matches!(error, ValidateError::Budget(..)), "{error}");
    }
    let mut shorter = trace.clone();
    shorter.tensors[1].pop();
    assert!(matches!(refused(&shorter, DRAWN), ValidateError::Shape(_)));
    shorter.tensors.pop();
    assert!(matches!(refused(&shorter, DRAWN), ValidateError::Shape(_)));
    let Setting { mut replay, .. } = settings().swap_remove(0);
    let trace = replay.trace(0).expect("it is traced");
    assert_eq!(refused(&trace, DRAWN), ValidateError::Blob);
}
