//! Which evidence of hardware a network goes by.

use zoo_attest::{Binding, Evidence, Policy, Product, SnpTcb, TcbStatus, verify};
use zoo_content::Digest;
use zoo_orchestrator::{EvidenceCheck, Whose};

use crate::commands::attest::check::least;
use crate::commands::attest::time::Time;

/// What a network's owner accepts.
#[derive(Clone, clap::Args)]
pub struct Accept {
    /// Software that nodes may show by their hardware to run, as its measurement from `zoo attest show`; may be given several times. Nodes
    /// that do are checked less often
    #[arg(long, value_name = "DIGEST")]
    accept_software: Vec<Digest>,
    /// The worst status of such a platform that is accepted: up-to-date, configuration-needed, unjudged or out-of-date
    #[arg(long, value_name = "STATUS", default_value_t = TcbStatus::UpToDate, requires = "accept_software")]
    accept_tcb: TcbStatus,
    /// The least versions of firmware of AMD's processors, as milan=3.0.8.115; may be given several times
    #[arg(long, value_name = "PRODUCT=VERSIONS", value_parser = least, requires = "accept_software")]
    snp_least: Vec<(Product, SnpTcb)>,
}

impl Accept {
    /// Checks what nodes show; without accepted software nothing counts, since any software in such hardware could know a node's key.
    pub fn check(&self) -> Option<EvidenceCheck> {
        if self.accept_software.is_empty() {
            return None;
        }
        let policy = Policy {
            measurements: self.accept_software.iter().copied().collect(),
            worst_tcb: self.accept_tcb,
            snp_least: self.snp_least.iter().copied().collect(),
            ..Policy::default()
        };
        Some(EvidenceCheck::new(move |bytes, Whose { network, node }| {
            let checked = Evidence::from_bytes(bytes)
                .and_then(|evidence| verify(&evidence, &Binding { network, node }, Time::now().0, &policy));
            checked.map_err(|cause| cause.to_string())
        }))
    }
}
