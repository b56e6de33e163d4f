//! Digests, blobs, manifests and the stores that hold them.
