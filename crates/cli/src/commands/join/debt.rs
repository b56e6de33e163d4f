//! What the network waits for from a node.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use zoo_pnode::PNodeEvent;
use zoo_protocol::{Report, Work};

/// What a node has made is held for others at most this long, when it is to go: whoever wants it has had the time.
const HELD_MAX: Duration = Duration::from_secs(600);
/// Whoever adds up a round later than this node has fetched what it made after this time.
const FETCHED_MAX: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// What it computes.
    Work,
    /// What it has made: others fetch it from here.
    Blobs,
    /// The end of a round that it has added up itself: others may still fetch.
    Round,
}

impl Owed {
    fn after(self, event: &PNodeEvent) -> Self {
        match event {
            // Nobody waits for who is measured.
            PNodeEvent::Started(Work::Benchmark(_))
            | PNodeEvent::Reported(Report::Benchmarked { .. } | Report::Told { .. }) => self,
            PNodeEvent::Started(_) => Self::Work,
            // Nobody wants what is computed any more. What was made is still fetched, while the node has nothing to do.
            PNodeEvent::WorkChanged(Work::Idle | Work::Benchmark(_)) if self == Self::Work => Self::Nothing,
            // The round before is over.
            PNodeEvent::WorkChanged(Work::Train(_) | Work::Evaluate(_)) => Self::Nothing,
            PNodeEvent::Reported(Report::Kept { .. } | Report::Proved { .. }) => self,
            PNodeEvent::Reported(Report::Trained(_) | Report::Summed { .. }) => Self::Blobs,
            PNodeEvent::Reported(Report::Aggregated { .. }) => Self::Round,
            PNodeEvent::Reported(_) => Self::Nothing,
            _ => self,
        }
    }
}

/// What a node owes, by its events.
#[derive(Debug)]
pub struct Debt(watch::Sender<Owed>);

impl Default for Debt {
    fn default() -> Self {
        Self(watch::Sender::new(Owed::Nothing))
    }
}

impl Debt {
    /// Takes an event from any thread.
    pub fn hear(&self, event: &PNodeEvent) {
        self.0.send_if_modified(|owed| {
            let before = *owed;
            *owed = before.after(event);
            *owed != before
        });
    }

    /// Whoever is not there owes nothing.
    pub fn forget(&self) {
        self.0.send_replace(Owed::Nothing);
    }

    /// Completes when the node owes nothing.
    pub async fn paid(&self) {
        let mut owed = self.0.subscribe();
        loop {
            let now = *owed.borrow_and_update();
            let at_most = match now {
                Owed::Nothing => return,
                Owed::Work => Duration::MAX,
                Owed::Blobs => HELD_MAX,
                Owed::Round => FETCHED_MAX,
            };
            if timeout(at_most, owed.changed()).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};
    use zoo_content::Digest;
    use zoo_protocol::Evaluate;

    use super::*;

    fn evaluate() -> Work {
        let digest = Digest::of(b"any");
        Work::Evaluate(Evaluate {
            job: digest,
            round: 0,
            program: digest,
            checkpoint: digest,
            data: digest,
            shard: 0,
            shards: 1,
        })
    }

    fn summed() -> PNodeEvent {
        let report =
            Report::Summed { job: Digest::of(b"any"), round: 0, attempt: 0, sum: 0, sums: Vec::new() };
        PNodeEvent::Reported(report)
    }

    async fn is_paid(debt: &Debt) -> bool {
        timeout(Duration::from_secs(1), debt.paid()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_owes_what_it_computes_and_then_what_it_made() {
        let debt = Debt::default();
        assert!(is_paid(&debt).await);
        debt.hear(&PNodeEvent::Started(evaluate()));
        assert!(!is_paid(&debt).await);
        let kept = Report::Kept { job: Digest::of(b"any"), round: 0, ask: 0 };
        debt.hear(&PNodeEvent::Reported(kept));
        assert!(!is_paid(&debt).await, "keeping is beside the work");
        debt.hear(&summed());
        debt.hear(&PNodeEvent::WorkChanged(Work::Idle));
        assert!(!is_paid(&debt).await, "others fetch the sums");
        debt.hear(&PNodeEvent::WorkChanged(evaluate()));
        assert!(is_paid(&debt).await, "the round is over");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_the_work_of_a_job_that_is_gone() {
        let debt = Debt::default();
        debt.hear(&PNodeEvent::Started(evaluate()));
        debt.hear(&PNodeEvent::WorkChanged(Work::Idle));
        assert!(is_paid(&debt).await);
        debt.hear(&summed());
        let start = Instant::now();
        debt.paid().await;
        assert_eq!(start.elapsed(), HELD_MAX, "nor for ever for somebody who may fetch");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_made_is_there_until_the_round_is_over() {
        let aggregated = Report::Aggregated {
            job: Digest::of(b"any"),
            round: 0,
            attempt: 0,
            checkpoint: Digest::of(b"any"),
            left_out: Vec::new(),
            alike: Vec::new(),
        };
        for (next, waits) in [(evaluate(), Duration::ZERO), (Work::Idle, FETCHED_MAX)] {
            let debt = Debt::default();
            debt.hear(&PNodeEvent::Reported(aggregated.clone()));
            assert!(!is_paid(&debt).await, "others are not as fast");
            debt.hear(&PNodeEvent::WorkChanged(next));
            let start = Instant::now();
            let noise = async {
                loop {
                    sleep(Duration::from_secs(3)).await;
                    debt.hear(&PNodeEvent::Trouble("any".into()));
                }
            };
            tokio::select! {
                () = debt.paid() => {}
                () = noise => {}
            }
            assert_eq!(start.elapsed(), waits, "whatever else happens");
        }
    }
}
