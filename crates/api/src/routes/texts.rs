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
        (status = 400, description = "It is empty or no text, or broke off", body = Problem, content_type = "application/problem+json"),
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
    let mut reader = Reader::default();
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
        reader.read(&chunk)?;
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(Problem::internal)?;
    }
    if bytes == 0 {
        return Err(Problem::invalid("the text is empty; hint: send it as the body"));
    }
    reader.end()?;
    file.sync_all().await.map_err(Problem::internal)?;
    Ok((hasher.finish(), bytes))
}

/// Reads what comes as text, wherever it was cut. Several texts make a folder, and what is no text in a folder would be left out in silence.
#[derive(Default)]
struct Reader {
    /// Bytes that were read as text.
    read: u64,
    /// The beginning of a character that is not here yet: three bytes at most.
    begun: Vec<u8>,
}

impl Reader {
    fn read(&mut self, chunk: &[u8]) -> Result<(), Problem> {
        let bytes = [&self.begun, chunk].concat();
        let (valid, is_broken) = match std::str::from_utf8(&bytes) {
            Ok(_) => (bytes.len(), false),
            Err(cause) => (cause.valid_up_to(), cause.error_len().is_some()),
        };
        if let Some(at) = bytes[..valid].iter().position(|byte| *byte == 0) {
            let detail = format!("not a text: NUL byte at offset {}", self.read + at as u64);
            return Err(Problem::invalid(format!(
                "{detail}; hint: send plain text; what is packed is unpacked first"
            )));
        }
        self.read += valid as u64;
        if is_broken {
            return Err(self.broken());
        }
        self.begun = bytes[valid..].to_vec();
        Ok(())
    }

    fn end(&self) -> Result<(), Problem> {
        if self.begun.is_empty() { Ok(()) } else { Err(self.broken()) }
    }

    fn broken(&self) -> Problem {
        let detail = format!("not UTF-8 at offset {}", self.read);
        Problem::invalid(format!(
            "{detail}; hint: convert it first, for instance with iconv -f LATIN1 -t UTF-8"
        ))
    }
}

/// What the texts that are here take, bytes.
async fn bytes_in(texts: &Texts) -> std::io::Result<u64> {
    let (mut entries, mut bytes) = (fs::read_dir(texts.folder()).await?, 0);
    while let Some(entry) = entries.next_entry().await? {
        bytes += entry.metadata().await.map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_wherever_it_is_cut_and_what_is_none_is_refused_at_its_byte() {
        let read = |bytes: &[u8], at: usize| {
            let mut reader = Reader::default();
            let parts = [&bytes[..at], &bytes[at..]];
            parts.iter().try_for_each(|part| reader.read(part)).and_then(|()| reader.end())
        };
        let wrong: [(&[u8], &str); 4] = [
            (b"caf\xe9 au lait", "not UTF-8 at offset 3"),
            (b"caf\xc3", "not UTF-8 at offset 3"),
            ("\u{20ac}\0".as_bytes(), "NUL byte at offset 3"),
            (b"\xed\xa0\x80", "not UTF-8 at offset 0"),
        ];
        let right = "a \u{e9} \u{20ac} \u{1f600}".as_bytes();
        for at in 0..=right.len() {
            assert_eq!(read(right, at), Ok(()), "cut at {at}");
        }
        for (bytes, detail) in wrong {
            for at in 0..=bytes.len() {
                let problem = read(bytes, at).unwrap_err();
                assert!(
                    problem.detail.contains(detail) && problem.hint.is_some(),
                    "cut at {at}: {problem:?}"
                );
            }
        }
    }
}
