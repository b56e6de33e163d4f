//! Schedules, rows and messages, each by itself.

use zoo_content::Digest;
use zoo_pipeline::{
    Correction, Direction, Feedback, Format, Message, Operation, Order, Position, Rows, RowsError, Schedule,
};

fn schedule(order: Order) -> Schedule {
    Schedule {
        stages: 4,
        micro_batches: 2,
        micro_batch_tokens: 1,
        steps: 5,
        ahead_per_stage: 1,
        order,
        correction: Correction::None,
        checkpoint_steps: 1,
    }
}

/// All of a stage's passes, and of each forward pass how many steps had ended before it.
fn run(schedule: &Schedule, stage: u32) -> (Vec<Operation>, Vec<u64>) {
    let (mut at, mut all, mut versions) = (Position::default(), Vec::new(), Vec::new());
    while let Some(operation) = schedule.next(stage, at) {
        match operation {
            Operation::Forward(_) => {
                versions.push(at.backwards / u64::from(schedule.micro_batches));
                at.forwards += 1;
            }
            Operation::Backward(_) => at.backwards += 1,
        }
        all.push(operation);
    }
    (all, versions)
}

#[test]
fn every_micro_batch_goes_forward_and_back_once_in_order() {
    for order in [Order::Flush, Order::Stream] {
        let schedule = schedule(order);
        for stage in 0..schedule.stages {
            let (all, _) = run(&schedule, stage);
            let forwards = all.iter().filter_map(|it| match it {
                Operation::Forward(at) => Some(*at),
                Operation::Backward(_) => None,
            });
            assert!(forwards.eq(0..schedule.total()));
            let backwards = all.iter().filter_map(|it| match it {
                Operation::Backward(at) => Some(*at),
                Operation::Forward(_) => None,
            });
            assert!(backwards.eq(0..schedule.total()));
        }
    }
}

#[test]
fn a_flush_has_one_version_a_step_and_a_stream_is_late_by_its_depth() {
    let flushed = run(&schedule(Order::Flush), 0).1;
    assert_eq!(flushed, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    let streamed = run(&schedule(Order::Stream), 0).1;
    assert_eq!(streamed, [0, 0, 0, 0, 0, 1, 1, 2, 2, 3]);
    assert_eq!(run(&schedule(Order::Stream), 3).1, flushed);
}

#[test]
fn a_late_stage_learns_more_slowly_at_first() {
    let correction = Correction::Rate { anneal_steps: 100 };
    let schedule = Schedule { correction, micro_batches: 1, ..schedule(Order::Stream) };
    assert_eq!(schedule.learning_rate(0, 0, 0.3), 0.3 / 3.0);
    assert_eq!(schedule.learning_rate(3, 0, 0.3), 0.3);
    assert_eq!(schedule.learning_rate(0, 100, 0.3), 0.3);
    assert!(schedule.learning_rate(0, 50, 0.3) > schedule.learning_rate(0, 49, 0.3));
}

#[test]
fn sizes_are_bounded() {
    assert_eq!(schedule(Order::Stream).check(), Ok(()));
    let refused = Schedule { stages: 0, ..schedule(Order::Stream) }.check();
    assert!(refused.is_err_and(|error| error.contains("hint: ")));
    assert!(Schedule { steps: u64::MAX, ..schedule(Order::Stream) }.check().is_err());
}

const WIDTH: usize = 24;

fn rows() -> Vec<f32> {
    let mut values: Vec<f32> = (0..5 * WIDTH).map(|at| (at as f32 * 0.37).sin() * at as f32).collect();
    values[WIDTH..2 * WIDTH].fill(0.0);
    values[2 * WIDTH..3 * WIDTH].fill(1e-43);
    values
}

#[test]
fn what_is_decoded_is_near_and_encodes_to_the_same_bytes() {
    for (format, error) in [(Format::F32, 0.0), (Format::Bf16, 1.0 / 256.0), (Format::Eight, 0.5 / 127.0)] {
        let values = rows();
        let bytes = format.encode(&values, WIDTH);
        let decoded = format.decode(&bytes, 5, WIDTH).expect("its own bytes");
        // A scale comes back but for its own rounding.
        if format != Format::Eight {
            assert_eq!(format.encode(&decoded, WIDTH), bytes, "{format:?}");
        }
        for (row, decoded) in values.chunks(WIDTH).zip(decoded.chunks(WIDTH)) {
            let greatest = row.iter().fold(0f32, |greatest, value| greatest.max(value.abs()));
            for (value, decoded) in row.iter().zip(decoded) {
                assert!((value - decoded).abs() <= 1.001 * error * greatest + 1e-36, "{format:?}");
            }
        }
    }
}

#[test]
fn what_is_left_unsaid_is_said_later() {
    let mut feedback = Feedback::default();
    let values: Vec<f32> = (0..WIDTH).map(|at| if at == 0 { 1.0 } else { 0.001 }).collect();
    let mut said = vec![0f64; WIDTH];
    for _ in 0..1000 {
        let bytes = Format::Eight.encode_with(&values, WIDTH, &mut feedback);
        let decoded = Format::Eight.decode(&bytes, 1, WIDTH).expect("its own bytes");
        said.iter_mut().zip(decoded).for_each(|(sum, value)| *sum += f64::from(value));
    }
    assert!(said[1..].iter().all(|sum| (sum - 1.0).abs() < 0.01), "{said:?}");
}

#[test]
fn other_bytes_are_refused() {
    for format in [Format::F32, Format::Bf16, Format::Eight] {
        let bytes = format.encode(&rows(), WIDTH);
        let short = format.decode(&bytes[1..], 5, WIDTH);
        assert!(matches!(short, Err(RowsError::Length { .. })));
        let mut sick = bytes.clone();
        let last = sick.len() - if format == Format::Eight { 1 + WIDTH } else { 1 };
        (sick[last], sick[last - 1]) = (0x7f, 0xff);
        assert_eq!(format.decode(&sick, 5, WIDTH), Err(RowsError::Encoding { row: 4 }), "{format:?}");
    }
    let mut scaled_zeros = Format::Eight.encode(&[0.0; WIDTH], WIDTH);
    scaled_zeros[3] = 0x3f;
    assert_eq!(Format::Eight.decode(&scaled_zeros, 1, WIDTH), Err(RowsError::Encoding { row: 0 }));
}

#[test]
fn a_message_has_one_encoding_and_a_bound() {
    let bytes = vec![7; 300];
    let rows = Message::Rows(Rows {
        epoch: u64::MAX,
        micro_batch: u64::MAX,
        direction: Direction::Backward,
        sender: u32::MAX,
        digest: Digest::of(&bytes),
        bytes,
    });
    let encoded = rows.to_bytes();
    assert_eq!(Message::from_bytes(&encoded, 300), Some(rows));
    assert_eq!(Message::from_bytes(&encoded, 100), None);
    assert_eq!(Message::from_bytes(&encoded[..encoded.len() - 1], 300), None);
    assert_eq!(Message::from_bytes(&[encoded, vec![0]].concat(), 300), None);
}
