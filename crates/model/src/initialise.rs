//! Where initial values come from.

use zoo_content::Digest;

/// The random stream of a VNode's parameter, from their names.
pub(crate) fn stream(vnode: &str, parameter: &str) -> u64 {
    let digest = Digest::of(format!("zoo/initial/1\0{vnode}\0{parameter}").as_bytes());
    let (first, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
    u64::from_le_bytes(*first)
}
