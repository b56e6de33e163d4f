//! Numbers for Prometheus.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::App;

pub(super) async fn show(State(app): State<App>) -> impl IntoResponse {
    let it = app.engine.counters();
    let seconds = it.first_token_us.get() as f64 / 1e6;
    let totals = [
        ("texts_finished_total", "Texts that are done", it.finished.get()),
        ("texts_cancelled_total", "Texts whose client went away", it.cancelled.get()),
        ("texts_failed_total", "Texts that could not be written", it.failed.get()),
        (
            "texts_preempted_total",
            "Texts that made room for others and were computed again",
            it.preempted.get(),
        ),
        ("cache_losses_total", "Times that whoever computes lost the keys and values", it.lost.get()),
        ("passes_total", "Passes through the network", it.passes.get()),
        ("prompt_tokens_total", "Tokens of prompts that were computed", it.prompt_tokens.get()),
        ("cached_tokens_total", "Tokens of prompts that were found in the cache", it.cached_tokens.get()),
        ("written_tokens_total", "Tokens written", it.written_tokens.get()),
    ];
    let gauges = [
        ("texts_running", "Texts that are being written", it.running.get()),
        ("texts_waiting", "Texts that wait", it.waiting.get()),
        ("cache_pages", "Pages of the cache of keys and values", it.pages.get()),
        ("cache_pages_used", "Pages that texts use", it.pages_used.get()),
        (
            "cache_pages_reusable",
            "Pages that no text uses, but that would be found again",
            it.pages_cached.get(),
        ),
    ];
    let mut text = String::new();
    let mut add = |kind: &str, (name, help, value): (&str, &str, u64)| {
        let _ = writeln!(text, "# HELP zoo_{name} {help}.\n# TYPE zoo_{name} {kind}\nzoo_{name} {value}");
    };
    totals.into_iter().for_each(|line| add("counter", line));
    gauges.into_iter().for_each(|line| add("gauge", line));
    let _ = write!(
        text,
        "# HELP zoo_first_token_seconds Time until the first token.\n# TYPE zoo_first_token_seconds summary\n\
         zoo_first_token_seconds_sum {seconds}\nzoo_first_token_seconds_count {}\n",
        it.first_tokens.get()
    );
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
