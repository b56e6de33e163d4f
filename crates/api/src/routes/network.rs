//! Nodes, checkpoints, blobs.

use std::collections::BTreeMap;
use std::ops::Bound;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use tokio::task::spawn_blocking;
use zoo_content::Digest;
use zoo_protocol::NodeId;
use zoo_state::Activity;

use super::limit;
use crate::app::App;
use crate::extract::{Asked, MayRead, Named};
use crate::problem::Problem;
use crate::schema::{Checkpoint, Checkpoints, Node, Nodes, NodesPage};

/// List nodes
#[utoipa::path(
    get, path = "/v1/nodes", tag = "network", params(NodesPage),
    responses((status = 200, description = "Some of them", body = Nodes),
        (status = 400, description = "The query makes no sense", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn nodes(
    _: MayRead,
    State(app): State<App>,
    Asked(page): Asked<NodesPage>,
) -> Result<Json<Nodes>, Problem> {
    let limit = limit(page.limit, 1000, 10_000)?;
    let after = page.cursor.map(|cursor| cursor.parse::<NodeId>()).transpose();
    let after = after.map_err(|cause| Problem::invalid(format!("cursor: {cause}")))?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    Ok(Json(app.replica.read(|state| {
        let wanted = |live: bool| page.live.is_none_or(|wanted| wanted == live);
        let known = state.nodes().range((from, Bound::Unbounded)).filter(|(_, node)| wanted(node.live));
        let mut found: Vec<&NodeId> = known.map(|(id, _)| id).take(limit + 1).collect();
        let next = (found.len() > limit).then(|| found[limit - 1].to_string());
        found.truncate(limit);
        let activities: BTreeMap<NodeId, Activity> = state.activities().collect();
        let nodes = found.into_iter().filter_map(|id| {
            let activity = activities.get(id).copied().unwrap_or(Activity::Away);
            let standing = (state.is_suspect(id), activity);
            Some(Node::of(id, state.nodes().get(id)?, standing, app.statuses.of(id)))
        });
        Nodes { nodes: nodes.collect(), next, live: state.live().count(), known: state.nodes().len() }
    })))
}

/// Look at a node
#[utoipa::path(
    get, path = "/v1/nodes/{id}", tag = "network", params(("id" = String, Path, description = "The node's key")),
    responses((status = 200, description = "The node", body = Node),
        (status = 400, description = "No key", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such node", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn node(
    _: MayRead,
    State(app): State<App>,
    Named(id): Named<NodeId>,
) -> Result<Json<Node>, Problem> {
    let node = app.replica.read(|state| {
        let standing = (state.is_suspect(&id), state.activity_of(&id));
        Some(Node::of(&id, state.nodes().get(&id)?, standing, app.statuses.of(&id)))
    });
    node.map(Json).ok_or_else(|| {
        Problem::not_found(format!("there is no node {}; hint: GET /v1/nodes lists them", id.short()))
    })
}

/// List the checkpoints that are kept
#[utoipa::path(
    get, path = "/v1/checkpoints", tag = "network",
    responses((status = 200, description = "All of them", body = Checkpoints)),
)]
pub(crate) async fn checkpoints(_: MayRead, State(app): State<App>) -> Json<Checkpoints> {
    Json(app.replica.read(|state| {
        let jobs = state.checkpoints().jobs();
        let kept = jobs.flat_map(|(job, kept)| {
            let redundancy = kept.plan.redundancy;
            kept.rounds.iter().map(move |(round, kept)| Checkpoint::of(job, *round, redundancy, kept, state))
        });
        Checkpoints { checkpoints: kept.collect() }
    }))
}

/// Get a blob
///
/// One that the orchestrator holds: specifications, data, tokenizers, and the checkpoints that jobs began with. Everything else is with
/// the nodes. What a digest names never changes.
#[utoipa::path(
    get, path = "/v1/blobs/{digest}", tag = "network", params(("digest" = String, Path, description = "BLAKE3, 64 hex digits")),
    responses((status = 200, description = "Its bytes", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 400, description = "No digest", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "It is not here", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn blob(
    _: MayRead,
    State(app): State<App>,
    Named(digest): Named<Digest>,
) -> Result<impl IntoResponse, Problem> {
    let store = app.handle.store().clone();
    let absent = || Problem::not_found(format!("the orchestrator does not hold blob {}", digest.short()));
    if !store.contains(&digest) {
        return Err(absent());
    }
    let blob =
        spawn_blocking(move || store.get(&digest)).await.map_err(Problem::internal)?.map_err(|_| absent())?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ETAG, format!("\"{digest}\"")),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
    ];
    Ok((headers, blob.bytes().to_vec()))
}
