//! The server: where it listens, and until when.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use zoo_http::Patience;

use super::guard::Guard;
use super::{App, router};
use crate::engine::Engine;
use crate::limits::GRACE;
use crate::served::Served;

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where to listen; port 0 takes any free port.
    pub listen: SocketAddr,
    /// What every request must carry as its bearer key, if anything.
    pub api_key: Option<String>,
    /// How long a request may take to arrive: [`crate::limits::PATIENCE`] unless there is a reason.
    pub patience: Duration,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not this machine's.
    #[error(
        "cannot listen on {address}: {cause}\nhint: choose another address with --listen; port 0 takes any free port"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: App,
}

impl Server {
    /// Listens, and answers once [`Server::run_until`] runs.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start(
        engine: Engine,
        served: Arc<Served>,
        settings: ServerSettings,
    ) -> Result<Self, ServerError> {
        let refuse = |cause| ServerError::Listen { address: settings.listen, cause };
        let listener = TcpListener::bind(settings.listen).await.map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let guard = Guard::new(settings.api_key.as_deref(), address.ip().is_loopback());
        let app = App { engine, served, guard: Arc::new(guard), patience: settings.patience };
        Ok(Self { listener, address, app })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop`; those that have begun then have a little longer.
    pub async fn run_until(self, stop: impl Future<Output = ()>) {
        let patience = Patience { head: self.app.patience, farewell: GRACE, ..Patience::default() };
        zoo_http::serve(self.listener, router(self.app), None, patience, stop).await;
    }
}
