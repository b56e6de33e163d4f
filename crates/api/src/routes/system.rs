//! The orchestrator itself: health, journal, metrics, and what the interface is.

use std::fmt::Write;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use zoo_state::Running;

use crate::app::App;
use crate::extract::MayRead;
use crate::history::{History, Trust};
use crate::problem::Problem;
use crate::schema::{Health, Job, Journal};

/// Version of this software.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The reference page.
const REFERENCE: &str = include_str!("../reference.html");

/// Whether the orchestrator works
#[utoipa::path(get, path = "/health", tag = "system", responses((status = 200, description = "It does", body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: VERSION })
}

/// How far the journal is
#[utoipa::path(get, path = "/v1/journal", tag = "system", responses((status = 200, description = "Its head", body = Journal)))]
pub(crate) async fn journal(_: MayRead, State(app): State<App>) -> Json<Journal> {
    let zoo_orchestrator::Head { events, commands, root } = *app.handle.head().borrow();
    Json(Journal { commands, events, root })
}

/// Figures for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "system",
    responses((status = 200, description = "In its text format", content_type = "text/plain", body = String)),
)]
pub(crate) async fn metrics(_: MayRead, State(app): State<App>) -> impl IntoResponse {
    let head = *app.handle.head().borrow();
    let mut text = String::new();
    let mut figure = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    figure("zoo_journal_commands_total", "counter", "Commands in the journal.", head.commands as f64);
    figure("zoo_journal_events_total", "counter", "Events in the journal.", head.events as f64);
    let (live, known, queued, paused, kept) = app.replica.read(|state| {
        let kept = state.checkpoints().iter().count();
        (state.live().count(), state.nodes().len(), state.queue().count(), state.paused().count(), kept)
    });
    figure("zoo_nodes_live", "gauge", "Nodes that are here.", live as f64);
    figure("zoo_nodes_known", "gauge", "Nodes that ever joined.", known as f64);
    figure("zoo_jobs_queued", "gauge", "Jobs that wait for others.", queued as f64);
    figure("zoo_jobs_paused", "gauge", "Jobs that are paused.", paused as f64);
    figure("zoo_checkpoints_kept", "gauge", "Checkpoints that nodes keep.", kept as f64);
    let Trust { verified, unverified, convictions } = app.feed.history(History::trust);
    figure(
        "zoo_windows_verified_total",
        "counter",
        "Windows that others trained again to the same.",
        verified as f64,
    );
    figure(
        "zoo_windows_unverified_total",
        "counter",
        "Windows drawn for that and not settled.",
        unverified as f64,
    );
    figure("zoo_convictions_total", "counter", "Windows and verdicts found to be wrong.", convictions as f64);
    let (checked, in_doubt, barred) =
        app.replica.read(|state| state.running().map(doubts)).unwrap_or_default();
    figure("zoo_windows_checked", "gauge", "Windows drawn and not settled yet.", checked as f64);
    figure(
        "zoo_windows_in_doubt",
        "gauge",
        "Of those, windows that a verifier came to something else of.",
        in_doubt as f64,
    );
    figure(
        "zoo_nodes_barred",
        "gauge",
        "Nodes at fault or in quarantine: without a part in the round.",
        barred as f64,
    );
    if let Some(job) = running(&app) {
        figure("zoo_job_running", "gauge", "Whether a job runs.", 1.0);
        figure("zoo_job_steps", "gauge", "Inner steps of the running job that are done.", job.steps as f64);
        figure("zoo_job_tokens", "gauge", "Tokens that the running job was trained on.", job.tokens as f64);
        let measured = [
            ("zoo_job_loss", "Mean training loss of its last round, nats per token.", job.loss),
            ("zoo_job_bits_per_byte", "Its latest evaluation, bits per byte.", job.bits_per_byte),
            ("zoo_job_tokens_per_second", "Its speed over the last rounds.", job.tokens_per_second),
        ];
        for (name, help, value) in measured {
            if let Some(value) = value {
                figure(name, "gauge", help, value);
            }
        }
    } else {
        figure("zoo_job_running", "gauge", "Whether a job runs.", 0.0);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Windows of the running job that are not settled, those of them in doubt, and nodes that have no part in the round for what they did.
fn doubts(running: &Running) -> (usize, usize, usize) {
    let checks = &running.verification.checks;
    let in_doubt = checks.values().filter(|check| check.is_in_doubt()).count();
    (checks.len(), in_doubt, running.barred.keys().filter(|node| running.is_barred(node)).count())
}

fn running(app: &App) -> Option<Job> {
    app.feed.history(|history| {
        app.replica.read(|state| {
            let record = history.job(&state.running()?.job)?;
            Some(Job::of(record, state))
        })
    })
}

/// What this interface is, in OpenAPI 3.1
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], crate::openapi::text())
}

/// What a job may say, as a JSON Schema
///
/// Draft 2020-12, for editors and other programs: the document that `POST /v1/jobs`, `zoo submit` and `zoo train` take.
#[utoipa::path(
    get, path = "/v1/schemas/job.json", tag = "jobs",
    responses((status = 200, description = "The schema", content_type = "application/schema+json", body = serde_json::Value)),
)]
pub(crate) async fn job_schema() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/schema+json")], zoo_job::SCHEMA)
}

/// The same, to read.
pub(crate) async fn reference() -> Html<&'static str> {
    Html(REFERENCE)
}

pub(crate) async fn nowhere() -> Problem {
    Problem::not_found("there is nothing at this path; hint: GET /openapi.json says what there is")
}

pub(crate) async fn no_such_method() -> Problem {
    Problem::new(
        axum::http::StatusCode::METHOD_NOT_ALLOWED,
        "the path does not take this method; hint: GET /openapi.json says which it takes",
    )
}
