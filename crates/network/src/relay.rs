//! Which relay a network meets at.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Longest URL of a relay, bytes: the longest host name, with scheme and port.
pub const RELAY_URL_BYTES_MAX: usize = HOST_BYTES_MAX + "https://:65535".len();
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A relay, and what may go over it.
///
/// It comes from a ticket or from the command line of whoever runs the network, never from a message: a node knows one relay at
/// most, and nobody can send it to another. The relay passes sealed datagrams on; who is at the other end is proven by keys.
///
/// Its text is a URL of a scheme, a host and a port, in one spelling.
///
/// ```
/// # use zoo_network::Relay;
/// let relay: Relay = "http://192.0.2.7:3340/".parse().unwrap();
/// assert_eq!(relay.to_string(), "http://192.0.2.7:3340");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    is_secure: bool,
    host: String,
    port: u16,
    carries_bulk: bool,
}

/// Why a text is not the URL of a relay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not the URL of a relay: {cause}\n\
     hint: `zoo relay` prints one, such as http://192.0.2.7:3340"
)]
pub struct RelayUrlError {
    text: String,
    cause: &'static str,
}

impl Relay {
    /// The same relay; blobs of any size may go over it, or only those of at most `limits::RELAYED_BLOB_BYTES_MAX`.
    pub fn carrying_bulk(self, carries_bulk: bool) -> Self {
        Self { carries_bulk, ..self }
    }

    /// Whether blobs of any size may go over it.
    pub fn carries_bulk(&self) -> bool {
        self.carries_bulk
    }

    /// Its host: a name in lower case, or an address without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// The port on which it listens, over TCP and UDP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it speaks HTTPS, so that its certificate is checked.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        let ip: Result<IpAddr, _> = self.host().parse();
        ip.map_or(self.host == "localhost", |ip| ip.is_loopback())
    }
}

/// The port that a URL need not name.
fn usual_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == usual_port(self.is_secure) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl FromStr for Relay {
    type Err = RelayUrlError;

    /// A relay that carries no bulk.
    fn from_str(text: &str) -> Result<Self, RelayUrlError> {
        parse(text).map_err(|cause| RelayUrlError {
            text: text.chars().take(80).filter(|c| !c.is_control()).collect(),
            cause,
        })
    }
}

fn parse(text: &str) -> Result<Relay, &'static str> {
    if text.len() > RELAY_URL_BYTES_MAX + 1 {
        return Err("it is too long");
    }
    let text = text.to_ascii_lowercase();
    let (is_secure, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err("it does not begin with http:// or https://"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return Err("it has more than a scheme, a host and a port");
    }
    // What follows the last colon is a port, unless that is within the brackets of an IPv6 address.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| "its port is no number")?)
        }
        _ => (rest, usual_port(is_secure)),
    };
    if port == 0 {
        return Err("nobody listens on port 0");
    }
    Ok(Relay { is_secure, host: host_of(host)?, port, carries_bulk: false })
}

/// A host as it is spelt.
fn host_of(text: &str) -> Result<String, &'static str> {
    if let Some(ip) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let ip: Ipv6Addr = ip.parse().map_err(|_| "its host is no IPv6 address")?;
        return Ok(format!("[{ip}]"));
    }
    let is_label = |label: &str| {
        let ends_well = !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
        let spelt_well = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ends_well && label.len() <= LABEL_BYTES_MAX && label.chars().all(spelt_well)
    };
    if text.len() > HOST_BYTES_MAX || !text.split('.').all(is_label) {
        return Err("its host is neither a name nor an address");
    }
    // Others would read such a name as an address, in one of many spellings.
    let last = text.rsplit('.').next().unwrap_or_default();
    if last.starts_with(|c: char| c.is_ascii_digit()) {
        let ip: Ipv4Addr = text.parse().map_err(|_| "its host is no IPv4 address")?;
        return Ok(ip.to_string());
    }
    Ok(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_a_scheme_a_host_and_a_port_and_has_one_spelling() {
        for (text, spelt, port, is_local) in [
            ("http://127.0.0.1:3340", "http://127.0.0.1:3340", 3340, true),
            ("http://127.0.0.1:3340/", "http://127.0.0.1:3340", 3340, true),
            ("HTTP://Relay.Example:80", "http://relay.example", 80, false),
            ("https://relay.example", "https://relay.example", 443, false),
            ("https://relay.example:80", "https://relay.example:80", 80, false),
            ("http://[::1]:9", "http://[::1]:9", 9, true),
            ("http://[2001:DB8:0::1]", "http://[2001:db8::1]", 80, false),
            ("http://localhost:9", "http://localhost:9", 9, true),
            ("http://10.1.2.3", "http://10.1.2.3", 80, false),
        ] {
            let relay: Relay = text.parse().unwrap();
            assert_eq!(relay.to_string(), spelt, "{text}");
            assert_eq!((relay.port(), relay.is_local()), (port, is_local), "{text}");
            assert_eq!(relay.to_string().parse(), Ok(relay), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_relay_is_refused_with_its_cause() {
        let long = format!("http://{}", "a".repeat(RELAY_URL_BYTES_MAX));
        for (text, cause) in [
            ("", "does not begin"),
            ("192.0.2.7:3340", "does not begin"),
            ("ftp://host:1", "does not begin"),
            ("http://", "host"),
            ("http://:80", "host"),
            ("http://a..b", "host"),
            ("http://-a", "host"),
            ("http://a b", "host"),
            ("http://127.1:9", "no IPv4"),
            ("http://0x7f.0.0.1:9", "no IPv4"),
            ("http://[127.0.0.1]:9", "no IPv6"),
            ("http://[::1", "host"),
            ("http://::1:9", "host"),
            ("http://host:1/relay", "more than"),
            ("http://host:1//", "more than"),
            ("http://host:1?token=1", "more than"),
            ("http://host:1#here", "more than"),
            ("http://me:secret@host:1", "more than"),
            ("http://host:0", "port 0"),
            ("http://host:", "port"),
            ("http://host:65536", "port"),
            (long.as_str(), "too long"),
        ] {
            let error = text.parse::<Relay>().unwrap_err().to_string();
            assert!(error.contains(cause) && error.contains("hint: "), "{text:.80}: {error}");
            assert!(error.len() < 300, "{error}");
        }
    }
}
