//! A job's model, as files.

use std::io::ErrorKind;
use std::path::PathBuf;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use futures_util::stream::unfold;
use tokio::fs;
use tokio::io::AsyncReadExt;
use tokio::task::spawn_blocking;
use zoo_content::Digest;
use zoo_job::Fetched;
use zoo_protocol::JobId;

use super::jobs::unknown;
use crate::app::App;
use crate::extract::{Asked, MayRead, Named};
use crate::problem::Problem;
use crate::schema::{Model, ModelAt, ModelFile};

/// Bytes of a file that are in memory at once.
const CHUNK_BYTES: usize = 256 << 10;

/// List the files of a job's model
///
/// The newest checkpoint, or the one that is asked for, as a folder that Hugging Face's libraries read. The first time, the
/// orchestrator fetches it from the nodes.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/model", tag = "jobs", params(ModelAt, ("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "Its files", body = Model),
        (status = 400, description = "No id or no digest", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job, or no such checkpoint of it", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No round of it is finished yet", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Nobody who has it can be reached", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn files(
    _: MayRead,
    State(app): State<App>,
    Named(id): Named<JobId>,
    Asked(asked): Asked<ModelAt>,
) -> Result<Json<Model>, Problem> {
    let checkpoint = checkpoint_of(&app, &id, &asked)?;
    let folder = exported(&app, checkpoint).await?;
    let mut listed = fs::read_dir(&folder).await.map_err(Problem::internal)?;
    let mut files = Vec::new();
    while let Some(entry) = listed.next_entry().await.map_err(Problem::internal)? {
        let bytes = entry.metadata().await.map_err(Problem::internal)?.len();
        files.extend(entry.file_name().into_string().ok().map(|name| ModelFile { name, bytes }));
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(Model { checkpoint: checkpoint.to_string(), files }))
}

/// Get a file of a job's model
///
/// Who fetches several files names the `checkpoint` that the list says: a job that goes on may have a newer one by then.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/model/{name}", tag = "jobs",
    params(ModelAt, ("id" = String, Path, description = "The job's id"), ("name" = String, Path, description = "The file's name")),
    responses((status = 200, description = "Its bytes", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 400, description = "No id or no digest", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job, checkpoint or file", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No round of it is finished yet", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Nobody who has it can be reached", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn file(
    _: MayRead,
    State(app): State<App>,
    Path((id, name)): Path<(String, String)>,
    Asked(asked): Asked<ModelAt>,
) -> Result<impl IntoResponse, Problem> {
    let id: JobId = id.parse().map_err(|cause| Problem::invalid(format!("{id:?} in the path: {cause}")))?;
    let folder = exported(&app, checkpoint_of(&app, &id, &asked)?).await?;
    let absent = || {
        Problem::not_found(format!(
            "the model has no file {name:?}; hint: GET /v1/jobs/{id}/model lists them"
        ))
    };
    // A name is one of those that are listed, never a way to another folder.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        return Err(absent());
    }
    let file = match fs::File::open(folder.join(&name)).await {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Err(absent()),
        file => file.map_err(Problem::internal)?,
    };
    let bytes = file.metadata().await.map_err(Problem::internal)?.len();
    let chunks = unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        match file.read(&mut chunk).await {
            Ok(0) => None,
            Ok(read) => {
                chunk.truncate(read);
                Some((Ok(chunk), file))
            }
            Err(cause) => Some((Err(cause), file)),
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
    ];
    Ok((headers, Body::from_stream(chunks)))
}

/// The checkpoint that is asked for, or else the newest.
fn checkpoint_of(app: &App, id: &JobId, asked: &ModelAt) -> Result<Digest, Problem> {
    let asked = asked.checkpoint.as_ref().map(|text| text.parse::<Digest>()).transpose();
    let asked = asked.map_err(|cause| Problem::invalid(format!("checkpoint: {cause}")))?;
    let known = app.feed.history(|history| {
        let record = history.job(id)?;
        let of_rounds = record.rounds.iter().filter_map(|round| round.checkpoint);
        Some(of_rounds.chain(record.checkpoint).collect::<Vec<Digest>>())
    });
    let known = known.ok_or_else(|| unknown(id))?;
    match (asked, known.last()) {
        (Some(asked), _) if known.contains(&asked) => Ok(asked),
        (Some(asked), _) => Err(Problem::not_found(format!(
            "the job has no checkpoint {}; hint: GET /v1/jobs/{id}/rounds lists those that it had, GET /v1/checkpoints \
             those that are kept",
            asked.short()
        ))),
        (None, Some(newest)) => Ok(*newest),
        (None, None) => {
            let detail =
                "no round of the job is finished yet; hint: watch /v1/jobs/ID/events for round_finished";
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
    }
}

/// The folder with the model of this checkpoint, which is made the first time that somebody asks.
async fn exported(app: &App, checkpoint: Digest) -> Result<PathBuf, Problem> {
    let models = app.directory.join("models");
    let folder = models.join(checkpoint.to_string());
    let _turn = app.exports.acquire().await.map_err(|_| Problem::stopping())?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let is_kept =
        |state: &zoo_state::State| state.checkpoints().iter().any(|(_, _, kept)| kept.digest == checkpoint);
    if !app.replica.read(is_kept) {
        let detail = format!("no node keeps checkpoint {} any more", checkpoint.short());
        return Err(Problem::not_found(format!(
            "{detail}; hint: GET /v1/checkpoints lists those that are kept"
        )));
    }
    fs::create_dir_all(&models).await.map_err(Problem::internal)?;
    let peers = app.handle.peers();
    let fetched = Fetched::fetch(
        app.handle.endpoint(),
        Some(app.handle.store().as_ref()),
        &peers,
        &checkpoint,
        |_, _| {},
    );
    let fetched = fetched.await.map_err(|cause| {
        let detail = format!("checkpoint {} cannot be fetched: {cause:#}", checkpoint.short());
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    let made = folder.clone();
    let exporting = spawn_blocking(move || fetched.export(&fetched.network()?, Vec::new(), &made));
    exporting.await.map_err(Problem::internal)?.map_err(|cause| Problem::internal(format!("{cause:#}")))?;
    Ok(folder)
}
