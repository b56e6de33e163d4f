//! How to reach a node, as one word that survives copy and paste.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use zoo_content::Digest;
use zoo_protocol::{NodeId, Peer, decode, encode};

/// Begins every ticket: the name, and the version of what follows.
const PREFIX: &str = "zoo1";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const CHECKSUM_BYTES: usize = 4;
/// Eight IPv6 addresses, the key and the checksum take under 400 characters.
const TEXT_BYTES_MAX: usize = 1024;

/// A node and where it listens.
///
/// Its text is `zoo1` followed by lower-case base32 (RFC 4648, no padding) of the
/// postcard-encoded [`Peer`] and the first four bytes of its BLAKE3 digest, so
/// that a ticket that lost a letter is told from one whose node is gone.
///
/// ```
/// # use zoo_network::Ticket;
/// # use zoo_protocol::NodeKey;
/// let ticket = Ticket { node: NodeKey::from_seed([7; 32]).id(), addresses: vec!["127.0.0.1:4040".parse().unwrap()] };
/// assert_eq!(ticket.to_string().parse::<Ticket>().unwrap(), ticket);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The node; whoever answers must prove to be it.
    pub node: NodeId,
    /// Where it listens; from 1 to 8 addresses.
    pub addresses: Vec<SocketAddr>,
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
    /// It is whole, and names no address.
    #[error("the ticket names no address\nhint: ask for a new one")]
    NoAddress,
}

impl From<Ticket> for Peer {
    fn from(ticket: Ticket) -> Self {
        Self { node: ticket.node, addresses: ticket.addresses }
    }
}

impl From<Peer> for Ticket {
    fn from(peer: Peer) -> Self {
        Self { node: peer.node, addresses: peer.addresses }
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = encode(&Peer::from(self.clone()));
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
        write!(f, "{PREFIX}{}", base32(&bytes))
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let word = text.strip_prefix(PREFIX).ok_or_else(|| match text.strip_prefix("zoo") {
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
        let ticket = Self::from(decode::<Peer>(payload).map_err(|_| TicketError::Damaged)?);
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
        Ticket { node: NodeKey::from_seed([7; 32]).id(), addresses }
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
    fn every_single_changed_or_missing_letter_is_noticed() {
        let text = ticket(2).to_string();
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

    #[test]
    fn what_is_not_a_ticket_is_refused_with_its_reason() {
        let word = ticket(1).to_string();
        for (text, expected) in [
            (String::new(), TicketError::Prefix),
            ("http://example.org".into(), TicketError::Prefix),
            ("zoo".into(), TicketError::Prefix),
            ("zoo1".into(), TicketError::Damaged),
            (word.replacen("zoo1", "zoo2", 1), TicketError::Version),
            (format!("{word} x"), TicketError::Character { character: ' ', position: word.len() + 1 }),
            (format!("zoo1{}", "a".repeat(100_000)), TicketError::Damaged),
            (ticket(0).to_string(), TicketError::NoAddress),
            (ticket(9).to_string(), TicketError::Damaged),
        ] {
            assert_eq!(text.parse::<Ticket>(), Err(expected), "{text:.80}");
        }
    }
}
