//! `s3:` storage: the files of a `dir:` storage as objects, `PREFIX/blobs/ab/cdef...`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, RetryConfig,
};
use zoo_content::{Digest, VerifiedBlob};

use crate::address::BucketAddress;
use crate::limits::{CONNECT_TIMEOUT, LISTED_MAX, RETRIES_MAX, RETRY_TIMEOUT, patience};
use crate::parcel::Parcel;
use crate::snapshot::SNAPSHOT_BYTES_MAX;
use crate::transfer::{Tell, for_each_file, in_background};
use crate::{FileEntry, Sent, Snapshot, StorageError};

const BLOBS: &str = "blobs";
const SNAPSHOTS: &str = "snapshots";
/// Hex digits of a blob's folder, as in a [`zoo_content::FileStore`].
const SHARD_DIGITS: usize = 2;
/// A blob of more is sent and fetched in parts of this size: what a cut or a timeout can cost.
const PART_BYTES: u64 = 8 << 20;
/// Parts of one blob that are on their way at a time.
const PARTS_IN_FLIGHT: usize = 4;
/// Variables that say who asks; without any of them the client would go and look for a machine's identity.
const IDENTITY_VARIABLES: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SKIP_SIGNATURE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// Variables that say where the server is; the first that is set counts.
const ENDPOINT_VARIABLES: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];

/// A place in a bucket.
#[derive(Debug)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
}

impl Bucket {
    /// The bucket at `address`; credentials come from the environment.
    pub fn open(address: &BucketAddress, shown: String) -> Result<Self, StorageError> {
        if !IDENTITY_VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
            return Err(StorageError::Credentials(shown));
        }
        let options =
            ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(patience(PART_BYTES));
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() },
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIMEOUT,
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&address.bucket)
            .with_client_options(options)
            .with_retry(retry);
        if let Some(region) = &address.region {
            builder = builder.with_region(region);
        }
        let endpoint = ENDPOINT_VARIABLES.iter().find_map(|name| std::env::var(name).ok());
        if let Some(endpoint) = address.endpoint.clone().or(endpoint) {
            // Whoever writes http:// means it.
            builder = builder.with_allow_http(endpoint.starts_with("http://"));
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        let store = builder.build().map_err(|cause| failure(&shown, cause))?;
        Ok(Self::over(Arc::new(store), &address.prefix, shown))
    }

    /// A place in whatever keeps objects.
    pub fn over(store: Arc<dyn ObjectStore>, prefix: &str, shown: String) -> Self {
        Self { store, prefix: Path::from(prefix), shown }
    }

    pub async fn put(&self, parcel: &Parcel, tell: Tell<'_>) -> Result<Sent, StorageError> {
        let sent = for_each_file(parcel.snapshot(), tell, async |index, file| {
            let place = self.place(BLOBS, &file.digest);
            let Some(mode) = self.mode_of_put(&place, file.bytes).await? else { return Ok(0) };
            self.put_blob(&place, parcel.read(index).await?, mode).await?;
            Ok(file.bytes)
        });
        let sent_bytes = sent.await?.iter().sum();
        // Last, so that it stands for all of it.
        let listing = parcel.snapshot().to_blob();
        let digest = listing.digest();
        let place = self.place(SNAPSHOTS, &digest);
        if let Some(mode) = self.mode_of_put(&place, listing.len() as u64).await? {
            self.put_blob(&place, listing, mode).await?;
        }
        Ok(Sent { digest, cid: None, sent_bytes })
    }

    /// How to put a blob of this size: not at all if it is there, over it if that is something else.
    async fn mode_of_put(&self, place: &Path, bytes: u64) -> Result<Option<PutMode>, StorageError> {
        match self.store.head(place).await {
            Ok(found) if found.size == bytes => Ok(None),
            Ok(_) => Ok(Some(PutMode::Overwrite)),
            Err(Error::NotFound { .. }) => Ok(Some(PutMode::Create)),
            Err(cause) => Err(self.failure(cause)),
        }
    }

    async fn put_blob(&self, place: &Path, blob: VerifiedBlob, mode: PutMode) -> Result<(), StorageError> {
        let bytes = Bytes::from_owner(blob);
        if bytes.len() as u64 > PART_BYTES {
            return self.put_in_parts(place, &bytes).await;
        }
        match self.store.put_opts(place, bytes.clone().into(), mode.into()).await {
            // Somebody else has put the same bytes there meanwhile.
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            // A server that knows no conditions: equal names have equal bytes, so nothing is lost.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                self.store.put(place, bytes.into()).await.map(drop).map_err(|cause| self.failure(cause))
            }
            Err(cause) => Err(self.failure(cause)),
        }
    }

    /// The object appears when its last part has arrived, whole.
    async fn put_in_parts(&self, place: &Path, bytes: &Bytes) -> Result<(), StorageError> {
        let mut upload = self.store.put_multipart(place).await.map_err(|cause| self.failure(cause))?;
        let sent = send_parts(upload.as_mut(), bytes).await;
        if let Err(cause) = sent {
            // What stays of it costs room there, no more; the first cause is what counts.
            let _ = upload.abort().await;
            return Err(self.failure(cause));
        }
        Ok(())
    }

    pub async fn snapshot(&self, digest: &Digest) -> Result<Snapshot, StorageError> {
        let place = self.place(SNAPSHOTS, digest);
        let found = match self.store.get(&place).await {
            Err(Error::NotFound { .. }) => {
                return Err(StorageError::NoSnapshot {
                    storage: self.shown.clone(),
                    name: digest.to_string(),
                });
            }
            found => found.map_err(|cause| self.failure(cause))?,
        };
        if found.meta.size > SNAPSHOT_BYTES_MAX {
            return Err(StorageError::damaged_blob(digest));
        }
        let bytes = found.bytes().await.map_err(|cause| self.failure(cause))?;
        let listing = VerifiedBlob::verify(*digest, bytes.into());
        Ok(Snapshot::from_bytes(&listing.map_err(|_| StorageError::damaged_blob(digest))?)?)
    }

    /// A file's bytes: as many as the listing says are asked for, in parts.
    pub async fn get(&self, file: &FileEntry) -> Result<VerifiedBlob, StorageError> {
        let (place, digest) = (self.place(BLOBS, &file.digest), file.digest);
        let part = |range: Range<u64>| self.get_part(&place, &digest, range);
        let mut parts = std::pin::pin!(stream::iter(parts(file.bytes)).map(part).buffered(PARTS_IN_FLIGHT));
        let mut body = Vec::new();
        while let Some(part) = parts.try_next().await? {
            body.extend_from_slice(&part);
        }
        in_background(move || {
            VerifiedBlob::verify(digest, body).map_err(|_| StorageError::damaged_blob(&digest))
        })
        .await
    }

    async fn get_part(
        &self,
        place: &Path,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<Bytes, StorageError> {
        match self.store.get_range(place, range).await {
            Ok(part) => Ok(part),
            Err(Error::NotFound { .. }) => Err(StorageError::missing_blob(digest)),
            Err(cause) => Err(self.failure(cause)),
        }
    }

    pub async fn list(&self) -> Result<Vec<Digest>, StorageError> {
        let prefix = self.prefix.clone().join(SNAPSHOTS);
        let digest = |place: &Path| {
            let digits: String = place.prefix_match(&prefix)?.map(|part| part.as_ref().to_owned()).collect();
            digits.parse::<Digest>().ok()
        };
        let found = self.store.list(Some(&prefix)).take(LISTED_MAX);
        let digests = found.try_filter_map(async |object| Ok(digest(&object.location)));
        digests.try_collect().await.map_err(|cause| self.failure(cause))
    }

    fn place(&self, kind: &str, digest: &Digest) -> Path {
        let digits = digest.to_string();
        let (shard, rest) = digits.split_at(SHARD_DIGITS);
        self.prefix.clone().join(kind).join(shard).join(rest)
    }

    fn failure(&self, cause: Error) -> StorageError {
        failure(&self.shown, cause)
    }
}

async fn send_parts(upload: &mut dyn MultipartUpload, bytes: &Bytes) -> Result<(), Error> {
    let sending: Vec<_> = parts(bytes.len() as u64)
        .map(|range| upload.put_part(bytes.slice(range.start as usize..range.end as usize).into()))
        .collect();
    stream::iter(sending).buffer_unordered(PARTS_IN_FLIGHT).try_collect::<()>().await?;
    upload.complete().await.map(drop)
}

/// The parts of so many bytes.
fn parts(bytes: u64) -> impl Iterator<Item = Range<u64>> {
    (0..bytes).step_by(PART_BYTES as usize).map(move |start| start..bytes.min(start + PART_BYTES))
}

fn failure(shown: &str, cause: Error) -> StorageError {
    let storage = shown.to_owned();
    let said = innermost(&cause);
    match cause {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            StorageError::Forbidden { storage, cause: said }
        }
        Error::NotFound { .. } => {
            StorageError::Failed { storage, cause: format!("there is no such bucket: {said}") }
        }
        _ => StorageError::Failed { storage, cause: said },
    }
}

/// What is behind an error; the messages above it repeat it and say how often it was tried.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::Item;
    use crate::transfer::restore;

    fn parcel(large: usize) -> Parcel {
        let large = (0..large).map(|at| (at % 251) as u8).collect();
        let items = vec![
            Item::memory("empty", vec![]),
            Item::memory("a/b", b"ab".to_vec()),
            Item::memory("large", large),
        ];
        Parcel::new("run", 3, items).unwrap()
    }

    fn bucket() -> (Arc<InMemory>, Bucket) {
        let store = Arc::new(InMemory::new());
        (Arc::clone(&store), Bucket::over(store, "some/prefix", "s3://b/some/prefix".to_owned()))
    }

    async fn get(bucket: &Bucket, digest: &Digest) -> Result<Vec<u8>, StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let snapshot = bucket.snapshot(digest).await?;
        restore(&snapshot, &out, &mut |_, _| {}, async |_, file| bucket.get(file).await).await?;
        assert_eq!(std::fs::read(out.join("a/b")).unwrap(), b"ab");
        assert_eq!(std::fs::read(out.join("empty")).unwrap(), b"");
        Ok(std::fs::read(out.join("large")).unwrap())
    }

    #[tokio::test]
    async fn blobs_of_one_part_and_of_several_come_back_and_are_sent_once() {
        for large in [5, PART_BYTES as usize, PART_BYTES as usize + 1, 20_000_000] {
            let ((_, bucket), parcel) = (bucket(), parcel(large));
            let sent = bucket.put(&parcel, &mut |_, _| {}).await.unwrap();
            assert_eq!(sent.sent_bytes, large as u64 + 2);
            assert_eq!(bucket.list().await.unwrap(), [sent.digest]);
            let expected: Vec<u8> = (0..large).map(|at| (at % 251) as u8).collect();
            assert_eq!(get(&bucket, &sent.digest).await.unwrap(), expected);
            assert_eq!(bucket.put(&parcel, &mut |_, _| {}).await.unwrap(), Sent { sent_bytes: 0, ..sent });
        }
    }

    #[tokio::test]
    async fn what_was_changed_or_is_gone_is_an_error_and_a_cut_object_is_sent_again() {
        let ((store, bucket), parcel) = (bucket(), parcel(1000));
        let digest = bucket.put(&parcel, &mut |_, _| {}).await.unwrap().digest;
        let large = &parcel.snapshot().files[2];
        let place = bucket.place(BLOBS, &large.digest);
        assert!(store.head(&place).await.is_ok());

        store.put(&place, vec![0; 1000].into()).await.unwrap();
        assert!(matches!(get(&bucket, &digest).await, Err(StorageError::Damaged { .. })));
        store.put(&place, vec![0; 999].into()).await.unwrap();
        assert!(get(&bucket, &digest).await.is_err());
        assert_eq!(bucket.put(&parcel, &mut |_, _| {}).await.unwrap().sent_bytes, 1000);
        get(&bucket, &digest).await.unwrap();
        store.delete(&place).await.unwrap();
        assert!(matches!(get(&bucket, &digest).await, Err(StorageError::Missing { .. })));

        let other = Digest::of(b"no snapshot");
        assert!(matches!(bucket.snapshot(&other).await, Err(StorageError::NoSnapshot { .. })));
        store.put(&bucket.place(SNAPSHOTS, &other), "{}".into()).await.unwrap();
        assert!(matches!(bucket.snapshot(&other).await, Err(StorageError::Damaged { .. })));
    }
}
