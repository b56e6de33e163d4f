//! Jobs: submitted, listed, steered.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use zoo_protocol::JobId;
use zoo_state::Steer;

use super::limit;
use crate::app::App;
use crate::extract::{Asked, MayCancel, MayManage, MayRead, MaySubmit, Named};
use crate::history::JobRecord;
use crate::problem::Problem;
use crate::schema::{Job, Jobs, JobsPage, Round, Rounds, RoundsPage};
use crate::submission::{Request, refusal};

/// Header under which a client sends the same request twice and means it once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Submit a job
///
/// The body is what a configuration file of `zoo train` holds, as JSON, YAML or TOML by its content type: the same keys, the same
/// defaults, refused in the same words. `data` names text that was uploaded; without it the job trains on the sources and
/// documentation of the packages that cargo has on the orchestrator's machine. `out` is read and not used, since a network has no folder. What is submitted twice is one job: a job is what it
/// says, and has its id from that.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs", security(("key" = [])),
    request_body(description = "The configuration", content(
        (serde_json::Value = "application/json"), (String = "application/yaml"), (String = "application/toml"))),
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 255 bytes of the client's choice: who asks again with the same gets the same answer")),
    responses(
        (status = 201, description = "The job", body = Job),
        (status = 400, description = "The body is not what its type says", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "A key is needed", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The Idempotency-Key was used for another job", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is of another type", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No job can be made of it", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn submit(
    MaySubmit(owner): MaySubmit,
    State(app): State<App>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<impl IntoResponse, Problem> {
    let format = format_of(&headers)?;
    let Ok(text) = String::from_utf8(body.into()) else {
        return Err(Problem::invalid("the body is not UTF-8"));
    };
    let key = headers.get(IDEMPOTENCY_KEY).map(|key| key.to_str().map(str::to_owned));
    let key = key.transpose().map_err(|_| Problem::invalid("the Idempotency-Key is not ASCII"))?;
    let id = app.submissions.submit(&app, Request { text, format, key, owner }).await?;
    let job = app.job_when_known(&id).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/v1/jobs/{id}"))], Json(job)))
}

/// The extension that a file with this content would have.
fn format_of(headers: &HeaderMap) -> Result<&'static str, Problem> {
    let given =
        headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or("application/json");
    match given.split(';').next().unwrap_or_default().trim() {
        "application/json" => Ok("json"),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok("yaml"),
        "application/toml" => Ok("toml"),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a job is written in JSON, YAML or TOML; hint: say which with Content-Type: application/yaml",
        )),
    }
}

/// List jobs
///
/// The newest first.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", params(JobsPage),
    responses((status = 200, description = "Some of them", body = Jobs),
        (status = 400, description = "The query makes no sense", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn list(
    _: MayRead,
    State(app): State<App>,
    Asked(page): Asked<JobsPage>,
) -> Result<Json<Jobs>, Problem> {
    let limit = limit(page.limit, 50, 200)?;
    let before = page.cursor.unwrap_or(u64::MAX);
    let listed: Vec<Job> = app.jobs(|record| record.sequence < before, limit + 1, page.state);
    let mut jobs = listed;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let last = jobs.last().and_then(|job| job.id.parse().ok());
    let next = last
        .filter(|_| more)
        .and_then(|id: JobId| app.feed.history(|history| Some(history.job(&id)?.sequence)));
    Ok(Json(Jobs { jobs, next }))
}

/// Look at a job
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job", body = Job),
        (status = 400, description = "No id", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn look(
    _: MayRead,
    State(app): State<App>,
    Named(id): Named<JobId>,
) -> Result<Json<Job>, Problem> {
    app.job(&id).map(Json).ok_or_else(|| unknown(&id))
}

/// List the rounds of a job
///
/// What was measured, round by round: a table of a run.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/rounds", tag = "jobs", params(RoundsPage, ("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "Some of them", body = Rounds),
        (status = 400, description = "The query makes no sense", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn rounds(
    _: MayRead,
    State(app): State<App>,
    Named(id): Named<JobId>,
    Asked(page): Asked<RoundsPage>,
) -> Result<Json<Rounds>, Problem> {
    let limit = limit(page.limit, 1000, 4096)?;
    let from = page.from.unwrap_or(0);
    let listed = app.feed.history(|history| {
        let rounds = history.job(&id)?.rounds.iter().filter(|round| round.round >= from);
        Some(rounds.take(limit + 1).map(|round| Round::of(round, page.contributions)).collect::<Vec<_>>())
    });
    let mut rounds = listed.ok_or_else(|| unknown(&id))?;
    let next = rounds.get(limit).map(|round| round.round);
    rounds.truncate(limit);
    Ok(Json(Rounds { rounds, next }))
}

/// Cancel a job
///
/// It ends with the checkpoint that it has. The key that submitted a job may cancel it, and so may every key for `manage`.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/cancel", tag = "jobs", security(("key" = [])),
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job, as it is now", body = Job),
        (status = 400, description = "No id", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "A key is needed", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is over", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn cancel(MayCancel(id): MayCancel, State(app): State<App>) -> Result<Json<Job>, Problem> {
    app.steer(id, Steer::Cancel).await
}

/// Pause a job
///
/// The next job runs in the meantime. The round that it was in begins again when it is resumed.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/pause", tag = "jobs", security(("key" = [])),
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job, as it is now", body = Job),
        (status = 400, description = "No id", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "A key is needed", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is over", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn pause(
    _: MayManage,
    State(app): State<App>,
    Named(id): Named<JobId>,
) -> Result<Json<Job>, Problem> {
    app.steer(id, Steer::Pause).await
}

/// Resume a job
///
/// It goes on after the one that runs, before those that wait.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/resume", tag = "jobs", security(("key" = [])),
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job, as it is now", body = Job),
        (status = 400, description = "No id", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "A key is needed", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is over", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn resume(
    _: MayManage,
    State(app): State<App>,
    Named(id): Named<JobId>,
) -> Result<Json<Job>, Problem> {
    app.steer(id, Steer::Resume).await
}

pub(crate) fn unknown(id: &JobId) -> Problem {
    Problem::not_found(format!("there is no job {}; hint: GET /v1/jobs lists them", id.short()))
}

impl App {
    fn job(&self, id: &JobId) -> Option<Job> {
        self.feed.history(|history| {
            let record = history.job(id)?;
            Some(self.replica.read(|state| Job::of(record, state)))
        })
    }

    /// Jobs, the newest first.
    fn jobs(
        &self,
        wanted: impl Fn(&JobRecord) -> bool,
        most: usize,
        standing: Option<crate::schema::JobState>,
    ) -> Vec<Job> {
        self.feed.history(|history| {
            self.replica.read(|state| {
                let jobs =
                    history.jobs().rev().filter(|record| wanted(record)).map(|record| Job::of(record, state));
                jobs.filter(|job| standing.is_none_or(|wanted| job.state == wanted)).take(most).collect()
            })
        })
    }

    /// A job that was accepted a moment ago: its event is on its way.
    async fn job_when_known(&self, id: &JobId) -> Result<Job, Problem> {
        let mut next = self.feed.next();
        loop {
            next.borrow_and_update();
            if let Some(job) = self.job(id) {
                return Ok(job);
            }
            next.changed().await.map_err(|_| Problem::stopping())?;
        }
    }

    async fn steer(&self, id: JobId, steer: Steer) -> Result<Json<Job>, Problem> {
        self.handle.steer(id, steer).await.map_err(refusal)?;
        // Answered once what came of it is known here, so that who asks again sees it.
        let events = self.handle.head().borrow().events;
        let mut next = self.feed.next();
        next.wait_for(|known| *known >= events).await.map_err(|_| Problem::stopping())?;
        self.job(&id).map(Json).ok_or_else(|| unknown(&id))
    }
}
