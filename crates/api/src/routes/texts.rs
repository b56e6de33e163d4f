//! Text to train on, uploaded before the job that names it.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::StreamExt;
use tokio::fs;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use zoo_content::{Digest, Hasher};

use crate::app::App;
use crate::extract::MaySubmit;
use crate::problem::Problem;
use crate::schema::Text;
use crate::submission::{Texts, UNFINISHED};

/// Largest text, bytes.
pub(crate) const TEXT_BYTES_MAX: u64 = 1 << 30;
/// All texts together, bytes.
const TEXTS_BYTES_MAX: u64 = 64 << 30;
/// Who sends nothing for so long has gone.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// Upload text
///
/// One document, or one file of many; UTF-8, at most 1 GiB. What comes back as `data` is what a job's key `data` names it by; a job of
/// several names them all, with commas between. What is uploaded twice is there once.
#[utoipa::path(
    post, path = "/v1/texts", tag = "jobs", security(("key" = [])),
    request_body(content = String, description = "The text", content_type = "text/plain"),
    responses((status = 201, description = "It is here", body = Text),
        (status = 400, description = "It is empty, or broke off", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "A key is needed", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "It came too slowly", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "It is too large", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn upload(
    _: MaySubmit,
    State(app): State<App>,
    body: Body,
) -> Result<(StatusCode, Json<Text>), Problem> {
    let texts = Texts::new(&app.directory);
    fs::create_dir_all(texts.folder()).await.map_err(Problem::internal)?;
    let left = TEXTS_BYTES_MAX.saturating_sub(bytes_in(&texts).await.map_err(Problem::internal)?);
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(Problem::internal)?;
    let unfinished = texts.folder().join(format!("{UNFINISHED}{:016x}", u64::from_le_bytes(random)));
    let received = receive(body, &unfinished, left.min(TEXT_BYTES_MAX)).await;
    let (digest, bytes) = match received {
        Ok(received) => received,
        Err(problem) => {
            // It may never have been made.
            let _ = fs::remove_file(&unfinished).await;
            return Err(problem);
        }
    };
    fs::rename(&unfinished, texts.path(&digest)).await.map_err(Problem::internal)?;
    Ok((StatusCode::CREATED, Json(Text { data: format!("text:{digest}"), bytes })))
}

async fn receive(body: Body, path: &std::path::Path, bytes_max: u64) -> Result<(Digest, u64), Problem> {
    let mut file = fs::File::create(path).await.map_err(Problem::internal)?;
    let (mut hasher, mut bytes, mut chunks) = (Hasher::default(), 0u64, body.into_data_stream());
    loop {
        let chunk = match timeout(CHUNK_TIMEOUT, chunks.next()).await {
            Ok(None) => break,
            Ok(Some(chunk)) => {
                chunk.map_err(|cause| Problem::invalid(format!("the body broke off: {cause}")))?
            }
            Err(_) => {
                let detail = format!("nothing came for {} s", CHUNK_TIMEOUT.as_secs());
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
            }
        };
        bytes += chunk.len() as u64;
        if bytes > bytes_max {
            let detail = format!("the text has more than {bytes_max} bytes, which is what there is room for");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(Problem::internal)?;
    }
    if bytes == 0 {
        return Err(Problem::invalid("the text is empty; hint: send it as the body"));
    }
    file.sync_all().await.map_err(Problem::internal)?;
    Ok((hasher.finish(), bytes))
}

/// What the texts that are here take, bytes.
async fn bytes_in(texts: &Texts) -> std::io::Result<u64> {
    let (mut entries, mut bytes) = (fs::read_dir(texts.folder()).await?, 0);
    while let Some(entry) = entries.next_entry().await? {
        bytes += entry.metadata().await.map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}
