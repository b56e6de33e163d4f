//! Room for so many things at once, shared by where they come from: one address gets a part of it at most, and when there is none
//! left, whoever has the most of it gives way to who has less.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iroh::endpoint::IncomingAddr;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::endpoint::lock;

/// Who shares one part: an IPv4 address, a network of IPv6 as one subscriber has it, or all whom one knows through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Machine(IpAddr),
    Relay,
}

impl Source {
    pub(crate) fn of(address: &IncomingAddr) -> Self {
        match address {
            IncomingAddr::Ip(address) => Self::Machine(subscriber(address.ip())),
            _ => Self::Relay,
        }
    }
}

/// The part of an address that its owner cannot choose freely (RFC 6177: a site has 64 bits and more of an IPv6 address).
fn subscriber(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

/// Of those who have the most, which gives way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GivesWay {
    /// What has been there the longest, if it is as old as this: it was too slow.
    Oldest(Duration),
    /// What came last.
    Newest,
}

#[derive(Debug)]
pub(crate) struct Room {
    /// All together.
    max: usize,
    /// From one source.
    max_each: usize,
    gives_way: GivesWay,
    taken: Mutex<Taken>,
    /// Somebody left.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    next: u64,
    /// In the order in which they came.
    by_source: BTreeMap<Source, Vec<Held>>,
}

#[derive(Debug)]
struct Held {
    id: u64,
    since: Instant,
    told: Arc<Notify>,
}

/// A part of the room, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    source: Source,
    id: u64,
    told: Arc<Notify>,
}

impl Room {
    pub(crate) fn new(max: usize, max_each: usize, gives_way: GivesWay) -> Arc<Self> {
        Arc::new(Self { max, max_each, gives_way, taken: Mutex::default(), freed: Notify::new() })
    }

    /// A place, if there is one or somebody can give way.
    pub(crate) fn enter(self: &Arc<Self>, source: Source) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let its = taken.by_source.get(&source).map_or(0, Vec::len);
        if its >= self.max_each {
            return None;
        }
        if taken.count >= self.max {
            let told = taken.make_room_for(its, self.gives_way)?;
            told.notify_one();
        }
        let (id, told) = (taken.next, Arc::new(Notify::new()));
        taken.next += 1;
        taken.count += 1;
        let held = Held { id, since: Instant::now(), told: told.clone() };
        taken.by_source.entry(source).or_default().push(held);
        Some(Place { room: self.clone(), source, id, told })
    }

    /// The same, after a while if need be.
    pub(crate) async fn enter_within(self: &Arc<Self>, source: Source, patience: Duration) -> Option<Place> {
        const LOOK_AGAIN: Duration = Duration::from_millis(200);
        let began = Instant::now();
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.enter(source) {
                return Some(place);
            }
            if began.elapsed() >= patience {
                return None;
            }
            // What is there grows old as well.
            let _ = timeout(LOOK_AGAIN, freed).await;
        }
    }
}

impl Taken {
    /// Takes a place from the source that has the most, if that is more than one with `its` more would have.
    fn make_room_for(&mut self, its: usize, gives_way: GivesWay) -> Option<Arc<Notify>> {
        let (source, most) = self.by_source.iter_mut().max_by_key(|(_, held)| held.len())?;
        if most.len() <= its + 1 {
            return None;
        }
        let at = match gives_way {
            GivesWay::Newest => most.len() - 1,
            GivesWay::Oldest(age) if most[0].since.elapsed() >= age => 0,
            GivesWay::Oldest(_) => return None,
        };
        let source = *source;
        let id = most[at].id;
        self.remove(source, id)
    }

    fn remove(&mut self, source: Source, id: u64) -> Option<Arc<Notify>> {
        let held = self.by_source.get_mut(&source)?;
        let at = held.iter().position(|held| held.id == id)?;
        let told = held.remove(at).told;
        if held.is_empty() {
            self.by_source.remove(&source);
        }
        self.count -= 1;
        Some(told)
    }
}

impl Place {
    /// Completes when the place was given to somebody else.
    pub(crate) async fn taken_away(&self) {
        self.told.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Who gave way has no place any more.
        lock(&self.room.taken).remove(self.source, self.id);
        self.room.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::Machine(IpAddr::from([10, 0, 0, last]))
    }

    async fn is_taken_away(place: &Place) -> bool {
        timeout(Duration::from_millis(20), place.taken_away()).await.is_ok()
    }

    #[tokio::test]
    async fn one_source_gets_its_part_and_whoever_has_the_most_gives_way() {
        let room = Room::new(6, 4, GivesWay::Newest);
        let many: Vec<Place> = (0..9).filter_map(|_| room.enter(source(1))).collect();
        assert_eq!(many.len(), 4, "no more from one");
        let others: Vec<Place> = [2, 3].map(|from| room.enter(source(from)).unwrap()).into();
        let late = room.enter(source(4)).expect("the first has four of six");
        assert!(is_taken_away(&many[3]).await && !is_taken_away(&many[2]).await);
        let fair = room.enter(source(2)).expect("three and one are more apart than two and two");
        assert!(is_taken_away(&many[2]).await);
        assert!(room.enter(source(3)).is_none(), "two and one are as even as it gets");
        drop((late, others));
        assert!(room.enter(source(3)).is_some() && room.enter(source(5)).is_some());
        drop((many, fair));
        assert_eq!(lock(&room.taken).count, 0, "everything was given back, once");
    }

    #[tokio::test]
    async fn what_is_slow_gives_way_and_what_has_just_begun_does_not() {
        let room = Room::new(2, 2, GivesWay::Oldest(Duration::from_millis(300)));
        let (slow, slower) = (room.enter(source(1)).unwrap(), room.enter(source(1)).unwrap());
        assert!(room.enter(source(2)).is_none(), "neither is slow yet");
        let other = room.enter_within(source(2), Duration::from_secs(5)).await;
        assert!(other.is_some() && is_taken_away(&slow).await && !is_taken_away(&slower).await);
        assert!(room.enter_within(source(1), Duration::from_millis(300)).await.is_none());
    }

    #[test]
    fn neighbours_in_an_ipv6_network_are_one_source() {
        let of = |ip: &str| Source::of(&IncomingAddr::Ip(std::net::SocketAddr::new(ip.parse().unwrap(), 1)));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), source(1));
        assert_ne!(of("10.0.0.2"), source(1));
    }
}
