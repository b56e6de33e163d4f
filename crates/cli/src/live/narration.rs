//! What happened, in a sentence.

use zoo_protocol::Tier;
use zoo_state::Event;

use super::event_line;
use super::format::{bytes, count, harmless, link, rhythm, round_of, several, speeds};
use super::overview::Overview;

/// What to say of any event that `overview` has heard already, where no table shows the rest.
pub fn full_sentence(event: &Event, overview: &Overview) -> String {
    sentence(event, overview).unwrap_or_else(|| harmless(&aside(event, overview)))
}

/// Of the events that a table shows.
fn aside(event: &Event, overview: &Overview) -> String {
    match event {
        Event::JobAccepted { name, plan, .. } => format!("job {name} is accepted: {}", rhythm(plan)),
        Event::RoundStarted { round, shares, .. } => {
            let round = round_of(*round, &overview.plan);
            format!("round {round} starts on {}", several(shares.len() as u64, "node"))
        }
        Event::ContributionAccepted { round, node, tokens, mean_loss_bits, bytes: size, .. } => format!(
            "{} contributes to round {}: {} tokens, loss {:.3}, {}",
            overview.name(node),
            round + 1,
            count(*tokens),
            f64::from_bits(*mean_loss_bits),
            bytes(*size)
        ),
        Event::RoundSealed { round, contributors, .. } => {
            format!("round {} is sealed: {}", round + 1, several(contributors.len() as u64, "contribution"))
        }
        Event::JobSettling { round, .. } => {
            format!("round {} is the last: what is left is verified before it counts", round + 1)
        }
        Event::PartSummed { round, sum, node, bytes: size, .. } => {
            format!("{} has added part {sum} of round {}: {}", overview.name(node), round + 1, bytes(*size))
        }
        Event::LinkMeasured { node, link: measured } => {
            format!("{} measured its link: {}", overview.name(node), link(Some(*measured)))
        }
        Event::JobFinished { checkpoint, tokens, .. } => {
            format!("the job is finished: {} tokens, checkpoint {}", count(*tokens), checkpoint.short())
        }
        _ => event_line(0, event)["event"].as_str().unwrap_or_default().replace('_', " "),
    }
}

/// What to say of an event that `overview` has heard already; none of what the table shows anyway.
pub fn sentence(event: &Event, overview: &Overview) -> Option<String> {
    let of_all = |round: &u32| round_of(*round, &overview.plan);
    let name = |node| overview.name(node);
    let sentence = match event {
        Event::NodeJoined { node, profile } => {
            let threads = several(profile.threads.into(), "thread");
            let speed = speeds(profile.speeds);
            format!("{} joined: {threads}, {}, {speed}", name(node), profile.isa)
        }
        Event::NodeLost { node, cause } => format!("{} is lost: {cause}", name(node)),
        Event::NodeSuspected { node, reached_by } => {
            let witnesses: Vec<String> = reached_by.iter().map(name).collect();
            format!(
                "{} is silent, but {} can reach it: it keeps its place for a while",
                name(node),
                witnesses.join(", ")
            )
        }
        Event::NodeHeard { node } => format!("{} is heard again", name(node)),
        Event::NodeRejoined { node, .. } => format!("{} is back, with the key it had", name(node)),
        Event::RoundWaiting { round, nodes, minimum, .. } => {
            format!("round {} waits for nodes: {nodes} of at least {minimum}", round + 1)
        }
        Event::RoundStarted { round, start: 2.., .. } => format!("round {} starts again", round + 1),
        Event::RoundStarted { round: first @ 0, shares, .. } => {
            format!("round {} starts on {}", of_all(first), several(shares.len() as u64, "node"))
        }
        Event::CheckpointReleased { round, node, why, .. } if why.is_failure() => {
            format!("{} keeps the checkpoint of round {} no longer: {why}", name(node), round + 1)
        }
        Event::ContributionMissed { round, node, why, .. } => {
            format!("round {} goes on without {}: {why}", round + 1, name(node))
        }
        Event::ContributionLate { round, node, .. } => {
            format!(
                "round {} no longer waits for {}: what it comes to counts half in the next",
                round + 1,
                name(node)
            )
        }
        Event::RoundFinished { round, .. } => {
            let nodes = several(overview.contributions.len() as u64, "node");
            let (tokens, loss) = (count(overview.tokens), overview.mean_loss());
            format!("round {} by {nodes}: mean loss {loss:.3}, {tokens} tokens so far", of_all(round))
        }
        Event::EvaluationFinished { round, bits_per_byte_bits, bytes: size, .. } => format!(
            "round {}: {:.3} bits per byte on {} of held-out text",
            of_all(round),
            f64::from_bits(*bits_per_byte_bits),
            bytes(*size)
        ),
        Event::RoundRestarted { round, why, .. } => format!("round {} got nowhere: {why}", round + 1),
        Event::WorkFailed { round, node, reason, .. } => {
            format!("{} failed in round {}: {reason}", name(node), round + 1)
        }
        Event::Fault { round, node, kind, .. } => {
            format!("{} is at fault in round {}: it {kind}", name(node), round + 1)
        }
        Event::WindowVerified { round, maker, verifiers, .. } => {
            let verifiers: Vec<String> = verifiers.iter().map(name).collect();
            let by = verifiers.join(", ");
            format!("{}'s window of round {} is verified by {by}", name(maker), round + 1)
        }
        Event::WindowUnverified { round, maker, why, .. } => {
            format!("{}'s window of round {} stays unverified: {why}", name(maker), round + 1)
        }
        Event::ContributionWithdrawn { round, node, withdrawn_in, .. } => match withdrawn_in {
            Some(at) => format!(
                "what {} gave to round {} is taken back out of the model in round {}",
                name(node),
                round + 1,
                at + 1
            ),
            None => format!(
                "what {} gave to round {} stays in the model: nobody has any more what it takes to take it back",
                name(node),
                round + 1
            ),
        },
        Event::NodeRated { node, rating } => {
            format!("{} is {}: {} as measured", name(node), rating.tier.word(), speeds(rating.speeds))
        }
        Event::NodeUnrated { node, why } => {
            format!("{} was measured and stays {}: {why}", name(node), Tier::Community.word())
        }
        Event::JobFailed { why, .. } => format!("the job failed: {why}"),
        Event::JobStopped { why, .. } => format!("the job ends before its last step: {why}"),
        Event::JobPaused { .. } => "the job is paused".to_owned(),
        Event::JobResumed { .. } => "the job goes on".to_owned(),
        _ => return None,
    };
    Some(harmless(&sentence))
}
