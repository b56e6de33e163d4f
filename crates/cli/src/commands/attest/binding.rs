//! `zoo attest binding`: what a node has its hardware sign.

use anyhow::Result;
use serde_json::json;
use zoo_attest::Binding;
use zoo_protocol::NodeId;

use super::hex;
use crate::live::print_line;

/// Arguments of `zoo attest binding`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  zoo attest binding --node KEY --network TICKET | xxd -r -p > report-data\n\n\
A quote or report that is asked for with these 64 bytes as its report data is about this node in this network, and no other."
)]
pub struct PrintBinding {
    /// The node's key, 64 hex digits
    #[arg(long, value_name = "KEY")]
    node: NodeId,
    /// The network: a ticket, or the orchestrator's key
    #[arg(long, value_name = "ID", value_parser = super::network)]
    network: NodeId,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl PrintBinding {
    /// Prints 128 hex digits.
    pub fn run(self) -> Result<()> {
        let Self { node, network, json } = self;
        let report_data = hex(&Binding { network, node }.report_data());
        match json {
            true => print_line(
                &json!({"event": "binding", "node": node, "network": network, "report_data": report_data}),
            ),
            false => println!("{report_data}"),
        }
        Ok(())
    }
}
