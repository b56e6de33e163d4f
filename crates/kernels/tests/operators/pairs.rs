use zoo_kernels::isa;

use crate::classes::{CLASSES, differences};
use crate::support::alone;

/// `examples/pair_rule.rs` does the same a thousand times longer.
#[test]
fn every_way_of_following_the_pair_rule_gives_the_same_bits() {
    alone(|| {
        for (class, name) in CLASSES.iter().enumerate() {
            for (isa, count) in differences(class, 1, 24) {
                assert_eq!(count, 0, "{name} on {isa}");
            }
        }
    });
    assert!(isa::available().contains(&isa::active()));
}
