//! What a plan is good for.

use serde::{Deserialize, Serialize};
use zoo_protocol::Tier;

/// What counts beside tokens a second. A plan's value is in tokens a second; weights say how many of these something else is worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Objective {
    /// Tokens a second that an hour's price of 1 must bring; 0: money is no object.
    pub price: f64,
    /// Tokens a second that a megabyte a second between nodes must bring; 0: traffic is free.
    pub traffic: f64,
    /// The part of what is expected to be lost with nodes that leave within an hour that counts, 0 to 1.
    pub risk: f64,
    /// Nodes of a lower tier are left out.
    pub tier: Tier,
    /// Nodes that keep the state of every VNode, in different regions if there are any.
    pub redundancy: usize,
    /// A change of a plan has to bring more tokens within this time than it costs, seconds.
    pub pays_within_s: f64,
}

impl Default for Objective {
    /// Tokens that are expected to arrive, three keepers, an hour.
    fn default() -> Self {
        Self {
            price: 0.0,
            traffic: 0.0,
            risk: 1.0,
            tier: Tier::Community,
            redundancy: 3,
            pays_within_s: 3600.0,
        }
    }
}

impl Objective {
    /// Checks every weight: the first that makes no sense, and what to write instead.
    ///
    /// # Errors
    /// As text, with a hint.
    pub fn validate(&self) -> Result<(), String> {
        let weights =
            [("price", self.price), ("traffic", self.traffic), ("pays_within_s", self.pays_within_s)];
        if let Some((name, value)) =
            weights.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0))
        {
            return Err(format!("objective: {name}: {value} is not possible\nhint: write 0 or more"));
        }
        if !(0.0..=1.0).contains(&self.risk) {
            return Err(format!("objective: risk: {} is not possible\nhint: write 0 to 1", self.risk));
        }
        if !(1..=64).contains(&self.redundancy) {
            return Err(format!(
                "objective: redundancy: {} is not possible\nhint: write 1 to 64",
                self.redundancy
            ));
        }
        Ok(())
    }

    /// What a replica is worth.
    pub(crate) fn value(&self, speed: f64, stays: f64, price: f64, bytes_per_s: f64) -> f64 {
        speed * (1.0 - self.risk * (1.0 - stays)) - self.price * price - self.traffic * bytes_per_s / 1e6
    }
}
