//! Who is asked for what, and when: every node in an order of its own, so that many who want the same do not all begin with the same
//! blob at the same node.

use zoo_content::Digest;
use zoo_protocol::{NodeId, Peer};

/// Peers come in the order in which they are likely to have what is wanted; so many are as likely as each other.
const ALIKE: usize = 8;
/// Of the less likely, so many are asked first when there are many: who has it already spares those who must have it.
const FIRST: usize = 2;

/// In which order `me` wants these.
pub(crate) fn in_turn<T>(me: &NodeId, wanted: impl IntoIterator<Item = (Digest, T)>) -> Vec<(Digest, T)> {
    let mut wanted: Vec<(Digest, T)> = wanted.into_iter().collect();
    let mine = turn(0, &me.0);
    wanted.sort_by_cached_key(|(blob, _)| turn(mine, blob.as_bytes()));
    wanted
}

/// In which order `me` asks `peers`, the likeliest of which come first, for a blob: who made it, then some who may have it by now,
/// then the others.
pub(crate) fn sources(me: &NodeId, blob: &Digest, maker: Option<NodeId>, peers: &[Peer]) -> Vec<Peer> {
    let mine = turn(turn(0, &me.0), blob.as_bytes());
    let others = peers.iter().filter(|peer| peer.node != *me).enumerate();
    let mut ranked: Vec<(usize, u64, &Peer)> =
        others.map(|(at, peer)| (1 + at / ALIKE, turn(mine, &peer.node.0), peer)).collect();
    ranked.sort_by_key(|(group, turn, _)| (*group, *turn));
    let less_likely = ranked.len().saturating_sub(ALIKE);
    if less_likely >= ALIKE && maker.is_none() {
        let mut lucky: Vec<usize> = (ALIKE..ranked.len()).collect();
        lucky.sort_by_key(|at| ranked[*at].1);
        lucky.into_iter().take(FIRST).for_each(|at| ranked[at].0 = 0);
    }
    for (group, _, peer) in &mut ranked {
        if Some(peer.node) == maker {
            *group = 0;
        }
    }
    ranked.sort_by_key(|(group, turn, _)| (*group, *turn));
    ranked.into_iter().map(|(_, _, peer)| peer.clone()).collect()
}

/// A number that looks drawn at random, and is the same wherever `turn` and `part` are the same.
fn turn(turn: u64, part: &[u8; 32]) -> u64 {
    let (words, _) = part.as_chunks::<8>();
    words.iter().fold(turn, |turn, word| {
        let mixed = (turn ^ u64::from_be_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ mixed >> 29
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn node(number: u32) -> NodeId {
        NodeId(*Digest::of(&number.to_le_bytes()).as_bytes())
    }

    fn peers(count: u32) -> Vec<Peer> {
        (0..count).map(|number| Peer { node: node(number), addresses: Vec::new() }).collect()
    }

    #[test]
    fn many_who_want_the_same_begin_elsewhere_with_something_else() {
        let blobs: BTreeMap<Digest, ()> = (0..20u8).map(|blob| (Digest::of(&[blob]), ())).collect();
        let peers = peers(3);
        let mut asked: BTreeMap<(Digest, NodeId), usize> = BTreeMap::new();
        for me in 100..1_100 {
            let (first, ()) = in_turn(&node(me), blobs.clone())[0];
            *asked.entry((first, sources(&node(me), &first, None, &peers)[0].node)).or_default() += 1;
        }
        assert_eq!(asked.len(), 60, "every blob is first wanted of everybody");
        let most = asked.values().max();
        assert!(most < Some(&40), "about 17 of a thousand ask for the same of the same, not {most:?}");
    }

    #[test]
    fn the_likely_come_before_the_others_but_for_two_who_may_have_it_by_now() {
        let (all, blob) = (peers(60), Digest::of(b"blob"));
        let order: Vec<NodeId> = sources(&node(99), &blob, None, &all).iter().map(|peer| peer.node).collect();
        let place = |node: &NodeId| all.iter().position(|peer| peer.node == *node).unwrap();
        assert!(order[..FIRST].iter().all(|node| place(node) >= ALIKE));
        assert!(order[FIRST..FIRST + ALIKE].iter().all(|node| place(node) < ALIKE));
        assert_eq!(order.len(), 60);
        let few = sources(&node(99), &blob, None, &all[..10]);
        assert!(few[..ALIKE].iter().all(|peer| place(&peer.node) < ALIKE), "the few ask the likely at once");
    }

    #[test]
    fn the_maker_is_asked_first_and_nobody_asks_itself() {
        let all = peers(30);
        let order = sources(&node(3), &Digest::of(b"update"), Some(node(20)), &all);
        assert_eq!(order[0].node, node(20));
        assert!(order.len() == 29 && order.iter().all(|peer| peer.node != node(3)));
    }
}
