//! Every bound of the transport, by name.

use std::time::Duration;

/// Incoming connections open at once; for more, those from where the most are give way.
pub const CONNECTIONS_MAX: usize = 1024;

/// Of those, from one address.
pub const CONNECTIONS_MAX_EACH: usize = 256;

/// Of those, of one key from one address.
pub const CONNECTIONS_OF_KEY_MAX: usize = 16;

/// Handshakes under way at once.
pub const HANDSHAKES_MAX: usize = 128;

/// Of those, from one address.
pub const HANDSHAKES_MAX_EACH: usize = 32;

/// When so many are under way, who calls has to show first that it is where it says.
pub const HANDSHAKES_BEFORE_PROOF: usize = 64;

/// Handshakes a second, after [`HANDSHAKES_AT_ONCE`] of them.
pub const HANDSHAKES_PER_S: f64 = 64.0;
/// See [`HANDSHAKES_PER_S`].
pub const HANDSHAKES_AT_ONCE: f64 = 512.0;

/// Of those, from one address.
pub const HANDSHAKES_PER_S_EACH: f64 = 16.0;
/// See [`HANDSHAKES_PER_S_EACH`].
pub const HANDSHAKES_AT_ONCE_EACH: f64 = 256.0;

/// Addresses whose calls are counted.
pub const SOURCES_REMEMBERED_MAX: usize = 4096;

/// Control connections accepted by the endpoint and not yet taken by its owner.
pub const CONTROL_BACKLOG_MAX: usize = 64;

/// Blobs being looked up at once. Each is in memory meanwhile.
pub const SERVING_MAX: usize = 16;

/// Slices, of at most 1 MiB, that are on their way at once; they are in memory until they have arrived.
pub const SENDING_MAX: usize = 128;

/// Of those, to one address.
pub const SENDING_MAX_EACH: usize = 64;

/// Requests of one connection that are answered at once; others wait to be read.
pub const ASKED_AT_ONCE_MAX: usize = 16;

/// Where slices wait for others, one that takes so long gives way.
pub const SLOW_SLICE: Duration = Duration::from_secs(2);

/// Blobs being fetched at once; further fetches wait their turn.
pub const FETCHING_MAX: usize = 16;

/// Small blobs, of one leaf each, that are asked of a peer on one stream.
pub const SMALL_BLOBS_MAX: usize = 64;

/// A small blob that is wanted waits so long for others that are wanted of the same peer, as long as more of them come ...
pub const GATHERING: Duration = Duration::from_millis(1);

/// ... and at most so long.
pub const GATHERING_MAX: Duration = Duration::from_millis(8);

/// Peers that one blob is fetched from at once.
pub const SOURCES_MAX: usize = 4;

/// Streams one peer may have open on one connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 64;

/// Peers to whom a connection is remembered for reuse.
pub const REMEMBERED_PEERS_MAX: usize = 1024;

/// Unread or unacknowledged bytes on one stream. The QUIC implementation gives up a
/// connection whose stream has more than 1,024 separate spans waiting for lost packets; with
/// packets of 1,200 bytes and every second one lost, 2 MiB make 874. (With 16 MiB a burst of
/// losses on a busy machine did end connections.) Bulk gets its speed from several streams.
pub const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// Unread bytes on a connection over which nothing is fetched: who calls can send no more unasked.
pub const UNASKED_WINDOW_BYTES: u32 = 256 << 10;

/// Unread or unacknowledged bytes on one connection: 16 MiB keep a link of 1 Gbit/s and
/// 130 ms busy.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A connection that carries nothing else says this often that it is alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A connection from which nothing arrives for so long is gone. Who is killed says nothing, and until then everybody who was
/// talking to it waits: training has to go on within 5 s, calls again included.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection is up, and its first bytes are here, within this time.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A peer that could not be reached is not tried again for this long.
pub const UNREACHABLE_MEMORY: Duration = Duration::from_secs(1);

/// A peer that is asked for a sign of life gives it within this time.
pub const PING_TIMEOUT: Duration = Duration::from_millis(700);

/// A peer starts to answer a blob request within this time: it may have to
/// read and hash the blob, and has others to serve.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(15);

/// Between two pieces of one blob passes at most this time, on both sides.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// A slice of a blob, at most 1 MiB, is here within this time. What of it has arrived by then stays.
pub const SLICE_TIMEOUT: Duration = Duration::from_secs(60);

/// What was written of a slice has arrived within this time.
pub const ARRIVAL_TIMEOUT: Duration = SLICE_TIMEOUT;

/// How long a close waits for the last messages to arrive.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The largest blob that goes over a relay which carries no bulk, bytes: what describes a round does, its parameters do not.
pub const RELAYED_BLOB_BYTES_MAX: u64 = 64 << 10;

/// A larger blob waits so long for a direct path to a peer that is met at a relay.
pub const DIRECT_PATH_TIMEOUT: Duration = Duration::from_secs(5);

/// It asks whether there is one so often.
pub(crate) const DIRECT_PATH_POLL: Duration = Duration::from_millis(200);

/// A relay that is there is met within this time.
pub const RELAY_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A blob is sent and received in pieces of at most this many bytes.
pub(crate) const PIECE_BYTES: usize = 256 << 10;
