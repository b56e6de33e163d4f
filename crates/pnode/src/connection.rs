//! The conversation with the orchestrator: kept up, or taken up again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use zoo_network::{ControlReceiver, ControlSender, Endpoint, Ticket};
use zoo_protocol::{
    FromOrchestrator, Keep, Link, NodeId, Peer, Rejection, Report, Standing, ToOrchestrator, VERSION, Work,
};

use crate::PNodeError;
use crate::backoff;
use crate::papers::Papers;
use crate::progress::Progress;

/// A node says that it is there so often.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// What is new of the link is told so often at most; the orchestrator takes no more.
const LINK_INTERVAL: Duration = Duration::from_secs(60);
/// Silent nodes that this one tries to reach at once; of more it says that it did not.
const PROBES_MAX: usize = 8;
/// The orchestrator accepts or rejects within this time.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// A message is taken by the transport within this time.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// A node looks so often whether there is a newer credential.
const PAPERS_INTERVAL: Duration = Duration::from_secs(60);
/// Longest wait between two tries to connect.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// What the daemon hears of the conversation.
#[derive(Debug)]
pub(crate) enum News {
    /// It has begun.
    Connected(NodeId),
    /// The orchestrator said what to do.
    Work { work: Box<Work>, peers: Vec<Peer> },
    /// The orchestrator said what to keep.
    Keep { keeps: Vec<Keep>, peers: Vec<Peer> },
    /// The orchestrator said what the journal says of the node.
    Standing(Standing),
    /// What the node has shown of itself counts.
    Trusted,
    /// It does not, and why.
    Distrusted(String),
    /// It broke; it is taken up again after a wait.
    Disconnected { cause: String, retry_in: Duration },
}

/// Holds the conversation until told to leave.
pub(crate) struct Connection {
    pub(crate) endpoint: Endpoint,
    pub(crate) ticket: Ticket,
    /// The first message.
    pub(crate) hello: ToOrchestrator,
    pub(crate) progress: Arc<Progress>,
    /// What to tell the orchestrator.
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) news: mpsc::Sender<News>,
    /// Becomes true when the node leaves.
    pub(crate) leaving: watch::Receiver<bool>,
    /// What it shows of itself.
    pub(crate) papers: Papers,
}

type Conversation = (ControlSender<ToOrchestrator>, ControlReceiver<FromOrchestrator>);

impl Connection {
    /// Returns when the node has left, or when the orchestrator does not want it.
    pub(crate) async fn run(mut self) -> Result<(), PNodeError> {
        let mut failures = 0;
        let mut leaving = self.leaving.clone();
        loop {
            let opened = tokio::select! {
                opened = self.open() => opened?,
                () = leave(&mut leaving) => return Ok(()),
            };
            let cause = match opened {
                Err(cause) => cause,
                Ok(conversation) => {
                    failures = 0;
                    match self.converse(conversation).await {
                        Ok(()) => return Ok(()),
                        Err(cause) => cause,
                    }
                }
            };
            failures += 1;
            let retry_in = backoff::wait(failures, RECONNECT_WAIT_MAX);
            tell(&self.news, News::Disconnected { cause, retry_in }).await;
            tokio::select! {
                () = sleep(retry_in) => {}
                () = leave(&mut leaving) => return Ok(()),
            }
        }
    }

    /// Connects and introduces the node. The outer error is final, the inner one worth another try.
    async fn open(&self) -> Result<Result<Conversation, String>, PNodeError> {
        let introduced = async {
            let mut stream = self.endpoint.connect(&self.ticket).await?;
            stream.send(&self.hello).await?;
            let answer = stream.recv().await?;
            Ok::<_, zoo_network::NetworkError>((stream, answer))
        };
        let (stream, answer) = match timeout(WELCOME_TIMEOUT, introduced).await {
            Ok(Ok(introduced)) => introduced,
            Ok(Err(cause)) => return Ok(Err(cause.to_string())),
            Err(_) => return Ok(Err("the orchestrator does not answer".into())),
        };
        match answer {
            Some(FromOrchestrator::Welcome { .. }) => Ok(Ok(stream.split())),
            Some(FromOrchestrator::Rejected(Rejection::Version { ours, .. })) => {
                Err(PNodeError::Version { ours: VERSION, theirs: ours })
            }
            Some(FromOrchestrator::Rejected(Rejection::Busy(reason))) => Ok(Err(reason)),
            Some(FromOrchestrator::Rejected(Rejection::Invalid(reason))) => Err(PNodeError::Rejected(reason)),
            Some(_) => Ok(Err("the orchestrator answers with something else than a welcome".into())),
            None => Ok(Err("the orchestrator closed the connection".into())),
        }
    }

    /// Talks until the node leaves (`Ok`) or the connection breaks.
    async fn converse(&mut self, (mut sender, mut receiver): Conversation) -> Result<(), String> {
        // Reports from before belong to the lost connection; the agent repeats what still matters.
        while self.reports.try_recv().is_ok() {}
        tell(&self.news, News::Connected(self.ticket.node)).await;

        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = ToldLink::default();
        self.papers.begin();
        let mut look_at_papers = interval(PAPERS_INTERVAL);
        look_at_papers.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probes = JoinSet::new();
        loop {
            let message = tokio::select! {
                // Who leaves has said before what it had to say.
                biased;
                Some(report) = self.reports.recv() => ToOrchestrator::Report(report),
                received = receiver.recv() => {
                    match received.map_err(|cause| cause.to_string())? {
                        Some(FromOrchestrator::Probe(peer)) => self.probe(peer, &mut probes),
                        Some(message) => hear(&self.news, message).await,
                        None => return Err("the orchestrator closed the connection".into()),
                    }
                    continue;
                }
                _ = heartbeat.tick() => match told.news(self.endpoint.link(), Instant::now()) {
                    Some(link) => ToOrchestrator::Measured(link),
                    None => heartbeat_of(&self.progress, &self.endpoint),
                },
                _ = look_at_papers.tick() => match self.papers.next() {
                    Ok(Some(paper)) => {
                        look_at_papers.reset_immediately();
                        paper
                    }
                    Ok(None) => continue,
                    Err(cause) => {
                        tell(&self.news, News::Distrusted(cause)).await;
                        continue;
                    }
                },
                Some(probed) = probes.join_next() => match probed {
                    Ok((node, reached)) => ToOrchestrator::Probed { node, reached },
                    Err(cause) => return Err(cause.to_string()),
                },
                () = leave(&mut self.leaving) => ToOrchestrator::Leave,
            };
            match timeout(SEND_TIMEOUT, sender.send(&message)).await {
                Ok(sent) => sent.map_err(|cause| cause.to_string())?,
                Err(_) => return Err("the orchestrator does not take messages".into()),
            }
            if message == ToOrchestrator::Leave {
                sender.close().await;
                return Ok(());
            }
        }
    }
}

impl Connection {
    /// Tries to reach a node that the orchestrator does not hear.
    fn probe(&self, peer: Peer, probes: &mut JoinSet<(NodeId, bool)>) {
        let has_time = probes.len() < PROBES_MAX;
        let endpoint = self.endpoint.clone();
        probes.spawn(async move { (peer.node, has_time && endpoint.is_alive(&peer).await) });
    }
}

/// What this conversation has said of the link.
#[derive(Debug, Default)]
struct ToldLink(Option<(Link, Instant)>);

impl ToldLink {
    /// What there is to say now, if anything is new and the last time is long enough ago.
    fn news(&mut self, link: Option<Link>, now: Instant) -> Option<Link> {
        let link = link?;
        let is_due = self.0.is_none_or(|(told, at)| now >= at + LINK_INTERVAL && link.is_news_after(&told));
        is_due.then(|| {
            self.0 = Some((link, now));
            link
        })
    }
}

/// Waits until the node leaves, or is gone.
async fn leave(leaving: &mut watch::Receiver<bool>) {
    let _ = leaving.wait_for(|leaving| *leaving).await;
}

async fn hear(news: &mpsc::Sender<News>, message: FromOrchestrator) {
    match message {
        FromOrchestrator::Work { work, peers } => tell(news, News::Work { work: work.into(), peers }).await,
        FromOrchestrator::Keep { keeps, peers } => tell(news, News::Keep { keeps, peers }).await,
        FromOrchestrator::Standing(standing) => tell(news, News::Standing(standing)).await,
        FromOrchestrator::Declared => tell(news, News::Trusted).await,
        FromOrchestrator::Distrusted(why) => tell(news, News::Distrusted(why)).await,
        _ => {} // the rest is not for workers
    }
}

/// Waits while the daemon is behind. A daemon that is gone ends this task as well.
async fn tell(news: &mpsc::Sender<News>, message: News) {
    let _ = news.send(message).await;
}

fn heartbeat_of(progress: &Progress, endpoint: &Endpoint) -> ToOrchestrator {
    let now = progress.snapshot();
    let traffic = endpoint.traffic();
    ToOrchestrator::Heartbeat {
        step: now.step,
        loss_bits: now.loss.to_bits(),
        tokens_per_second: now.tokens_per_second,
        sent_bytes: traffic.sent_bytes,
        received_bytes: traffic.received_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_orchestrator_hears_of_the_link_when_it_changes_and_not_with_every_heartbeat() {
        let (mut told, start) = (ToldLink::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let (slow, fast) = (Link::new(100, 20), Link::new(1_000, 20));
        assert_eq!(told.news(None, after(0)), None, "nothing is known");
        assert_eq!(told.news(Some(slow), after(1)), Some(slow));
        assert_eq!(told.news(Some(slow), after(100)), None);
        assert_eq!(told.news(Some(fast), after(101)), Some(fast));
        assert_eq!(told.news(Some(slow), after(102)), None, "too soon");
        assert_eq!(told.news(Some(slow), after(161)), Some(slow));
    }
}
