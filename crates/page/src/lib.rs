//! A page for the owner of a PNode, on the node's own machine: what it does, what it did, what became of it, its limits; pause and resume.
//!
//! ```text
//! events of the node -- Record (a fold) --> GET /v1/node --> page, once a second
//! page -- POST /v1/node/pause, /v1/node/resume --> the node's directory --> whoever runs the node looks there
//! ```
//!
//! # Invariants
//!
//! - **Only this machine is listened to**, under its own names: another site's page whose name was made to point here is refused.
//! - **Only the page itself changes something**: a request that does carries a header that a browser lets no other site send, and is
//!   refused if the browser says that another site makes it.
//! - **The page says what the node can know.** What it cannot, such as why others left its contribution out, is not guessed.
//! - **Text stays text**: the page's policy knows no inline script and no way from text to HTML.
//!
//! # What is not here
//!
//! No key: whoever can open a port of this machine may pause the node, and can do nothing else. No cross-origin access, no other host.
//! No pausing itself: a pause is a file in the node's directory (`zoo_home::pause`).

mod record;
mod rounds;
mod routes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zoo_http::Patience;

pub use record::{About, Limits, Record, Stance};

/// For answers that are on their way when the node ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// With what the page starts.
#[derive(Clone)]
pub struct PageOptions {
    /// Where it listens, on the loopback interface; port 0 takes any free port.
    pub listen: SocketAddr,
    /// The node's directory, where a pause is written.
    pub directory: PathBuf,
    /// What it shows.
    pub record: Arc<Record>,
}

/// Why the page does not start.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// Others could reach it.
    #[error(
        "other machines could reach {0}, and the page of a node is for its owner alone\n\
         hint: an address such as 127.0.0.1:4090; from another machine, ssh -L 4090:127.0.0.1:4090 shows it there"
    )]
    NotLoopback(SocketAddr),
    /// The address is taken, or not this machine's.
    #[error(
        "cannot listen for HTTP on {address}: {cause}\nhint: choose another port with --page, or none with --no-page"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the operating system said.
        cause: std::io::Error,
    },
}

/// The page, served.
#[derive(Debug)]
pub struct Page {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Page {
    /// Listens, and answers from now on.
    ///
    /// # Errors
    /// An address that others can reach, or that cannot be had.
    pub async fn start(options: PageOptions) -> Result<Self, PageError> {
        let PageOptions { listen, directory, record } = options;
        if !listen.ip().is_loopback() {
            return Err(PageError::NotLoopback(listen));
        }
        let failed = |cause| PageError::Listen { address: listen, cause };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, mut stopped) = watch::channel(false);
        let told = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let patience = Patience { farewell: FAREWELL, ..Patience::default() };
        let router = routes::router(directory, record);
        let serving = tokio::spawn(zoo_http::serve(listener, router, None, patience, told));
        Ok(Self { address, stop, serving })
    }

    /// The URL that people on this machine open.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends every connection, those that are being answered last.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // Whatever ended it, it has ended.
        let _ = self.serving.await;
    }
}
