//! What is served.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::App;
use super::error::ApiError;
use crate::served::Served;

pub(super) async fn list(State(app): State<App>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [describe(&app)] }))
}

pub(super) async fn one(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    check_name(&app.served, Some(&name))?;
    Ok(Json(describe(&app)))
}

pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Refuses the name of another model.
pub(super) fn check_name(served: &Served, asked: Option<&str>) -> Result<(), ApiError> {
    match asked {
        Some(name) if name != served.name && name != served.digest.to_string() => {
            let message = format!(
                "the model '{}' does not exist\nhint: this server has '{}'",
                name.chars().take(200).collect::<String>(),
                served.name
            );
            Err(ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model"))
        }
        _ => Ok(()),
    }
}

fn describe(app: &App) -> Value {
    let served = &app.served;
    json!({
        "id": served.name,
        "object": "model",
        "created": 0,
        "owned_by": "zoo",
        "max_model_len": app.engine.capacity().positions,
        "zoo": { "model": served.digest, "profile": served.profile },
    })
}
