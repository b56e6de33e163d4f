//! The iroh transport: endpoints, framed messages, blob exchange.
//!
//! One [`Endpoint`] per process. It speaks three protocols over QUIC, told apart
//! by their ALPN:
//!
//! - `zoo/control`: one long-lived stream of length-prefixed messages between an
//!   orchestrator and whoever connects to it ([`ControlStream`]). The first message
//!   carries the version, so a stranger gets an answer instead of a failed handshake.
//! - `zoo/blobs/3`: one short stream per slice of a blob, or for all small blobs that are wanted of a peer at the
//!   moment ([`Endpoint::fetch`]). What arrives is hashed before anybody sees it.
//!
//! - `zoo/frames`: one long-lived stream of frames whose meaning is their users' own ([`Frames`]): a pipeline's stages talk so.
//!
//! Both sides are authenticated by their ed25519 keys: a [`zoo_protocol::NodeId`] on
//! a connection is proven, not claimed.
//!
//! ```no_run
//! # async fn example(key: zoo_protocol::NodeKey, store: std::sync::Arc<dyn zoo_content::BlobStore>) -> Result<(), zoo_network::NetworkError> {
//! use zoo_network::{BindOptions, Endpoint};
//!
//! let listen = "127.0.0.1:0".parse().unwrap();
//! let endpoint = Endpoint::bind(BindOptions { key: &key, listen, relay: None }).await?;
//! endpoint.serve_blobs(store);
//! println!("join with: zoo join {}", endpoint.ticket());
//! endpoint.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Relays
//!
//! Without a [`Relay`] an endpoint reaches the addresses it was told and no others. With one it keeps a connection to it, and whom it
//! cannot reach directly it meets there; both sides then try to open a direct path, and what was begun goes on over it. Every
//! endpoint dials others through its own relay: no message and no peer can name one. Blobs of more than
//! [`limits::RELAYED_BLOB_BYTES_MAX`] wait for the direct path, and are refused without, unless the relay carries bulk.
//!
//! # What is not here
//!
//! No discovery service, no port mapping, no relay but the one that is named, no name looked up but its own, and that only at
//! the name servers of this machine. No decision about whom to ask or what
//! to send: callers order the peers. No transport trait either: what the
//! simulator replaces is the *conversation* (values of `zoo_protocol`'s enums
//! and a `BlobStore`), which needs nothing from this crate; a trait over
//! sockets would have one implementation.
//!
//! # Bounds
//!
//! A peer can make this crate hold at most [`limits`] of anything.

mod allowance;
mod blobs;
mod callers;
mod control;
mod download;
mod endpoint;
mod error;
mod frames;
mod greeting;
pub mod limits;
mod meeting;
mod meter;
mod pace;
mod relay;
mod room;
mod serve;
mod small;
mod swarm;
mod ticket;

pub use allowance::Allowance;
pub use control::{ControlConnection, ControlReceiver, ControlSender, ControlStream};
pub use endpoint::{BindOptions, Endpoint, Traffic};
pub use error::{FetchError, FetchFailure, NetworkError};
pub use frames::{FrameReceiver, FrameSender, Frames, FramesConnection};
pub use relay::{RELAY_URL_BYTES_MAX, Relay, RelayUrlError};
pub use ticket::{Ticket, TicketError};
