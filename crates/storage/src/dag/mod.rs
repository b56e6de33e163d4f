//! Files and folders as IPFS knows them: blocks named by their hashes.
//!
//! Everything is written as `ipfs add --recursive --cid-version=1 --raw-leaves` writes it, so that equal folders
//! have equal names there and here, and `ipfs get` makes files of what is stored.

pub mod car;
pub mod cid;
pub mod file;
pub mod folder;
pub mod node;
pub mod read;
mod varint;
