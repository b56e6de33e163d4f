//! How to reach a node, as one word that survives copy and paste.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{Message, NodeId, Peer, WireError, decode, encode};

use crate::Relay;

/// Begins every ticket without a relay: the name, and the version of what follows.
const PREFIX: &str = "zoo1";
/// Begins every ticket with a relay. Versions of zoo that know of no relay say that they cannot read it.
const PREFIX_RELAYED: &str = "zoo2";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const CHECKSUM_BYTES: usize = 4;
/// Eight IPv6 addresses, the key, the checksum and the longest URL of a relay take under 850 characters.
const TEXT_BYTES_MAX: usize = 1024;

/// A node, where it listens, and the relay of its network if there is one.
///
/// Its text is `zoo1` followed by lower-case base32 (RFC 4648, no padding) of the
/// postcard-encoded [`Peer`] and the first four bytes of its BLAKE3 digest, so
/// that a ticket that lost a letter is told from one whose node is gone. With a relay
/// it is `zoo2`, and after the peer come the relay's URL and whether it carries bulk. A ticket has one spelling.
///
/// ```
/// # use zoo_network::Ticket;
/// # use zoo_protocol::NodeKey;
/// let ticket = Ticket { node: NodeKey::from_seed([7; 32]).id(), addresses: vec!["127.0.0.1:4040".parse().unwrap()], relay: None };
/// assert_eq!(ticket.to_string().parse::<Ticket>().unwrap(), ticket);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The node; whoever answers must prove to be it.
    pub node: NodeId,
    /// Where it listens; from 1 to 8 addresses, or from 0 with a relay.
    pub addresses: Vec<SocketAddr>,
    /// Where it is met if none of them can be reached.
    pub relay: Option<Relay>,
}

/// What a ticket with a relay holds.
#[derive(Serialize, Deserialize)]
struct Relayed {
    peer: Peer,
    url: String,
    carries_bulk: bool,
}

impl Message for Relayed {
    fn validate(&self) -> Result<(), WireError> {
        self.peer.validate()?;
        let relay: Result<Relay, _> = self.url.parse();
        match relay.is_ok_and(|relay| relay.to_string() == self.url) {
            true => Ok(()),
            false => Err(WireError::NotCanonical),
        }
    }
}

/// Why a text is not a ticket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not begin like one.
    #[error(
        "this is not a ticket: it does not begin with {PREFIX}\nhint: `zoo up` prints the ticket to join with"
    )]
    Prefix,
    /// It begins like one of another version.
    #[error("the ticket is of another version of zoo\nhint: use the same version on both machines")]
    Version,
    /// It holds a character that no ticket has.
    #[error(
        "the ticket has an unexpected character {character:?} at position {position}\nhint: copy it whole, as one word"
    )]
    Character {
        /// The character.
        character: char,
        /// Its place, from 1.
        position: usize,
    },
    /// Letters are missing, added or changed.
    #[error("the ticket is damaged\nhint: copy it whole, as one word")]
    Damaged,
    /// It is whole, and names neither an address nor a relay.
    #[error("the ticket names no address\nhint: ask for a new one")]
    NoAddress,
}

impl Ticket {
    /// A ticket without a relay.
    pub fn of(peer: Peer) -> Self {
        Self { node: peer.node, addresses: peer.addresses, relay: None }
    }

    /// Whether only this machine can use it.
    pub fn is_local(&self) -> bool {
        self.addresses.iter().all(|address| address.ip().is_loopback())
            && self.relay.as_ref().is_none_or(Relay::is_local)
    }

    /// The node as a peer of others. The relay is not told: others have their own.
    pub fn peer(&self) -> Peer {
        Peer { node: self.node, addresses: self.addresses.clone() }
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, mut bytes) = match &self.relay {
            None => (PREFIX, encode(&self.peer())),
            Some(relay) => {
                let (url, carries_bulk) = (relay.to_string(), relay.carries_bulk());
                (PREFIX_RELAYED, encode(&Relayed { peer: self.peer(), url, carries_bulk }))
            }
        };
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
        write!(f, "{prefix}{}", base32(&bytes))
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let relayed = text.starts_with(PREFIX_RELAYED);
        let word = text.strip_prefix(if relayed { PREFIX_RELAYED } else { PREFIX });
        let word = word.ok_or_else(|| match text.strip_prefix("zoo") {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => TicketError::Version,
            _ => TicketError::Prefix,
        })?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(TicketError::Damaged);
        }
        let bytes = from_base32(word)?;
        let (payload, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TicketError::Damaged)?;
        if Digest::of(payload).as_bytes()[..CHECKSUM_BYTES] != checksum[..] {
            return Err(TicketError::Damaged);
        }
        if relayed {
            let Relayed { peer, url, carries_bulk } =
                decode(payload).map_err(|_: WireError| TicketError::Damaged)?;
            let relay: Relay = url.parse().map_err(|_| TicketError::Damaged)?;
            return Ok(Self { relay: Some(relay.carrying_bulk(carries_bulk)), ..Self::of(peer) });
        }
        let ticket = Self::of(decode(payload).map_err(|_: WireError| TicketError::Damaged)?);
        if ticket.addresses.is_empty() { Err(TicketError::NoAddress) } else { Ok(ticket) }
    }
}

fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut pending, mut bits) = (0u32, 0);
    for &byte in bytes {
        pending = pending << 8 | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(pending >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(pending << (5 - bits)) as usize & 31]));
    }
    text
}

fn from_base32(word: &str) -> Result<Vec<u8>, TicketError> {
    let mut bytes = Vec::with_capacity(word.len() * 5 / 8);
    let (mut pending, mut bits) = (0u32, 0);
    for (index, character) in word.chars().enumerate() {
        let value = ALPHABET
            .iter()
            .position(|&letter| char::from(letter) == character.to_ascii_lowercase())
            .ok_or(TicketError::Character { character, position: PREFIX.len() + index + 1 })?;
        pending = pending << 5 | value as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((pending >> bits) as u8);
        }
    }
    // One spelling per ticket: what does not fill a byte is zero, and shorter than a letter.
    let rest = pending & ((1 << bits) - 1);
    if bits >= 5 || rest != 0 { Err(TicketError::Damaged) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use zoo_protocol::NodeKey;

    use super::*;

    fn ticket(addresses: usize) -> Ticket {
        let addresses = (0..addresses).map(|i| format!("127.0.0.{i}:404{i}").parse().unwrap()).collect();
        Ticket { node: NodeKey::from_seed([7; 32]).id(), addresses, relay: None }
    }

    fn relayed(addresses: usize, url: &str, carries_bulk: bool) -> Ticket {
        let relay: Relay = url.parse().unwrap();
        Ticket { relay: Some(relay.carrying_bulk(carries_bulk)), ..ticket(addresses) }
    }

    /// A ticket of these bytes, whatever they are.
    fn word(prefix: &str, payload: &[u8]) -> String {
        let checksum = Digest::of(payload);
        format!("{prefix}{}", base32(&[payload, &checksum.as_bytes()[..CHECKSUM_BYTES]].concat()))
    }

    #[test]
    fn text_round_trips_for_every_number_of_addresses() {
        for count in 1..=8 {
            let text = ticket(count).to_string();
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric()), "one word: {text}");
            assert_eq!(text.parse(), Ok(ticket(count)));
            assert_eq!(format!("  {text}\n").parse(), Ok(ticket(count)));
        }
        let ipv6 = Ticket { addresses: vec!["[2001:db8::1]:65535".parse().unwrap(); 8], ..ticket(1) };
        assert_eq!(ipv6.to_string().parse(), Ok(ipv6));
    }

    #[test]
    fn a_relay_and_what_it_carries_round_trip_with_and_without_addresses() {
        for count in 0..=8 {
            for carries_bulk in [false, true] {
                let ticket = relayed(count, "http://192.0.2.7:3340", carries_bulk);
                let text = ticket.to_string();
                assert!(
                    text.starts_with("zoo2") && text.chars().all(|c| c.is_ascii_alphanumeric()),
                    "{text}"
                );
                assert_eq!(text.parse(), Ok(ticket));
            }
        }
    }

    #[test]
    fn the_longest_ticket_is_within_the_bound() {
        let labels = [63, 63, 63, 61].map(|length| "a".repeat(length)).join(".");
        let longest = Ticket {
            addresses: vec!["[2001:db8::1]:65535".parse().unwrap(); 8],
            ..relayed(0, &format!("https://{labels}:65535"), true)
        };
        let text = longest.to_string();
        assert!(text.len() <= TEXT_BYTES_MAX, "{} characters", text.len());
        assert_eq!(text.parse(), Ok(longest));
    }

    #[test]
    fn a_relay_that_is_spelt_otherwise_is_refused() {
        let peer = || ticket(1).peer();
        let of = |url: &str| {
            let relayed = Relayed { peer: peer(), url: url.to_string(), carries_bulk: true };
            word(PREFIX_RELAYED, &encode(&relayed)).parse::<Ticket>()
        };
        assert!(of("http://192.0.2.7:3340").is_ok());
        for url in [
            "",
            "http://192.0.2.7:3340/",
            "HTTP://192.0.2.7:3340",
            "http://192.0.2.7:80",
            "http://192.0.2.7:3340/elsewhere",
            "http://me@192.0.2.7:3340",
            "ftp://192.0.2.7",
            "192.0.2.7:3340",
            &format!("http://{}", "a".repeat(400)),
        ] {
            assert_eq!(of(url), Err(TicketError::Damaged), "{url}");
        }
        let bytes = encode(&Relayed { peer: peer(), url: "http://192.0.2.7:1".into(), carries_bulk: true });
        let (_, without_last) = bytes.split_last().unwrap();
        for bytes in [&[&bytes[..], &[0]].concat(), &[without_last, &[2]].concat(), without_last] {
            assert_eq!(word(PREFIX_RELAYED, bytes).parse::<Ticket>(), Err(TicketError::Damaged));
        }
        // Each prefix has its own content.
        assert_eq!(word(PREFIX, &bytes).parse::<Ticket>(), Err(TicketError::Damaged));
        let peer = encode(&peer());
        assert_eq!(word(PREFIX_RELAYED, &peer).parse::<Ticket>(), Err(TicketError::Damaged));
        assert_eq!(word(PREFIX, &peer).parse(), Ok(ticket(1)));
    }

    #[test]
    fn a_ticket_is_local_if_all_that_it_names_is() {
        for (ticket, is_local) in [
            (ticket(2), true),
            (relayed(2, "http://127.0.0.1:1", false), true),
            (relayed(0, "http://127.0.0.1:1", false), true),
            (relayed(2, "http://192.0.2.7:1", false), false),
            (Ticket { addresses: vec!["192.0.2.7:1".parse().unwrap()], ..ticket(0) }, false),
        ] {
            assert_eq!(ticket.is_local(), is_local, "{ticket:?}");
        }
    }

    #[test]
    fn every_single_changed_or_missing_letter_is_noticed() {
        for text in [ticket(2).to_string(), relayed(1, "http://192.0.2.7:3340", false).to_string()] {
            for index in PREFIX.len()..text.len() {
                let mut changed = text.clone().into_bytes();
                changed[index] = if changed[index] == b'a' { b'b' } else { b'a' };
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(changed.parse::<Ticket>(), Err(TicketError::Damaged), "{changed}");
                let mut missing = text.clone();
                missing.remove(index);
                assert_eq!(missing.parse::<Ticket>(), Err(TicketError::Damaged), "{missing}");
            }
        }
    }

    #[test]
    fn what_is_not_a_ticket_is_refused_with_its_reason() {
        let word = ticket(1).to_string();
        for (text, expected) in [
            (String::new(), TicketError::Prefix),
            ("http://example.org".into(), TicketError::Prefix),
            ("zoo".into(), TicketError::Prefix),
            ("zoo1".into(), TicketError::Damaged),
            ("zoo2".into(), TicketError::Damaged),
            (word.replacen("zoo1", "zoo2", 1), TicketError::Damaged),
            (word.replacen("zoo1", "zoo3", 1), TicketError::Version),
            (format!("{word} x"), TicketError::Character { character: ' ', position: word.len() + 1 }),
            (format!("zoo1{}", "a".repeat(100_000)), TicketError::Damaged),
            (format!("zoo2{}", "a".repeat(100_000)), TicketError::Damaged),
            (ticket(0).to_string(), TicketError::NoAddress),
            (ticket(9).to_string(), TicketError::Damaged),
            (relayed(9, "http://192.0.2.7:1", true).to_string(), TicketError::Damaged),
        ] {
            assert_eq!(text.parse::<Ticket>(), Err(expected), "{text:.80}");
        }
    }
}
