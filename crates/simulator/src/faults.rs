//! What goes wrong, and how often.

use serde::{Deserialize, Serialize};

/// How bad the weather is. Times are virtual milliseconds; 0 switches a fault off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Faults begin to stop after this time; then the network has to recover.
    pub until_ms: u64,
    /// Slowest way of a message, ms.
    pub latency_max_ms: u64,
    /// Messages of 1,000 that are lost; the conversation breaks.
    pub loss_in_1000: u64,
    /// Reports of 1,000 that arrive a second time, later.
    pub duplicates_in_1000: u64,
    /// Fetches of 1,000 that break in the middle.
    pub broken_fetches_in_1000: u64,
    /// Mean time until a node is killed.
    pub node_crash_ms: u64,
    /// Killed nodes of 1,000 that come back with an empty disk.
    pub wiped_in_1000: u64,
    /// Mean time until a node leaves for a long time.
    pub node_leave_ms: u64,
    /// Mean time until a group of nodes is cut off from the others.
    pub partition_ms: u64,
    /// Mean time until a wire between a node and the orchestrator is cut for a while, over which peers do not talk.
    pub orchestrator_cut_ms: u64,
    /// Mean time until a node's disk is full for a while.
    pub full_disk_ms: u64,
    /// Mean time until a blob on a node's disk rots: it is there and its bytes are others.
    pub rot_ms: u64,
    /// Mean time until all holders of a checkpoint but one are killed and lose it at once.
    pub drill_ms: u64,
    /// Nodes of 1,000 that say they keep checkpoints and do not.
    pub pretenders_in_1000: u64,
    /// The slowest node is so many times slower than the fastest.
    pub slowness: u64,
    /// Writes of 1,000 after or before which the orchestrator is killed.
    pub orchestrator_crash_in_1000: u64,
    /// The orchestrator's clock is off by up to this much after a restart, ms.
    pub clock_skew_ms: u64,
    /// Nodes of 1,000 that contribute what is no update.
    pub garbage_in_1000: u64,
    /// Nodes that refuse whatever others contribute.
    pub slanderers: u64,
    /// Nodes of 1,000 that commit to updates which nobody trained.
    pub forgers_in_1000: u64,
    /// Nodes of 1,000 whose updates have nothing to do with anybody's.
    pub saboteurs_in_1000: u64,
    /// Nodes of 1,000 that lie about others' windows, each for itself.
    pub perjurers_in_1000: u64,
    /// Nodes of 1,000 that do both, together.
    pub colluders_in_1000: u64,
    /// Those who wait are measured, and it is looked so often whether anybody is to be, ms. It is no fault; 0 is not at all.
    pub admission_ms: u64,
    /// So many nodes, the first, are on one machine, which does for one what it then does for the next.
    pub housemates: u64,
}

impl Faults {
    /// Fair weather: some latency, and machines that are alike.
    pub fn none() -> Self {
        Self {
            until_ms: 0,
            latency_max_ms: 20,
            loss_in_1000: 0,
            duplicates_in_1000: 0,
            broken_fetches_in_1000: 0,
            node_crash_ms: 0,
            wiped_in_1000: 0,
            node_leave_ms: 0,
            partition_ms: 0,
            orchestrator_cut_ms: 0,
            full_disk_ms: 0,
            rot_ms: 0,
            drill_ms: 0,
            pretenders_in_1000: 0,
            slowness: 1,
            orchestrator_crash_in_1000: 0,
            clock_skew_ms: 0,
            garbage_in_1000: 0,
            slanderers: 0,
            forgers_in_1000: 0,
            saboteurs_in_1000: 0,
            perjurers_in_1000: 0,
            colluders_in_1000: 0,
            admission_ms: 0,
            housemates: 0,
        }
    }

    /// Everything at once.
    pub fn all() -> Self {
        Self {
            until_ms: 120_000,
            latency_max_ms: 400,
            loss_in_1000: 2,
            duplicates_in_1000: 30,
            broken_fetches_in_1000: 20,
            node_crash_ms: 60_000,
            wiped_in_1000: 100,
            node_leave_ms: 240_000,
            partition_ms: 30_000,
            orchestrator_cut_ms: 60_000,
            full_disk_ms: 120_000,
            rot_ms: 120_000,
            drill_ms: 0,
            pretenders_in_1000: 50,
            slowness: 8,
            orchestrator_crash_in_1000: 30,
            clock_skew_ms: 5_000,
            garbage_in_1000: 100,
            slanderers: 1,
            forgers_in_1000: 50,
            saboteurs_in_1000: 50,
            perjurers_in_1000: 50,
            colluders_in_1000: 0,
            admission_ms: 0,
            housemates: 0,
        }
    }
}

impl Default for Faults {
    /// A file that names some faults has the others off.
    fn default() -> Self {
        Self { until_ms: 120_000, ..Self::none() }
    }
}
