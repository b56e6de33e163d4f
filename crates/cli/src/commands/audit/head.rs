//! What an orchestrator signed, and whether it is this history.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use zoo_orchestrator::journal::Step;
use zoo_protocol::{JournalHead, NodeId, Sealed, decode};
use zoo_state::State;

use super::report::Report;
use crate::live::format::several;

/// A head, whose signature holds.
pub struct Signed {
    path: PathBuf,
    signer: NodeId,
    head: JournalHead,
}

impl Signed {
    /// Reads one from a file, and checks its signature.
    pub fn read(path: &Path) -> Result<Self> {
        let no_head = || {
            format!(
                "{} is not the signed head of a journal\nhint: zoo journal pack --network writes one",
                path.display()
            )
        };
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let sealed: Sealed<JournalHead> = decode(&bytes).with_context(no_head)?;
        let head = sealed.open().with_context(no_head)?;
        Ok(Self { path: path.to_owned(), signer: sealed.signer(), head })
    }

    /// What this history is after as many commands as were signed, if `step` is the last of them.
    pub fn here(&self, step: &Step, state: &State) -> Option<JournalHead> {
        let commands = step.sequence + 1;
        (commands == self.head.commands).then(|| JournalHead {
            commands,
            chain: step.chain,
            root: state.root(),
        })
    }

    /// Says whether it is what was signed; gives what is wrong.
    pub fn compare(
        &self,
        here: Option<JournalHead>,
        network: Option<NodeId>,
        report: &mut Report,
    ) -> Option<String> {
        let Self { path, signer, head } = self;
        let verdict = match here {
            _ if network != Some(*signer) => "foreign",
            Some(here) if here.conflicts_with(head) => "conflict",
            Some(_) => "equal",
            None if head.commands == 0 => "equal",
            None => "longer",
        };
        let (commands, shown) = (several(head.commands, "command"), path.display());
        let fields = json!({
            "file": path, "signer": signer, "commands": head.commands, "chain": head.chain, "root": head.root, "verdict": verdict,
            "chain_here": here.map(|here| here.chain), "root_here": here.map(|here| here.root),
        });
        let (sentence, wrong) = match verdict {
            "equal" => (format!("the first {commands} are those that {} signed", signer.short()), None),
            "foreign" => {
                let whose = network.map_or("no network that is named".to_owned(), |network| {
                    format!("the network of {}", network.short())
                });
                let wrong = format!(
                    "{} signed the head ({shown}), and this is the journal of {whose}\n\
                     hint: what was signed for one network says nothing of another; are they of the same place?",
                    signer.short()
                );
                (String::new(), Some(wrong))
            }
            "longer" => {
                let wrong = format!(
                    "{} signed {commands} ({shown}), and this journal has not so many\nhint: pack the journal again",
                    signer.short()
                );
                (String::new(), Some(wrong))
            }
            _ => {
                let wrong = format!(
                    "{} signed another history: {commands} with the digest {} ({shown}), and here they have another\n\
                     hint: keep both files; who signed two histories cannot deny it",
                    signer.short(),
                    head.chain.short()
                );
                (String::new(), Some(wrong))
            }
        };
        if wrong.is_none() || report.is_json() {
            report.tell("head", fields, &sentence);
        }
        wrong
    }
}
