//! A job as somebody sends it, and the same as the network takes it.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use zoo_content::{BlobStore, Digest};
use zoo_job::{Job, Layer, Reading, RunConfig, build};
use zoo_orchestrator::RequestError;
use zoo_protocol::JobId;

use crate::app::App;
use crate::problem::Problem;

/// Requests whose outcome is remembered for those who ask again.
const REMEMBERED_MAX: usize = 1024;
/// Longest idempotency key, bytes.
const KEY_BYTES_MAX: usize = 255;
/// What the names of uploads begin with that are not whole.
pub(crate) const UNFINISHED: &str = "unfinished-";
/// Texts that one job takes.
const TEXTS_MAX: usize = 4096;

/// The jobs that are being made, and those that were.
#[derive(Clone)]
pub(crate) struct Submissions {
    /// One at a time: making a job reads all its text.
    turn: Arc<Semaphore>,
    remembered: Arc<Mutex<Remembered>>,
}

/// A job as it was sent.
pub(crate) struct Request {
    /// The document.
    pub(crate) text: String,
    /// The extension that a file of it would have.
    pub(crate) format: &'static str,
    /// The client's name for this request.
    pub(crate) key: Option<String>,
    /// Digest of the key that asks.
    pub(crate) owner: Digest,
}

#[derive(Default)]
struct Remembered {
    outcomes: BTreeMap<String, (Digest, JobId)>,
    order: VecDeque<String>,
}

impl Submissions {
    pub(crate) fn new() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), remembered: Arc::default() }
    }

    /// Makes a job of what was sent and submits it. Who asks again with the same `key` gets the same answer.
    pub(crate) async fn submit(&self, app: &App, request: Request) -> Result<JobId, Problem> {
        let Request { text, format, key, owner } = request;
        let (key, handle) = (key.as_deref(), &app.handle);
        let asked = Digest::of(text.as_bytes());
        // Those who ask twice at once wait for each other, too.
        let _turn = self.turn.acquire().await.map_err(|_| Problem::stopping())?;
        if let Some(known) = key.map(|key| self.known(key, &asked)).transpose()?.flatten() {
            return Ok(known);
        }
        let texts = Texts::new(&app.directory);
        let config = configuration(&text, format, &texts)?;
        let network = handle.endpoint().id();
        let made = spawn_blocking(move || {
            let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            Job::prepare(config, network, &mut Reading { threads, progress: &mut |_| {} })
        });
        let Job { description, blobs, store, .. } =
            made.await.map_err(Problem::internal)?.map_err(|cause| texts.refusal(&format!("{cause:#}")))?;
        let named =
            [description.program, description.initial, description.training_data, description.held_out_data];
        let kept = handle.store().clone();
        let keeping = spawn_blocking(move || {
            named.iter().chain(&blobs).try_for_each(|digest| kept.keep(&store.get(digest)?).map(|_| ()))
        });
        keeping.await.map_err(Problem::internal)?.map_err(Problem::internal)?;
        // Who submits what somebody else has submitted, and is not over, does not own it.
        let id = description.id();
        let is_there = app
            .feed
            .history(|history| history.job(&id).is_some_and(|record| record.ended_sequence.is_none()));
        let job = handle.submit(description).await.map_err(refusal)?;
        if !is_there && let Err(cause) = app.owners.set(job, owner) {
            tracing::warn!(%cause, "who submitted a job is forgotten at the next start");
        }
        if let Some(key) = key {
            self.remember(key, asked, job);
        }
        Ok(job)
    }

    fn known(&self, key: &str, asked: &Digest) -> Result<Option<JobId>, Problem> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Problem::invalid(format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} bytes")));
        }
        let remembered = self.remembered.lock().expect("looking does not panic");
        match remembered.outcomes.get(key) {
            None => Ok(None),
            Some((before, job)) if before == asked => Ok(Some(*job)),
            Some(_) => Err(Problem::new(
                StatusCode::CONFLICT,
                "the Idempotency-Key was used for another job; hint: a new job needs a new key",
            )),
        }
    }

    fn remember(&self, key: &str, asked: Digest, job: JobId) {
        let mut remembered = self.remembered.lock().expect("remembering does not panic");
        if remembered.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.outcomes.remove(&oldest);
        }
        if remembered.outcomes.insert(key.to_owned(), (asked, job)).is_none() {
            remembered.order.push_back(key.to_owned());
        }
    }
}

/// What the state machine says against it, as a problem.
pub(crate) fn refusal(error: RequestError) -> Problem {
    use zoo_state::Refusal::{JobIsOver, QueueFull, TooManyPaused, UnknownJob};
    match error {
        RequestError::Stopping => Problem::stopping(),
        RequestError::Refused(refusal @ UnknownJob(_)) => Problem::not_found(refusal),
        RequestError::Refused(refusal @ JobIsOver { .. }) => Problem::new(StatusCode::CONFLICT, refusal),
        RequestError::Refused(refusal @ (QueueFull | TooManyPaused)) => {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, refusal)
        }
        RequestError::Refused(refusal) => Problem::refused(refusal),
    }
}

/// The configuration that was sent, with the paths of what it names here. Nobody names a path of this machine from afar.
fn configuration(text: &str, format: &str, texts: &Texts) -> Result<RunConfig, Problem> {
    let layer = Layer::parse(text, format).map_err(|cause| Problem::invalid(format!("{cause:#}")))?;
    let mut config = build(None, &[layer]).map_err(|cause| Problem::refused(format!("{cause:#}")))?;
    // `out` says where a run on one machine puts its results. The same file may be submitted: a network puts nothing there.
    config.out = None;
    let foreign =
        [("from", config.from.is_some()), ("checkpoint_storage", config.checkpoint_storage.is_some())];
    if let Some((key, _)) = foreign.iter().find(|(_, is_given)| *is_given) {
        return Err(Problem::refused(format!(
            "{key}: it names a place on one machine, which means nothing to a network; hint: leave it out"
        )));
    }
    if let Some(data) = &config.data {
        config.data = Some(texts.named(data)?);
    }
    Ok(config)
}

/// Text that was uploaded, by digest.
#[derive(Clone, Debug)]
pub(crate) struct Texts(PathBuf);

impl Texts {
    pub(crate) fn new(directory: &Path) -> Self {
        Self(directory.join("texts"))
    }

    /// Where the text with this digest is, or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.0.join(digest.to_string())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Why a job cannot be made. Where texts are on this machine is nobody's business: they are called what they were sent as.
    fn refusal(&self, cause: &str) -> Problem {
        Problem::refused(cause.replace(&format!("{}/", self.0.display()), "text:"))
    }

    /// Removes what a crash left of uploads.
    pub(crate) fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                // What cannot be removed now is in nobody's way.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// The path of what `data` names: `text:DIGEST`, or several with commas between.
    fn named(&self, data: &Path) -> Result<PathBuf, Problem> {
        let text = data.to_str().unwrap_or_default();
        let foreign = || {
            Problem::refused(format!(
                "data: {text:?} is no text that was uploaded; hint: POST it to /v1/texts, and write what comes back"
            ))
        };
        let digest = |name: &str| name.trim().strip_prefix("text:")?.parse::<Digest>().ok();
        let digests: Vec<Digest> = text.split(',').map(digest).collect::<Option<_>>().ok_or_else(foreign)?;
        if digests.len() > TEXTS_MAX {
            return Err(Problem::refused(format!("data: one job takes {TEXTS_MAX} texts at most")));
        }
        if let Some(missing) = digests.iter().find(|digest| !self.path(digest).is_file()) {
            return Err(Problem::refused(format!(
                "data: text:{missing} was not uploaded here; hint: POST it to /v1/texts"
            )));
        }
        if let [only] = digests[..] {
            return Ok(self.path(&only));
        }
        self.together(&digests).map_err(Problem::internal)
    }

    /// A folder with these texts, each a document, in this order.
    fn together(&self, digests: &[Digest]) -> std::io::Result<PathBuf> {
        let names: Vec<u8> = digests.iter().flat_map(|digest| *digest.as_bytes()).collect();
        let folder = self.0.join(format!("set-{}", Digest::of(&names)));
        std::fs::create_dir_all(&folder)?;
        for (at, digest) in digests.iter().enumerate() {
            let name = folder.join(format!("{at:05}.txt"));
            if !name.exists() {
                std::fs::hard_link(self.path(digest), name)?;
            }
        }
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_names_a_path_of_this_machine_from_afar() {
        let directory = tempfile::tempdir().unwrap();
        let texts = Texts::new(directory.path());
        std::fs::create_dir_all(texts.folder()).unwrap();
        let digest = Digest::of(b"text");
        std::fs::write(texts.path(&digest), "text").unwrap();
        let hex = digest.to_string();
        for data in [
            "/etc/passwd",
            "../orchestrator/key",
            "text:../../key",
            "text:",
            "",
            ",",
            &format!("text:{hex},/etc/passwd"),
            &format!("text:{}", hex.to_uppercase()),
            &format!("text:{}", Digest::of(b"never uploaded")),
        ] {
            let problem = texts.named(Path::new(data)).unwrap_err();
            assert_eq!((problem.status, problem.hint.is_some()), (422, true), "{data}: {}", problem.detail);
        }
        assert_eq!(texts.named(Path::new(&format!("text:{hex}"))).unwrap(), texts.path(&digest));
        let both = texts.named(Path::new(&format!("text:{hex}, text:{hex}"))).unwrap();
        assert_eq!(std::fs::read_dir(both).unwrap().count(), 2);

        for (json, key) in [
            (r#"{"from": "/etc"}"#, "from"),
            (r#"{"checkpoint_storage": "dir:/tmp/x"}"#, "checkpoint_storage"),
            (r#"{"data": "/etc/passwd"}"#, "data"),
        ] {
            let problem = configuration(json, "json", &texts).unwrap_err();
            assert!(problem.status == 422 && problem.detail.starts_with(key), "{json}: {}", problem.detail);
        }
        assert_eq!(configuration(r#"{"out": "/tmp/x"}"#, "json", &texts).unwrap().out, None);
    }

    #[test]
    fn a_key_is_good_for_one_request() {
        let submissions = Submissions::new();
        let (one, other, job) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"job"));
        submissions.remember("key", one, job);
        assert_eq!(submissions.known("key", &one).unwrap(), Some(job));
        assert_eq!(submissions.known("another", &one).unwrap(), None);
        assert_eq!(submissions.known("key", &other).unwrap_err().status, 409);
        assert_eq!(submissions.known("", &one).unwrap_err().status, 400);
        (0..REMEMBERED_MAX).for_each(|at| submissions.remember(&at.to_string(), one, job));
        assert_eq!(submissions.known("key", &one).unwrap(), None, "what is remembered is bounded");
    }
}
