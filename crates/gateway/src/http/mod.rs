//! The HTTP surface: one file a family of routes.

mod answer;
mod body;
mod chat;
mod completions;
mod error;
mod guard;
mod metrics;
mod models;
mod page;
mod request;
mod server;
mod stream;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

use crate::engine::Engine;
use crate::served::Served;

pub use server::{Server, ServerError, ServerSettings};

/// What every handler knows.
#[derive(Clone)]
pub(crate) struct App {
    pub engine: Engine,
    pub served: Arc<Served>,
    pub guard: Arc<guard::Guard>,
    /// How long a request may take to arrive.
    pub patience: std::time::Duration,
}

/// Works on text where that holds up nobody else: cutting a long one into tokens takes a while.
async fn beside<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Served) -> T + Send + 'static,
) -> Result<T, error::ApiError> {
    let served = Arc::clone(&app.served);
    let done = tokio::task::spawn_blocking(move || work(&served)).await;
    done.map_err(|error| error::ApiError::failed(format!("the text cannot be worked on: {error}")))
}

/// All routes.
pub(crate) fn router(app: App) -> Router {
    let guarded = Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{name}", get(models::one))
        .route("/v1/completions", post(completions::create))
        .route("/v1/chat/completions", post(chat::create))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::info))
        .route("/metrics", get(metrics::show))
        .route_layer(middleware::from_fn_with_state(app.clone(), guard::require_key));
    Router::new()
        .route("/", get(page::show))
        .route("/health", get(models::health))
        .merge(guarded)
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(middleware::from_fn_with_state(app.clone(), guard::require_own_name))
        .with_state(app)
}
