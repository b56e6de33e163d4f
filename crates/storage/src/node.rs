//! `ipfs:` storage: a node of IPFS, spoken to by the HTTP RPC of Kubo (<https://docs.ipfs.tech/reference/kubo/rpc/>).
//!
//! A snapshot is a folder, named by its digest in the node's own file system: `/zoo/DIGEST`. It is pinned, and so is each of
//! its files: whether a file is there whole is then one question that costs the node nothing.
//! `ipfs get CID` makes files of it without this program.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Client, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use zoo_content::{Digest, VerifiedBlob};

use crate::catalog::{blocks_of, folder_over, read_listing};
use crate::dag::car::{header, section_head};
use crate::dag::cid::Cid;
use crate::dag::file::Block;
use crate::dag::node::BLOCK_BYTES_MAX;
use crate::dag::read::Blocks;
use crate::limits::{CONNECT_TIMEOUT, LISTED_MAX, RETRIES_MAX, patience};
use crate::parcel::Parcel;
use crate::transfer::{Tell, for_each_file, in_background};
use crate::{Sent, StorageError};

/// Where the node's own file system has the snapshots.
const SHELF: &str = "/zoo";
/// Most bytes of an answer that is no block.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Before a request is made a second time; each time twice as long.
const FIRST_RETRY_AFTER: Duration = Duration::from_millis(250);

/// A node of IPFS.
#[derive(Debug)]
pub struct Node {
    authority: String,
    client: Client,
}

impl Node {
    pub fn open(authority: &str) -> Result<Self, StorageError> {
        // The address is dialled, not what a variable says about proxies.
        let client = Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT).build();
        let authority = authority.to_owned();
        let failed = |cause: reqwest::Error| StorageError::Failed {
            storage: shown(&authority),
            cause: innermost(&cause),
        };
        let client = client.map_err(failed)?;
        Ok(Self { authority, client })
    }

    pub async fn put(&self, parcel: &Parcel, tell: Tell<'_>) -> Result<Sent, StorageError> {
        let sent = for_each_file(parcel.snapshot(), tell, async |index, file| {
            let blob = parcel.read(index).await?;
            let (link, blocks) = in_background(move || Ok(blocks_of(blob))).await?;
            let held = self.is_pinned(&link.cid).await?;
            if !held {
                self.import(&link.cid, &blocks).await?;
            }
            Ok((link, if held { 0 } else { file.bytes }))
        });
        let (links, sent_bytes): (Vec<_>, Vec<u64>) = sent.await?.into_iter().unzip();
        let (root, blocks) = folder_over(parcel.snapshot(), &links)?;
        self.import(&root, &blocks).await?;
        let digest = parcel.snapshot().to_blob().digest();
        self.name(&digest, &root).await?;
        Ok(Sent { digest, cid: Some(root), sent_bytes: sent_bytes.iter().sum() })
    }

    /// The folder of a snapshot.
    pub async fn root(&self, digest: &Digest) -> Result<Cid, StorageError> {
        let stat: Option<Stat> = self.ask(&format!("files/stat?arg={SHELF}/{digest}")).await?;
        let no_snapshot =
            || StorageError::NoSnapshot { storage: shown(&self.authority), name: digest.to_string() };
        stat.and_then(|stat| Cid::from_multibase(&stat.hash)).ok_or_else(no_snapshot)
    }

    /// The listing of the snapshot in the folder at `root`.
    pub async fn listing(&self, root: &Cid) -> Result<VerifiedBlob, StorageError> {
        read_listing(self, root).await
    }

    pub async fn list(&self) -> Result<Vec<Digest>, StorageError> {
        let shelf: Option<Shelf> = self.ask(&format!("files/ls?arg={SHELF}")).await?;
        let entries = shelf.and_then(|shelf| shelf.entries).unwrap_or_default();
        Ok(entries.iter().filter_map(|entry| entry.name.parse().ok()).take(LISTED_MAX).collect())
    }

    async fn is_pinned(&self, cid: &Cid) -> Result<bool, StorageError> {
        let pinned: Option<Ignored> = self.ask(&format!("pin/ls?arg={cid}&type=recursive")).await?;
        Ok(pinned.is_some())
    }

    /// Sends blocks as a CAR file; the node checks them, and holds on to everything below `root`.
    async fn import(&self, root: &Cid, blocks: &[Block]) -> Result<(), StorageError> {
        let bytes = blocks.iter().map(|block| block.bytes.len() as u64).sum();
        let body = || Body::wrap_stream(stream::iter(car_in_form(root, blocks)));
        let form = Form { boundary: root.to_string(), body: &body };
        let answer = self.post("dag/import?pin-roots=true", Some(form), bytes).await?;
        let answer = answer.map_err(|said| self.failed(said))?;
        let pinned = answer.split(|&byte| byte == b'\n').any(|line| {
            serde_json::from_slice(line).is_ok_and(|Imported { root: of }: Imported| {
                of.cid.cid == root.to_string() && of.pin_error.is_none_or(|error| error.is_empty())
            })
        });
        let said = String::from_utf8_lossy(&answer);
        if pinned { Ok(()) } else { Err(self.failed(format!("it did not keep {root}: {said:.200}"))) }
    }

    /// Gives a snapshot's folder its name in the node's own file system.
    async fn name(&self, digest: &Digest, root: &Cid) -> Result<(), StorageError> {
        if self.root(digest).await.is_ok_and(|named| named == *root) {
            return Ok(());
        }
        self.demand(&format!("files/mkdir?arg={SHELF}&parents=true")).await?;
        self.demand(&format!("files/cp?arg=/ipfs/{root}&arg={SHELF}/{digest}")).await
    }

    /// Something that has to work.
    async fn demand(&self, request: &str) -> Result<(), StorageError> {
        self.post(request, None, 0).await?.map(drop).map_err(|said| self.failed(said))
    }

    /// An answer, or none when the node says that there is no such thing.
    async fn ask<T: DeserializeOwned>(&self, request: &str) -> Result<Option<T>, StorageError> {
        match self.post(request, None, 0).await? {
            Ok(answer) => match serde_json::from_slice(&answer) {
                Ok(answer) => Ok(Some(answer)),
                Err(cause) => Err(self.failed(format!("its answer is none: {cause}"))),
            },
            Err(said) if said.contains("not pinned") || said.contains("does not exist") => Ok(None),
            Err(said) => Err(self.failed(said)),
        }
    }

    /// Makes a request, again if it fails on the way. The inner error is what the node says is wrong.
    async fn post(
        &self,
        request: &str,
        form: Option<Form<'_>>,
        bytes: u64,
    ) -> Result<Result<Bytes, String>, StorageError> {
        let (mut retries, mut wait) = (0, FIRST_RETRY_AFTER);
        loop {
            let url = format!("http://{}/api/v0/{request}", self.authority);
            let mut post = self.client.post(url).timeout(patience(bytes));
            if let Some(Form { boundary, body }) = &form {
                let kind = format!("multipart/form-data; boundary={boundary}");
                post = post.header("content-type", kind).body(body());
            }
            match answer_of(post.send().await).await {
                Ok(answer) => return Ok(answer),
                Err(cause) if retries == RETRIES_MAX || (cause.is_timeout() && !cause.is_connect()) => {
                    return Err(self.failed(innermost(&cause)));
                }
                Err(_) => sleep(wait).await,
            }
            (retries, wait) = (retries + 1, wait * 2);
        }
    }

    fn failed(&self, cause: String) -> StorageError {
        StorageError::Failed { storage: shown(&self.authority), cause }
    }
}

impl Blocks for Node {
    async fn block(&self, cid: &Cid) -> Result<Bytes, StorageError> {
        let answer = self.post(&format!("block/get?arg={cid}"), None, BLOCK_BYTES_MAX as u64).await?;
        answer.map_err(|said| self.failed(said))
    }
}

/// What the node answered; the inner error is what it says is wrong.
async fn answer_of(
    response: Result<Response, reqwest::Error>,
) -> Result<Result<Bytes, String>, reqwest::Error> {
    let mut response = response?;
    let status = response.status();
    let mut answer = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if answer.len() + piece.len() > ANSWER_BYTES_MAX {
            return Ok(Err(format!("its answer has more than {ANSWER_BYTES_MAX} bytes")));
        }
        answer.extend_from_slice(&piece);
    }
    if status.is_success() {
        return Ok(Ok(answer.into()));
    }
    let said = match serde_json::from_slice(&answer) {
        Ok(Refusal { message }) => message,
        Err(_) => format!("it answers {status}: is it the RPC of an IPFS node?"),
    };
    Ok(Err(said))
}

/// The body of a request: a form of one part.
struct Form<'a> {
    /// What ends the part: the name of a block in it, which no block can contain.
    boundary: String,
    /// Made anew for every attempt.
    body: &'a dyn Fn() -> Body,
}

/// The CAR of these blocks as the only part of a [`Form`], piece by piece.
fn car_in_form(root: &Cid, blocks: &[Block]) -> impl Iterator<Item = Result<Bytes, Infallible>> + use<> {
    let start = format!(
        "--{root}\r\ncontent-disposition: form-data; name=\"path\"; filename=\"snapshot.car\"\r\n\
         content-type: application/octet-stream\r\n\r\n"
    );
    let mut pieces: Vec<Bytes> = vec![start.into(), header(root).into()];
    for block in blocks {
        pieces.extend([section_head(block).into(), block.bytes.clone()]);
    }
    pieces.push(format!("\r\n--{root}--\r\n").into());
    pieces.into_iter().map(Ok)
}

/// What a node says when it refuses.
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "Message")]
    message: String,
}

/// An answer that matters by being one.
#[derive(Deserialize)]
struct Ignored {}

#[derive(Deserialize)]
struct Stat {
    #[serde(rename = "Hash")]
    hash: String,
}

#[derive(Deserialize)]
struct Shelf {
    #[serde(rename = "Entries")]
    entries: Option<Vec<ShelfEntry>>,
}

#[derive(Deserialize)]
struct ShelfEntry {
    #[serde(rename = "Name")]
    name: String,
}

/// A line of the answer to an import.
#[derive(Deserialize)]
struct Imported {
    #[serde(rename = "Root")]
    root: ImportedRoot,
}

#[derive(Deserialize)]
struct ImportedRoot {
    #[serde(rename = "Cid")]
    cid: CidInJson,
    #[serde(rename = "PinErrorMsg")]
    pin_error: Option<String>,
}

/// A CID as DAG-JSON writes it.
#[derive(Deserialize)]
struct CidInJson {
    #[serde(rename = "/")]
    cid: String,
}

fn shown(authority: &str) -> String {
    format!("ipfs:{authority}")
}

/// What is behind an error of the client.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::cid::Codec;

    #[test]
    fn a_form_holds_a_car_between_its_boundaries() {
        let bytes = Bytes::from_static(b"block");
        let block = Block { cid: Cid::of(Codec::Raw, &bytes), bytes };
        let pieces: Vec<Bytes> = car_in_form(&block.cid, std::slice::from_ref(&block))
            .map(|piece| piece.unwrap_or_default())
            .collect();
        let form = pieces.concat();
        let boundary = format!("--{}", block.cid);
        assert!(form.starts_with(boundary.as_bytes()));
        assert!(form.ends_with(format!("block\r\n{boundary}--\r\n").as_bytes()));
    }

    #[test]
    fn answers_of_nodes_are_understood() {
        let imported =
            |text: &str| serde_json::from_str::<Imported>(text).ok().map(|imported| imported.root.pin_error);
        assert_eq!(imported(r#"{"Root":{"Cid":{"/":"bafy"},"PinErrorMsg":""}}"#), Some(Some(String::new())));
        assert_eq!(imported(r#"{"Root":{"Cid":{"/":"bafy"}}}"#), Some(None));
        assert_eq!(imported(r#"{"Stats":{"BlockCount":1}}"#), None);
        let shelf: Shelf = serde_json::from_str(r#"{"Entries":null}"#).unwrap();
        assert!(shelf.entries.is_none(), "a folder that is empty");
        let stat: Stat = serde_json::from_str(r#"{"Hash":"bafy","Size":0,"Type":"directory"}"#).unwrap();
        assert_eq!(stat.hash, "bafy");
    }
}
