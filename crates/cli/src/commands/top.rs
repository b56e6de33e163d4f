//! `zoo top`: what every node does, live.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::sleep;
use zoo_orchestrator::Notice;
use zoo_protocol::JobId;
use zoo_state::{Event, Stop};

use super::network::{Connected, NetworkArgs};
use crate::foreground;
use crate::live::Audience;

/// The table is drawn anew this often, if nothing happens.
const REDRAW: Duration = Duration::from_millis(500);

/// Arguments of `zoo top`.
#[derive(clap::Args)]
#[command(after_help = "Shows what happens from now on until Ctrl-C; the network does not notice.")]
pub struct Top {
    #[command(flatten)]
    network: NetworkArgs,
    /// Print events as JSON lines
    #[arg(long)]
    json: bool,
}

impl Top {
    /// Watches until Ctrl-C.
    pub fn run(self) -> Result<()> {
        foreground::block_on(async {
            let stop = foreground::told_to_stop(false)?;
            let mut connected = self.network.connect().await?;
            let mut audience = Audience::new(self.json, Instant::now());
            tokio::select! {
                followed = follow(&mut connected, None, &mut audience) => followed?,
                () = stop => audience.clear(),
            }
            Ok(())
        })
    }
}

/// Shows what happens until the job `until` ends; without one, for ever.
///
/// # Errors
/// The orchestrator is gone, or the job failed.
pub async fn follow(connected: &mut Connected, until: Option<JobId>, audience: &mut Audience) -> Result<()> {
    let Connected { watch, view, .. } = connected;
    let mut training = None;
    loop {
        tokio::select! {
            notice = watch.next() => {
                let Some(notice) = notice? else {
                    audience.clear();
                    bail!("the orchestrator has stopped\nhint: what it knows is in its journal; start it again with zoo up");
                };
                view.hear(&notice);
                audience.pass_on(&notice, &view.overview);
                if let Notice::Event { event, .. } = &notice {
                    if let Event::RoundStarted { round: 0, .. } = event {
                        training = Some(Instant::now());
                    }
                    if let Some(ended) = ended(event, until) {
                        audience.clear();
                        return ended;
                    }
                }
            }
            () = sleep(REDRAW) => {}
        }
        audience.show(&view.overview, training.map(|since: Instant| since.elapsed()));
    }
}

fn ended(event: &Event, until: Option<JobId>) -> Option<Result<()>> {
    match event {
        Event::JobFinished { job, .. } if Some(*job) == until => Some(Ok(())),
        Event::JobFailed { job, why } if Some(*job) == until => {
            Some(Err(anyhow::anyhow!("the job failed: {}", why.to_string().replace("; hint:", "\nhint:"))))
        }
        Event::JobStopped { job, why: Stop::Cancelled, .. } if Some(*job) == until => {
            Some(Err(anyhow::anyhow!("the job was cancelled")))
        }
        // What its owner wanted to spend is spent: that is an end like another.
        Event::JobStopped { job, why: Stop::Budget, .. } if Some(*job) == until => Some(Ok(())),
        _ => None,
    }
}
