//! `zoo attest check`: what the vendor's signatures show.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;
use zoo_attest::{AttestError, Binding, Claims, Evidence, Policy, Product, SnpTcb, Tcb, TcbStatus, check};
use zoo_content::Digest;
use zoo_protocol::NodeId;

use super::read_evidence;
use super::time::Time;
use crate::live::format::harmless;
use crate::live::print_line;

/// Arguments of `zoo attest check`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo attest check evidence.zoo                                      the vendor's signatures, now
  zoo attest check evidence.zoo --node KEY --network TICKET          ... and that it is about this node
  zoo attest check evidence.zoo --at 2025-06-20 --tcb out-of-date    ... as it was then, on any platform
  zoo attest check evidence.zoo --measurement DIGEST                 ... and that it is this software

Nothing is fetched: the roots of Intel and AMD are in this program, everything else is in the file. What it shows is what the vendor's key signed; \
whoever has the machine in their hands can get at such keys, so it is no proof of work. Exit code 0 if everything holds and is accepted; 1 if not.")]
pub struct Check {
    /// A file of evidence
    file: PathBuf,
    /// The key of the node that it has to be about, 64 hex digits
    #[arg(long, value_name = "KEY", requires = "network")]
    node: Option<NodeId>,
    /// The node's network: a ticket, or the orchestrator's key
    #[arg(long, value_name = "ID", requires = "node", value_parser = super::network)]
    network: Option<NodeId>,
    /// When it has to be valid: a day, a day and a time as 2025-06-20T12:00:00Z, or seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
    /// Accepted software, by its measurement; may be given several times [default: any]
    #[arg(long, value_name = "DIGEST")]
    measurement: Vec<Digest>,
    /// The worst status of a platform that is accepted: up-to-date, configuration-needed, unjudged or out-of-date
    #[arg(long, value_name = "STATUS", default_value_t = TcbStatus::UpToDate)]
    tcb: TcbStatus,
    /// The least versions of firmware of AMD's processors, as milan=3.0.8.115; may be given several times
    #[arg(long, value_name = "PRODUCT=VERSIONS", value_parser = least)]
    snp_least: Vec<(Product, SnpTcb)>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What came of it.
struct Found {
    claims: Claims,
    measurement: Digest,
    status: TcbStatus,
}

impl Check {
    /// Fails where the evidence does not hold, or is not accepted.
    pub fn run(self) -> Result<()> {
        let evidence = read_evidence(&self.file)?;
        let now = self.at.unwrap_or_else(Time::now);
        match self.find(&evidence, now) {
            Ok(found) if self.json => self.print(&evidence, &found),
            Ok(found) => self.tell(&found)?,
            Err(cause) => {
                if self.json {
                    print_line(&json!({
                        "event": "attestation", "verified": false, "reason": cause.name(), "error": cause.to_string(), "at": now.0,
                    }));
                }
                let hint = hint(&cause);
                return Err(cause).with_context(|| format!("{} is refused{hint}", self.file.display()));
            }
        }
        Ok(())
    }

    fn find(&self, evidence: &Evidence, now: Time) -> Result<Found, AttestError> {
        let policy = Policy {
            measurements: self.measurement.iter().copied().collect(),
            worst_tcb: self.tcb,
            snp_least: self.snp_least.iter().copied().collect(),
            ..Policy::default()
        };
        let claims = check(evidence, now.0, &policy.roots)?;
        if let Some(binding) = self.binding() {
            claims.statement.is_bound_to(&binding)?;
        }
        let (measurement, status) = policy.accept(&claims)?;
        Ok(Found { claims, measurement, status })
    }

    fn binding(&self) -> Option<Binding> {
        Some(Binding { network: self.network?, node: self.node? })
    }

    fn tell(&self, Found { claims, measurement, status }: &Found) -> Result<()> {
        let mut out = io::stdout();
        let any = if self.measurement.is_empty() {
            ", which nobody asked about (--measurement)"
        } else {
            ", as accepted"
        };
        writeln!(out, "the evidence of {} holds", claims.statement.kind)?;
        match self.node {
            Some(node) => writeln!(out, "  about {}", node.short())?,
            None => writeln!(out, "  about whom, nobody asked (--node, --network)")?,
        }
        writeln!(out, "  software {measurement}{any}")?;
        writeln!(out, "  platform {}, {status}: {}", claims.platform.short(), described(&claims.tcb))?;
        let [from, until] = [claims.valid_from_s, claims.valid_until_s].map(Time);
        writeln!(out, "  valid from {from} until {until}")?;
        Ok(())
    }

    fn print(&self, evidence: &Evidence, Found { claims, measurement, status }: &Found) {
        print_line(&json!({
            "event": "attestation", "verified": true, "kind": claims.statement.kind, "node": self.node, "network": self.network,
            "measurement": measurement, "software_asked": !self.measurement.is_empty(), "platform": claims.platform,
            "tcb": status, "firmware": described(&claims.tcb), "valid_from_s": claims.valid_from_s,
            "valid_until_s": claims.valid_until_s, "evidence": evidence.digest(),
        }));
    }
}

fn described(tcb: &Tcb) -> String {
    match tcb {
        Tcb::Intel { name, advisories, .. } if advisories.is_empty() => format!("{name}, says Intel"),
        Tcb::Intel { name, advisories, .. } => {
            harmless(&format!("{name}, says Intel: {}", advisories.join(", ")))
        }
        Tcb::Amd { product, versions } => format!("{product} {versions}"),
    }
}

fn hint(cause: &AttestError) -> &'static str {
    match cause {
        AttestError::Tcb { status: TcbStatus::Unjudged, .. } => {
            "\nhint: say with --snp-least which versions are new enough, or accept any with --tcb unjudged"
        }
        AttestError::Tcb { .. } => "\nhint: --tcb says what is accepted",
        AttestError::Measurement(_) => "\nhint: zoo attest show says what was measured",
        AttestError::Expired { .. } | AttestError::Foreign { .. } => "",
        _ => "\nhint: get the file again from whoever made it; what was changed shows nothing",
    }
}

/// The least versions of a processor's firmware, as `milan=3.0.8.115`.
pub fn least(text: &str) -> Result<(Product, SnpTcb), String> {
    let (product, versions) = text.split_once('=').ok_or("it has to be PRODUCT=VERSIONS")?;
    let known = Product::ALL.into_iter().find(|known| known.name() == product);
    let product = known.ok_or("the products are milan, genoa and turin")?;
    Ok((product, versions.parse().map_err(|cause: zoo_attest::ParseSnpTcbError| cause.to_string())?))
}
