//! Whose statement it is.

use zoo_content::Digest;
use zoo_protocol::NodeId;

/// Bytes that the software may choose in a statement of the hardware, of either vendor.
pub const REPORT_DATA_BYTES: usize = 64;

/// What a statement has to be about: one node of one network.
///
/// A network is named by its orchestrator's key, which every ticket begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The orchestrator's key.
    pub network: NodeId,
    /// The node's key.
    pub node: NodeId,
}

impl Binding {
    /// The bytes that the node has its hardware sign: BLAKE3 of `zoo/attestation/1`, a zero byte, the network's key and the node's, and
    /// then 32 zero bytes.
    pub fn report_data(&self) -> [u8; REPORT_DATA_BYTES] {
        let signed = Digest::of(&[&b"zoo/attestation/1\0"[..], &self.network.0, &self.node.0].concat());
        let mut data = [0; REPORT_DATA_BYTES];
        data[..32].copy_from_slice(signed.as_bytes());
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_to_sign_belong_to_one_node_of_one_network() {
        let [a, b] = [NodeId([1; 32]), NodeId([2; 32])];
        let data = Binding { network: a, node: b }.report_data();
        for (network, node) in [(b, a), (a, a), (b, b)] {
            assert_ne!(data, Binding { network, node }.report_data());
        }
    }

    #[test]
    fn the_bytes_to_sign_are_those_of_the_format() {
        let binding = Binding { network: NodeId([1; 32]), node: NodeId([2; 32]) };
        let written = [&b"zoo/attestation/1\0"[..], &[1; 32], &[2; 32]].concat();
        assert_eq!(binding.report_data()[..32], Digest::of(&written).as_bytes()[..]);
        assert_eq!(binding.report_data()[32..], [0; 32]);
        let fixture = "a0e3b5101d6341a5b28be0350bf719bedce2c4aa265a9f929731384ebd96e8fd";
        assert_eq!(Digest::of(&written).to_string(), fixture, "nodes of other versions sign the same");
    }
}
