//! The dense codec rounds as it says, and an update has one encoding.

use proptest::prelude::*;
use zoo_update::{
    Codec, Dense, Header, Layout, MAX_NAME_BYTES, MAX_PARAMETERS, Shape, Update, UpdateError, dense,
};

fn vector(len: usize) -> Shape {
    Shape::vector(len as u32)
}

fn header(elements: usize) -> Header {
    let layout = Layout::new([("weight", vector(elements))]).unwrap();
    Header { round: 3, vnode: "block.1".into(), tokens: 8192, layout }
}

fn quantise_one(value: f32) -> Result<i32, UpdateError> {
    dense::quantise(&header(1), &[value]).map(|values| values[0])
}

#[test]
fn values_round_half_to_even_on_the_scale_of_two_to_the_minus_24() {
    let unit = (-24f32).exp2();
    let cases = [
        (0.0, 0),
        (-0.0, 0),
        (1.0, 1 << 24),
        (-1.0, -(1 << 24)),
        (unit, 1),
        (0.5 * unit, 0),
        (1.5 * unit, 2),
        (2.5 * unit, 2),
        (-0.5 * unit, 0),
        (-1.5 * unit, -2),
        (-2.5 * unit, -2),
        (0.500_000_1 * unit, 1),
        (f32::MIN_POSITIVE, 0),
        (f32::from_bits(1), 0),
        (127.999_99, 0x7fff_ff80),
        (-127.999_99, -0x7fff_ff80),
    ];
    for (value, expected) in cases {
        assert_eq!(quantise_one(value), Ok(expected), "{value:e}");
    }
}

#[test]
fn an_element_out_of_range_is_named() {
    let layout = Layout::new([("gain", vector(3000)), ("bias", Shape::matrix(50, 100))]).unwrap();
    let header = Header { round: 0, vnode: "block.9".into(), tokens: 1, layout };
    for value in [128.0, -128.0, 1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        for (at, parameter, element) in
            [(0, "gain", 0), (2999, "gain", 2999), (3000, "bias", 0), (7999, "bias", 4999)]
        {
            let mut values = vec![0.25; 8000];
            values[at] = value;
            let error = dense::quantise(&header, &values).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("element {element} of parameter {parameter} of block.9 is")),
                "{text}"
            );
            assert!(text.contains("\nhint: "), "{text}");
        }
    }
}

/// Updates that were stored once must open for ever: these bytes never change.
#[test]
fn the_encoding_is_what_it_always_was() {
    let layout = Layout::new([("weight", Shape::matrix(2, 1)), ("bias", vector(1))]).unwrap();
    let header = Header { round: 0x01020304, vnode: "b.1".into(), tokens: 0x0a0b0c, layout };
    let values = vec![1, -2, 0x7fff_ff80];
    let hex: Vec<&str> = vec![
        "5a555044",
        "0300",
        "00",
        "18",
        "04030201",
        "0c0b0a0000000000",
        "4f58f0b68414e1ed",
        "0300622e31",
        "01000000",
        "feffffff",
        "80ffff7f",
    ];
    let bytes = dense::encode(&header, &values);
    assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), hex.concat());
    assert_eq!(Dense.decode(&bytes, &header), Update::new(header, values));
}

#[test]
fn what_does_not_fit_the_limits_is_not_made() {
    let too_long = "x".repeat(MAX_NAME_BYTES + 1);
    let name = |name: &str| Layout::new([(name, vector(1))]);
    assert!(matches!(name(&too_long), Err(UpdateError::Limit { what: "parameter name", .. })));
    assert_eq!(name(""), Err(UpdateError::Name { what: "parameter name" }));
    assert_eq!(name("a\x1b[2J"), Err(UpdateError::Name { what: "parameter name" }));
    assert_eq!(Layout::new([("empty", vector(0))]), Err(UpdateError::NoElements("empty".into())));
    let many = (0..=MAX_PARAMETERS).map(|i| (i.to_string(), vector(1)));
    assert!(matches!(Layout::new(many), Err(UpdateError::Limit { what: "parameters of a vnode", .. })));
    let huge = Shape::matrix(u32::MAX, u32::MAX);
    for shapes in [[Shape::matrix(1 << 16, 1 << 15), vector(1)], [huge, vector(1)], [vector(1), huge]] {
        let layout = Layout::new(shapes.map(|shape| ("weight", shape)));
        assert!(matches!(layout, Err(UpdateError::Limit { what: "elements of a vnode", .. })), "{shapes:?}");
    }
    for vnode in ["", "line\nbreak", &too_long] {
        assert!(Update::new(Header { vnode: vnode.into(), ..header(1) }, vec![0]).is_err(), "{vnode:?}");
    }
    let expected = UpdateError::Elements { expected: 2, actual: 3 };
    assert_eq!(Update::new(header(2), vec![0; 3]), Err(expected.clone()));
    assert_eq!(dense::quantise(&header(2), &[0.0; 3]), Err(expected));
}

#[test]
fn a_header_is_compared_field_by_field() {
    let expected = header(4);
    let layout = |parameters: &[(&str, Shape)]| Layout::new(parameters.iter().copied()).unwrap();
    let encoded = |header: &Header| dense::encode(header, &vec![1; header.layout.elements() as usize]);
    let cases = [
        (Header { round: 4, ..header(4) }, "update is for round 4, 3 was expected"),
        (Header { vnode: "head".into(), ..header(4) }, "update is for vnode head, block.1 was expected"),
        (Header { tokens: 1, ..header(4) }, "update is for tokens 1, 8192 was expected"),
    ];
    assert_eq!(Dense.decode(&encoded(&expected), &expected).unwrap().header(), &expected);
    for (actual, message) in cases {
        assert_eq!(Dense.decode(&encoded(&actual), &expected).unwrap_err().to_string(), message);
    }
    // Names, shapes, their number and their order: each is another layout, even of as many elements.
    let others = [
        vec![("weight", vector(5))],
        vec![("weight", Shape::matrix(2, 2))],
        vec![("bias", vector(4))],
        vec![("weight", vector(3)), ("bias", vector(1))],
        vec![("bias", vector(1)), ("weight", vector(3))],
        vec![],
    ];
    let mut ids = vec![expected.layout.id().to_string()];
    for other in &others {
        let actual = Header { layout: layout(other), ..header(4) };
        let id = actual.layout.id().to_string();
        let message = format!("update is for a layout of {id}, {}: weight 1x4 was expected", ids[0]);
        assert_eq!(Dense.decode(&encoded(&actual), &expected).unwrap_err().to_string(), message);
        assert!(!ids.contains(&id), "{id} stands for two layouts");
        ids.push(id);
    }
}

prop_compose! {
    fn any_update()(
        round: u32,
        vnode in "[a-zé.0-9]{1,20}",
        tokens: u64,
        parts in prop::collection::vec(("[a-z._]{1,12}", prop::collection::vec(any::<i32>(), 1..40)), 0..6),
    ) -> Update {
        let layout = Layout::new(parts.iter().map(|(name, values)| (name.clone(), vector(values.len())))).unwrap();
        let values = parts.into_iter().flat_map(|(_, values)| values).collect();
        Update::new(Header { round, vnode, tokens, layout }, values).unwrap()
    }
}

/// Either refused, or the one encoding of what it decodes to.
fn assert_canonical(header: &Header, bytes: &[u8]) {
    if let Ok(update) = Dense.decode(bytes, header) {
        assert_eq!(encode(&update), bytes);
    }
}

fn encode(update: &Update) -> Vec<u8> {
    dense::encode(update.header(), &update.values())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_update_survives_its_encoding(update in any_update()) {
        prop_assert_eq!(Dense.decode(&encode(&update), update.header()), Ok(update));
    }

    #[test]
    fn rounding_is_that_of_the_standard(value in -127.99f32..127.99) {
        let reference = (f64::from(value) * f64::from(1u32 << 24)).round_ties_even();
        prop_assert_eq!(quantise_one(value), Ok(reference as i32));
    }

    #[test]
    fn rounding_of_any_bits_is_that_of_the_standard(bits: u32) {
        let value = f32::from_bits(bits);
        let reference = (f64::from(value) * f64::from(1u32 << 24)).round_ties_even();
        prop_assert_eq!(quantise_one(value).ok(), (value.abs() < 128.0).then_some(reference as i32));
    }

    #[test]
    fn every_truncation_and_extension_is_refused(update in any_update(), extra in 1usize..9, byte: u8) {
        let bytes = encode(&update);
        for len in 0..bytes.len() {
            prop_assert!(Dense.decode(&bytes[..len], update.header()).is_err(), "cut to {} of {}", len, bytes.len());
        }
        let longer = [&bytes[..], &vec![byte; extra]].concat();
        let refused = matches!(Dense.decode(&longer, update.header()), Err(UpdateError::Length { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let header = header(9);
        let honest = dense::encode(&header, &[1; 9]);
        assert_canonical(&header, &bytes);
        assert_canonical(&header, &[&honest[..honest.len() - 36], &bytes[..]].concat());
    }

    #[test]
    fn mutated_updates_never_panic_and_stay_canonical(
        update in any_update(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6),
    ) {
        let mut bytes = encode(&update);
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
        assert_canonical(update.header(), &bytes);
    }
}

#[test]
fn the_codec_trait_does_what_the_functions_do() {
    let codec: &dyn Codec = &Dense;
    let mut residual = Vec::new();
    let bytes = codec.encode(&header(3), &[0.1, -7.5, 1e-9], &mut residual).unwrap();
    let update = codec.decode(&bytes, &header(3)).unwrap();
    assert!(codec.decode(&bytes, &header(4)).is_err());
    assert_eq!(update.values(), [1_677_722, -125_829_120, 0]);
    assert_eq!(encode(&update), bytes);
    assert!(residual.is_empty());
}

#[test]
fn no_size_is_taken_from_the_bytes() {
    let bytes = dense::encode(&header(1), &[7]);
    // What is expected to be huge is not reserved for bytes that are not there.
    let huge = header((1 << 30) - 1000);
    assert!(matches!(Dense.decode(&bytes, &huge), Err(UpdateError::Unexpected { what: "a layout of", .. })));
    let forged =
        [&dense::encode(&Header { layout: huge.layout.clone(), ..header(1) }, &[])[..], &[0; 4]].concat();
    assert!(matches!(Dense.decode(&forged, &huge), Err(UpdateError::Length { .. })));
}
