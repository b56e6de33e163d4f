//! Connections of HTTP servers: bounded in number, time and size; ended well; with TLS if there is no proxy in front.
//!
//! What is answered is not known here: whoever serves brings its routes, and says [`Patience`] where it differs.

mod browsers;
mod own_name;
mod patient;
mod server;
mod tls;

pub use browsers::{OWN_FILES_ONLY, guard};
pub use own_name::{is_from_another_site, is_own_name, names_another};
pub use server::{HEAD_BYTES_MAX, HEADERS_MAX, Patience, serve};
pub use tls::{Tls, TlsError};
