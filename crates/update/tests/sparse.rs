//! The sparse codec keeps what is largest, forgets nothing, and has one encoding for every update.

use proptest::prelude::*;
use zoo_update::{Aggregate, Codec, Header, Layout, Shape, Sparse, Update, UpdateError, sparse};

fn header(shapes: &[Shape]) -> Header {
    let layout = Layout::new(shapes.iter().enumerate().map(|(i, shape)| (format!("p{i}"), *shape))).unwrap();
    Header { round: 3, vnode: "block.1".into(), tokens: 8192, layout }
}

/// Numbers that look like a pseudo-gradient: small, of both signs, some much larger than others.
fn gradient(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next() * next() * next() * 0.01).collect()
}

const KEEPS: [u16; 5] = [1, 16, 64, 1000, 4096];

#[test]
fn what_is_kept_is_the_largest_of_every_chunk() {
    let header = header(&[Shape::matrix(128, 64), Shape::vector(100)]);
    let values = gradient(128 * 64 + 100, 1);
    let bytes = Sparse::default().encode(&header, &values, &mut Vec::new()).unwrap();
    let update = Sparse::default().decode(&bytes, &header).unwrap();
    let decoded = update.values();
    for (chunk, kept) in [(0..4096, 64), (4096..8192, 64), (8192..8256, 1), (8256..8292, 1)] {
        let mut by_size: Vec<usize> = chunk.clone().collect();
        by_size.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()).then(a.cmp(b)));
        let mut spoken = Vec::new();
        update.for_each(|index, _| spoken.extend(chunk.contains(&index).then_some(index)));
        by_size.truncate(kept);
        by_size.sort_unstable();
        assert_eq!(spoken, by_size);
        for index in spoken {
            assert_eq!(decoded[index].signum() as f32, values[index].signum(), "{index}");
        }
    }
}

#[test]
fn of_elements_that_are_as_large_the_first_are_kept() {
    for (values_of, keep) in [(2, 64), (5, 64), (5, 1000), (40, 16), (1, 64), (3, 4096)] {
        let header = header(&[Shape::matrix(64, 64), Shape::matrix(29, 67)]);
        let values: Vec<f32> = gradient(64 * 64 + 29 * 67, 7)
            .iter()
            .map(|value| (value * 100.0 * values_of as f32).round() / 64.0)
            .collect();
        let codec = Sparse { keep, ..Sparse::default() };
        let update =
            codec.decode(&codec.encode(&header, &values, &mut Vec::new()).unwrap(), &header).unwrap();
        let mut spoken = Vec::new();
        update.for_each(|index, _| spoken.push(index));
        // Chunks of 64 x 64, then of 29 x 1: one element of each column at least.
        let columns = (0..67).map(|column| (0..29).map(|row| 4096 + 67 * row + column).collect::<Vec<_>>());
        let mut expected: Vec<usize> = Vec::new();
        for mut chunk in std::iter::once((0..4096).collect::<Vec<_>>()).chain(columns) {
            let kept = (chunk.len() * usize::from(keep)).div_ceil(4096);
            chunk.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()).then(a.cmp(b)));
            chunk.truncate(kept);
            chunk.sort_unstable();
            expected.extend(chunk);
        }
        assert_eq!(spoken, expected, "{values_of} {keep}");
    }
}

#[test]
fn what_is_not_said_is_fed_back() {
    let header = header(&[Shape::matrix(64, 64)]);
    let codec = Sparse { keep: 64, decay: 0.5 };
    let values = gradient(4096, 2);
    let mut residual = Vec::new();
    let decoded = |bytes: &[u8]| codec.decode(bytes, &header).unwrap().values();
    let unit = (-24f32).exp2();

    let first = decoded(&codec.encode(&header, &values, &mut residual).unwrap());
    for i in 0..4096 {
        assert_eq!(residual[i], values[i] - first[i] as f32 * unit);
    }
    let before = residual.clone();
    let second = decoded(&codec.encode(&header, &values, &mut residual).unwrap());
    for i in 0..4096 {
        assert_eq!(residual[i], (values[i] + 0.5 * before[i]) - second[i] as f32 * unit);
    }
    assert_ne!(first, second, "what was left out is larger now");
}

#[test]
fn an_update_that_cannot_be_made_leaves_the_feedback_alone() {
    let header = header(&[Shape::vector(70)]);
    let mut residual = gradient(70, 3);
    let before = residual.clone();
    let mut values = gradient(70, 4);
    values[66] = f32::NAN;
    let error = Sparse::default().encode(&header, &values, &mut residual).unwrap_err();
    assert!(error.to_string().starts_with("element 66 of parameter p0 of block.1 is NaN"), "{error}");
    let error = Sparse::default().encode(&header, &values[1..], &mut residual).unwrap_err();
    assert_eq!(error, UpdateError::Elements { expected: 70, actual: 69 });
    assert_eq!(
        Sparse { keep: 0, decay: 0.9 }.encode(&header, &values, &mut residual),
        Err(UpdateError::Keep(0))
    );
    assert_eq!(residual, before);
}

#[test]
fn a_position_costs_little_more_than_its_information() {
    let shape = Shape::matrix(64 * 8, 64 * 32);
    let header = header(&[shape]);
    let values = gradient(shape.elements() as usize, 5);
    let chunks = shape.elements() as f64 / 4096.0;
    // log2 C(4096, keep) / keep
    for (keep, information) in [(16, 9.218), (64, 7.358), (256, 5.390)] {
        let codec = Sparse { keep, decay: 0.95 };
        let bytes = codec.encode(&header, &values, &mut Vec::new()).unwrap();
        let kept = f64::from(keep) * chunks;
        let bits = (8 * bytes.len()) as f64 / kept - 2.0;
        assert!(bits < information * 1.012, "{keep}: {bits} bits a position");
    }
}

#[test]
fn everything_on_four_levels_takes_two_bits_an_element() {
    let shape = Shape::matrix(256, 256);
    let header = header(&[shape]);
    let codec = Sparse { keep: 4096, decay: 0.95 };
    let bytes = codec.encode(&header, &gradient(1 << 16, 6), &mut Vec::new()).unwrap();
    assert!(bytes.len() < (1 << 14) + 100, "{}", bytes.len());
    let mut spoken = 0;
    codec.decode(&bytes, &header).unwrap().for_each(|_, _| spoken += 1);
    assert_eq!(spoken, 1 << 16);
}

#[test]
fn the_mean_of_an_element_is_over_those_who_spoke_of_it() {
    let header = header(&[Shape::vector(128)]);
    let one_at = |place: usize, value: f32| {
        let mut values = vec![0.0; 128];
        values[place] = value;
        values[64] = 0.5;
        let bytes = Sparse::default().encode(&header, &values, &mut Vec::new()).unwrap();
        Sparse::default().decode(&bytes, &header).unwrap()
    };
    let dense = Update::new(header.clone(), vec![1 << 24; 128]).unwrap();
    let sparse = [one_at(3, 1.0), one_at(3, 0.25), one_at(5, 2.0)];
    let sum = |order: &[&Update]| {
        let mut sum = Aggregate::new(3, "block.1", header.layout.clone());
        order.iter().for_each(|update| sum.add(update, 2, u64::MAX).unwrap());
        sum
    };
    let [a, b, c] = &sparse;
    let mean = sum(&[a, b, c]).mean().unwrap();
    assert_eq!((mean[3], mean[5], mean[64], mean[4]), (0.625, 2.0, 0.5, 0.0));

    // A dense update speaks of everything.
    let orders: [[&Update; 4]; 3] = [[a, b, c, &dense], [&dense, c, a, b], [b, &dense, a, c]];
    let sums = orders.map(|order| sum(&order));
    assert!(sums.iter().all(|sum| *sum == sums[0]), "in any order");
    let mean = sums[0].mean().unwrap();
    assert_eq!((mean[3], mean[5], mean[64], mean[4]), (0.75, 1.5, 0.625, 1.0));
    for (left, right) in [
        (sum(&[a, &dense]), sum(&[b, c])),
        (sum(&[&dense]), sum(&[a, b, c])),
        (sum(&[a, b, c]), sum(&[&dense])),
    ] {
        let mut merged = left;
        merged.merge(&right).unwrap();
        assert_eq!(merged, sums[0], "along any tree");
    }
}

/// Updates that were stored once must open for ever: these bytes never change.
#[test]
fn the_encoding_is_what_it_always_was() {
    let header = header(&[Shape::matrix(2, 8), Shape::vector(3)]);
    let values: Vec<f32> = (0..19).map(|i| (i as f32 - 9.0) * 0.125).collect();
    let codec = Sparse { keep: 1024, decay: 0.95 };
    let bytes = codec.encode(&header, &values, &mut Vec::new()).unwrap();
    let hex: String = bytes[..].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    let kept: Vec<(usize, i32)> = {
        let mut kept = Vec::new();
        codec.decode(&bytes, &header).unwrap().for_each(|index, value| kept.push((index, value)));
        kept
    };
    let sixteenth = 1 << 20;
    let expected = [(0, -17), (1, -17), (2, -13), (3, -13), (18, 18)];
    assert_eq!(kept, expected.map(|(index, value)| (index, value * sixteenth)));
}

const GOLDEN: &str = "5a5550440300011803000000002000000000000073b5ce21ae6d36e90700626c6f636b2e3100\
                      04020000f0fe000030ff010000200100e0";

#[test]
fn what_is_not_what_was_agreed_is_refused() {
    let right = header(&[Shape::matrix(64, 64)]);
    let codec = Sparse::default();
    let bytes = codec.encode(&right, &gradient(4096, 7), &mut Vec::new()).unwrap();
    for wrong in [
        Header { round: 4, ..right.clone() },
        Header { tokens: 1, ..right.clone() },
        Header { vnode: "head".into(), ..right.clone() },
        header(&[Shape::matrix(32, 128)]),
    ] {
        assert!(matches!(codec.decode(&bytes, &wrong), Err(UpdateError::Unexpected { .. })));
    }
    let denser = Sparse { keep: 65, ..codec };
    assert_eq!(denser.decode(&bytes, &right), Err(UpdateError::Density { expected: 65, actual: 64 }));
    assert!(matches!(
        zoo_update::Dense.decode(&bytes, &right),
        Err(UpdateError::Codec { expected: 0, actual: 1 })
    ));
}

/// Either refused, or the one encoding of what it decodes to.
fn assert_canonical(codec: Sparse, header: &Header, bytes: &[u8]) {
    if let Ok(update) = codec.decode(bytes, header) {
        assert_eq!(sparse::encode(&update, codec.keep), bytes);
    }
}

prop_compose! {
    fn any_case()(
        shapes in prop::collection::vec((1u32..200, 1u32..140), 1..4),
        keep in prop::sample::select(&KEEPS),
        seed in 1u64..1 << 40,
        coarse: bool,
    ) -> (Sparse, Header, Vec<f32>) {
        let shapes: Vec<Shape> = shapes.into_iter().map(|(rows, cols)| Shape { rows, cols }).collect();
        let len = shapes.iter().map(|shape| shape.elements() as usize).sum();
        let mut values = gradient(len, seed);
        if coarse {
            // Few levels, many equal sizes.
            values.iter_mut().for_each(|value| *value = (*value * 1000.0).trunc() / 1000.0);
        }
        (Sparse { keep, decay: 0.95 }, header(&shapes), values)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_update_survives_its_encoding((codec, header, values) in any_case()) {
        let mut residual = Vec::new();
        for _ in 0..2 {
            let bytes = codec.encode(&header, &values, &mut residual).unwrap();
            let update = codec.decode(&bytes, &header).unwrap();
            prop_assert_eq!(sparse::encode(&update, codec.keep), bytes);
        }
    }

    #[test]
    fn every_truncation_and_extension_is_refused((codec, header, values) in any_case(), cut: prop::sample::Index, byte: u8) {
        let bytes = codec.encode(&header, &values, &mut Vec::new()).unwrap();
        prop_assert!(codec.decode(&bytes[..cut.index(bytes.len())], &header).is_err());
        prop_assert!(codec.decode(&[&bytes[..], &[byte]].concat(), &header).is_err());
    }

    #[test]
    fn any_bytes_at_the_end_are_refused_or_canonical(
        (codec, header, values) in any_case(),
        start: prop::sample::Index,
        tail in prop::collection::vec(any::<u8>(), 1..3000),
    ) {
        let mut bytes = codec.encode(&header, &values, &mut Vec::new()).unwrap();
        let start = start.index(bytes.len());
        bytes[start..].iter_mut().zip(tail.iter().cycle()).for_each(|(to, from)| *to = *from);
        assert_canonical(codec, &header, &bytes);
    }

    #[test]
    fn mutated_updates_never_panic_and_stay_canonical(
        (codec, header, values) in any_case(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6),
    ) {
        let mut bytes = codec.encode(&header, &values, &mut Vec::new()).unwrap();
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        assert_canonical(codec, &header, &bytes);
    }
}
