//! Many files at a time, in either direction.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use zoo_content::{StoreError, VerifiedBlob};

use crate::parcel::read;
use crate::snapshot::folders_of;
use crate::{FileEntry, Snapshot, StorageError};

/// Files that are on their way at a time.
const FILES_IN_FLIGHT: usize = 8;
/// Megabytes of files that are in memory at a time, if they are not those of a single larger one.
const MEGABYTES_IN_FLIGHT: u32 = 256;
/// Digits of a snapshot's name in the name of a folder that is not finished.
const UNFINISHED_DIGITS: usize = 12;

/// Hears of bytes done, and of all.
pub type Tell<'a> = &'a mut dyn FnMut(u64, u64);

/// Does `work` for every file, several at a time, and gives the outcomes in the order of the files.
pub async fn for_each_file<T>(
    snapshot: &Snapshot,
    tell: Tell<'_>,
    work: impl AsyncFn(usize, &FileEntry) -> Result<T, StorageError>,
) -> Result<Vec<T>, StorageError> {
    let (mut outcomes, mut done, total) = (Vec::new(), 0, snapshot.total_bytes());
    tell(done, total);
    let room = Semaphore::new(MEGABYTES_IN_FLIGHT as usize);
    let (work, room) = (&work, &room);
    let each = snapshot.files.iter().enumerate();
    let each = stream::iter(each).map(|(index, file)| async move {
        let megabytes = (file.bytes >> 20).min(u64::from(MEGABYTES_IN_FLIGHT)) as u32;
        let _room = room.acquire_many(megabytes).await.expect("the semaphore is never closed");
        work(index, file).await.map(|outcome| (outcome, file.bytes))
    });
    let mut each = std::pin::pin!(each.buffered(FILES_IN_FLIGHT));
    while let Some((outcome, bytes)) = each.try_next().await? {
        outcomes.push(outcome);
        done += bytes;
        tell(done, total);
    }
    Ok(outcomes)
}

/// Makes the folder `out` of a snapshot, whole or not at all. What an attempt before has fetched is
/// not fetched again.
pub async fn restore(
    snapshot: &Snapshot,
    out: &Path,
    tell: Tell<'_>,
    fetch: impl AsyncFn(usize, &FileEntry) -> Result<VerifiedBlob, StorageError>,
) -> Result<(), StorageError> {
    if out.symlink_metadata().is_ok() {
        return Err(StorageError::Exists(out.to_owned()));
    }
    let unfinished = unfinished(snapshot, out);
    make_folder(&unfinished)?;
    for file in &snapshot.files {
        folders_of(&file.path).try_for_each(|folder| make_folder(&unfinished.join(folder)))?;
    }
    for_each_file(snapshot, tell, async |index, file| {
        let path = unfinished.join(&file.path);
        if !is_there(&path, file).await {
            let blob = fetch(index, file).await?;
            in_background(move || write(&path, &blob)).await?;
        }
        Ok(())
    })
    .await?;
    fs::rename(&unfinished, out).map_err(|cause| StoreError::of("rename", &unfinished, cause))?;
    Ok(())
}

/// Where the files of `snapshot` are gathered until they are complete.
fn unfinished(snapshot: &Snapshot, out: &Path) -> PathBuf {
    let digest = snapshot.to_blob().digest().to_string();
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".{}.unfinished", &digest[..UNFINISHED_DIGITS]));
    PathBuf::from(name)
}

/// Whether a file has been fetched, every byte of it.
async fn is_there(path: &Path, file: &FileEntry) -> bool {
    if !path.metadata().is_ok_and(|found| found.len() == file.bytes) {
        return false;
    }
    let (path, digest) = (path.to_owned(), file.digest);
    in_background(move || Ok(VerifiedBlob::verify(digest, read(&path)?).is_ok())).await.unwrap_or(false)
}

/// Runs what blocks on a thread that may.
pub async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.expect("work on files does not panic and is not aborted")
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    Ok(written.map_err(|cause| StoreError::of("write", path, cause))?)
}

fn make_folder(path: &Path) -> Result<(), StorageError> {
    Ok(fs::create_dir_all(path).map_err(|cause| StoreError::of("make", path, cause))?)
}
