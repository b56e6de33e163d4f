//! Partial sums have one encoding, and sums of sums are the sums of everything.

use proptest::prelude::*;
use zoo_update::{
    Aggregate, Codec, Dense, Header, Layout, Shape, Sparse, Update, UpdateError, weight_of_tokens,
};

fn header(tokens: u64) -> Header {
    let layout = Layout::new([("weight", Shape::matrix(20, 7)), ("bias", Shape::vector(9))]).unwrap();
    Header { round: 3, vnode: "block.1.mlp".into(), tokens, layout }
}

/// The sum of nothing yet.
fn empty() -> Aggregate {
    Aggregate::new(3, "block.1.mlp", header(0).layout)
}

fn update(codec: &dyn Codec, tokens: u64, gradient: &[f32]) -> Update {
    let header = header(tokens);
    let bytes = codec.encode(&header, gradient, &mut Vec::new()).unwrap();
    codec.decode(&bytes, &header).unwrap()
}

fn sum<'a>(updates: impl IntoIterator<Item = &'a Update>) -> Aggregate {
    let mut sum = empty();
    for update in updates {
        sum.add(update, weight_of_tokens(update.header().tokens), u64::MAX).unwrap();
    }
    sum
}

fn decode(bytes: &[u8], tokens: u64, contributions: u32) -> Result<Aggregate, UpdateError> {
    Aggregate::decode(bytes, &header(tokens), contributions)
}

/// Sparse and dense updates with their tokens.
fn updates(most: usize) -> impl Strategy<Value = Vec<Update>> {
    let elements = header(0).layout.elements() as usize;
    let gradient = prop::collection::vec(-2.0f32..2.0, elements);
    let one = (prop::bool::weighted(0.3), 1u64..100_000, gradient).prop_map(|(dense, tokens, gradient)| {
        let codec: Box<dyn Codec> = if dense { Box::new(Dense) } else { Box::new(Sparse::default()) };
        update(&*codec, tokens, &gradient)
    });
    prop::collection::vec(one, 1..most)
}

proptest! {
    #[test]
    fn sums_of_decoded_sums_are_the_sum_of_everything(all in updates(12), fan_in in 2usize..5) {
        let mut level: Vec<(Vec<u8>, u64, u32)> = all
            .chunks(fan_in)
            .map(|group| (sum(group), group))
            .map(|(sum, group)| (sum.encode(), group.iter().map(|it| it.header().tokens).sum(), group.len() as u32))
            .collect();
        while level.len() > 1 {
            level = level.chunks(fan_in).map(|group| {
                let mut sum = empty();
                for (bytes, tokens, contributions) in group {
                    sum.merge(&decode(bytes, *tokens, *contributions).unwrap()).unwrap();
                }
                (sum.encode(), sum.tokens(), sum.contributions())
            }).collect();
        }
        let (bytes, tokens, contributions) = &level[0];
        let by_tree = decode(bytes, *tokens, *contributions).unwrap();
        let at_once = sum(&all);
        prop_assert_eq!(at_once.encode(), bytes.clone());
        prop_assert_eq!(by_tree.weight(), at_once.weight());
        let bits = |sum: &Aggregate| sum.mean().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        prop_assert_eq!(bits(&by_tree), bits(&at_once));
    }

    #[test]
    fn changed_bytes_are_refused_or_the_encoding_of_another_sum(
        all in updates(4), at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        let sum = sum(&all);
        let (tokens, contributions) = (sum.tokens(), sum.contributions());
        let mut bytes = sum.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(other) = decode(&bytes, tokens, contributions) {
            prop_assert_eq!(other.encode(), bytes.clone());
        }
        let encoding = sum.encode();
        prop_assert!(decode(&encoding[..cut.index(encoding.len())], tokens, contributions).is_err());
        prop_assert!(decode(&[&encoding[..], &[0]].concat(), tokens, contributions).is_err());
    }

    #[test]
    fn any_bytes_after_a_header_are_refused_or_canonical(tail: Vec<u8>) {
        let encoding = sum(&[update(&Sparse::default(), 256, &[0.5; 149])]).encode();
        let body = encoding.len() - 40;
        let bytes = [&encoding[..body], &tail].concat();
        if let Ok(sum) = decode(&bytes, 256, 1) {
            prop_assert_eq!(sum.encode(), bytes);
        }
    }
}

#[test]
fn a_sum_of_something_else_is_refused() {
    let bytes = sum(&[update(&Dense, 256, &[0.5; 149]), update(&Dense, 512, &[0.25; 149])]).encode();
    assert!(decode(&bytes, 768, 2).is_ok());
    let refusals = [decode(&bytes, 767, 2), decode(&bytes, 768, 3)].map(|it| it.unwrap_err().to_string());
    assert_eq!(refusals[0], "update is for tokens 768, 767 was expected");
    assert_eq!(refusals[1], "update is for a number of contributions of 2, 3 was expected");
    let other = Header { round: 4, ..header(768) };
    let refusal = Aggregate::decode(&bytes, &other, 2).unwrap_err();
    assert_eq!(refusal.to_string(), "update is for round 3, 4 was expected");
    let an_update = Dense.encode(&header(256), &[0.5; 149], &mut Vec::new()).unwrap();
    assert!(matches!(decode(&an_update, 256, 1), Err(UpdateError::Codec { expected: 3, .. })));
}

#[test]
fn the_encoding_is_what_it_always_was() {
    let header = |tokens| Header {
        round: 1,
        vnode: "head".into(),
        tokens,
        layout: Layout::new([("w", Shape::vector(3))]).unwrap(),
    };
    let mut sum = Aggregate::new(1, "head", header(0).layout);
    sum.add(&Update::new(header(256), vec![3, 0, -5]).unwrap(), 2, u64::MAX).unwrap();
    let bytes = sum.encode();
    let body = &bytes[bytes.len() - 16..];
    // One contribution, weight 2, all spoke; width 5; 12, 0, 19.
    assert_eq!(
        body,
        [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x05 | (12 << 7 & 0xff) as u8, 12 >> 1, 19 << 1]
    );
    assert_eq!(Aggregate::decode(&bytes, &header(256), 1).unwrap(), sum);
}
