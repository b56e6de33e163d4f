//! A published model beside the one that a checkpoint gives.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use zoo_content::{BlobStore, Digest, StoreError};
use zoo_job::Fetched;

use super::report::Report;
use crate::live::format::several;

/// Writes the model of `checkpoint` as it is published, and compares `folder` with it, byte for byte; gives what is wrong.
pub fn compare(
    store: &dyn BlobStore,
    checkpoint: &Digest,
    folder: &Path,
    scratch: &Path,
    report: &mut Report,
) -> Result<Option<String>> {
    if let Err(StoreError::NotFound(_)) = store.get(checkpoint) {
        let hint = "hint: --all makes it again; or name a folder that has its blobs with --blobs";
        return Ok(Some(format!(
            "the model cannot be compared: its checkpoint {} is not at hand\n{hint}",
            checkpoint.short()
        )));
    }
    let fetched = Fetched::read(store, checkpoint)?;
    let network = fetched.network()?;
    let ours = scratch.join("model");
    fetched.export(&network, Vec::new(), &ours)?;
    let mut names: Vec<String> = fs::read_dir(&ours)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    let (mut differences, total) = (Vec::new(), names.len() as u64);
    for name in names {
        let expected = read(&ours.join(&name))?;
        let published = match fs::read(folder.join(&name)) {
            Ok(published) => published,
            Err(cause) => {
                differences.push(format!("{name}: {cause}"));
                continue;
            }
        };
        if let Some(at) = first_difference(&expected, &published) {
            let tensor = if name.ends_with(".safetensors") { tensor_at(&expected, at) } else { None };
            let tensor = tensor.map(|tensor| format!(" (tensor {tensor})")).unwrap_or_default();
            differences.push(format!("{name}: byte {at}{tensor} is not what comes out"));
        }
    }
    let fields = json!({
        "folder": folder, "model_digest": network.digest(), "files": total, "differences": differences, "equal": differences.is_empty(),
    });
    let shown = folder.display();
    if differences.is_empty() {
        let sentence =
            format!("the model in {shown} is that of the checkpoint: {}, every byte", several(total, "file"));
        report.tell("model", fields, &sentence);
        return Ok(None);
    }
    report.tell("model", fields, &differences.join("\n"));
    Ok(Some(format!(
        "the model in {shown} is not the one that the journal leads to\nhint: what differs is named above"
    )))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The first byte at which two files part.
fn first_difference(left: &[u8], right: &[u8]) -> Option<usize> {
    let at = left.iter().zip(right).position(|(left, right)| left != right);
    at.or_else(|| (left.len() != right.len()).then_some(left.len().min(right.len())))
}

/// The tensor that has this byte of a file of safetensors: eight bytes of length, a head of JSON, then the tensors.
fn tensor_at(file: &[u8], at: usize) -> Option<String> {
    let head_bytes = u64::from_le_bytes(*file.first_chunk()?) as usize;
    let head: Value = serde_json::from_slice(file.get(8..8 + head_bytes)?).ok()?;
    let at = at.checked_sub(8 + head_bytes)? as u64;
    head.as_object()?.iter().find_map(|(name, tensor)| {
        let offsets = tensor["data_offsets"].as_array()?;
        (offsets.first()?.as_u64()?..offsets.get(1)?.as_u64()?).contains(&at).then(|| name.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_named_with_its_tensor() {
        let head = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        let file = [&(head.len() as u64).to_le_bytes()[..], head, &[0; 8]].concat();
        let data = 8 + head.len();
        assert_eq!(tensor_at(&file, data + 3).as_deref(), Some("a"));
        assert_eq!(tensor_at(&file, data + 4).as_deref(), Some("b"));
        assert_eq!((tensor_at(&file, 3), tensor_at(&file, data + 8), tensor_at(&[], 0)), (None, None, None));
        assert_eq!(first_difference(b"abc", b"abd"), Some(2));
        assert_eq!(first_difference(b"abc", b"abcd"), Some(3));
        assert_eq!(first_difference(b"abc", b"abc"), None);
    }
}
