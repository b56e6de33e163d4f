//! A relay: where nodes meet that cannot reach each other directly.
//!
//! It passes sealed datagrams on between nodes by their keys, and tells each node the address under which it is seen, so that two
//! nodes behind routers can open a direct path. It reads nothing, keeps nothing and is not trusted: nodes prove their keys to each other
//! through it.
//!
//! ```no_run
//! # async fn example() -> Result<(), zoo_relay::RelayError> {
//! use zoo_relay::{Relay, RelayOptions};
//!
//! let relay = Relay::start(RelayOptions::on("0.0.0.0:3340".parse().unwrap())).await?;
//! println!("zoo up --relay {}", relay.url());
//! relay.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! One port, twice: HTTP or HTTPS over TCP, over which clients keep a connection, and QUIC over UDP, which answers what address it sees.
//!
//! # What is not here
//!
//! No certificate is fetched, no other host is called, nothing is written to disk. Nothing here knows what the nodes say.

mod error;
pub mod limits;
mod server;
mod tls;

pub use error::RelayError;
pub use server::{Counters, Relay, RelayOptions};
pub use tls::TlsFiles;
