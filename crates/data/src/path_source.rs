//! Text that a person gives: one file, or every text below a folder.

use std::path::{Path, PathBuf};

use crate::DataError;
use crate::document::{Document, Exclusion, Origin, Reason, count_reasons};
use crate::selection::{Candidate, Limits, Selection, order_key, read_bounded};
use crate::source::Gathered;
use crate::walk::{Found, Tree, walk};

/// Most files of a folder that are looked at.
pub const FOLDER_FILES_MAX: usize = 200_000;

/// The documents at `path`. One file must be text; in a folder, what is not
/// text is passed over with a recorded reason, as long as something is left.
/// What the text looks like is the giver's business and is not judged.
pub(crate) fn gather(path: &Path, bytes_max: u64, seed: u64, threads: usize) -> Result<Gathered, DataError> {
    let metadata = std::fs::metadata(path).map_err(|cause| DataError::io(path, cause))?;
    if metadata.is_file() {
        one_file(path, metadata.len(), bytes_max)
    } else if metadata.is_dir() {
        folder(path, Limits { bytes_max, threads, only_by_persons: false }, seed)
    } else {
        Err(DataError::NotAFile { path: path.to_owned() })
    }
}

fn one_file(path: &Path, file_bytes: u64, bytes_max: u64) -> Result<Gathered, DataError> {
    let bytes = read_bounded(path, bytes_max).map_err(|cause| DataError::io(path, cause))?;
    let is_cut = bytes.len() as u64 == bytes_max && file_bytes > bytes_max;
    let text = text_of(path, bytes, is_cut)?;
    if text.trim().is_empty() {
        return Err(DataError::EmptyFile { path: path.to_owned() });
    }
    let origin = origin(path, name_of(path));
    let mut gathered = Gathered::default();
    if is_cut {
        let rest = file_bytes - text.len() as u64;
        gathered.exclusions.push(Exclusion {
            origin: origin.clone(),
            reason: Reason::OverBudget,
            bytes: rest,
        });
    }
    gathered.documents.push(Document::new(origin, text));
    Ok(gathered)
}

/// `bytes` as text; a character that the cut at the end went through is dropped.
fn text_of(path: &Path, bytes: Vec<u8>, is_cut: bool) -> Result<String, DataError> {
    if let Some(offset) = bytes.iter().position(|&byte| byte == 0) {
        return Err(DataError::Binary { path: path.to_owned(), offset });
    }
    String::from_utf8(bytes).or_else(|error| {
        let offset = error.utf8_error().valid_up_to();
        let is_cut_character = is_cut && error.utf8_error().error_len().is_none();
        let mut bytes = error.into_bytes();
        let byte = bytes[offset];
        bytes.truncate(offset);
        match String::from_utf8(bytes) {
            Ok(text) if is_cut_character => Ok(text),
            _ => Err(DataError::NotUtf8 { path: path.to_owned(), offset, byte }),
        }
    })
}

fn folder(path: &Path, limits: Limits, seed: u64) -> Result<Gathered, DataError> {
    let Tree { mut files, unreadable, truncated } =
        walk(path, FOLDER_FILES_MAX).map_err(|cause| DataError::io(path, cause))?;
    if truncated {
        return Err(DataError::TooManyFiles { path: path.to_owned(), limit: FOLDER_FILES_MAX });
    }
    if files.is_empty() && unreadable.is_empty() {
        return Err(DataError::EmptyFolder { path: path.to_owned() });
    }
    // Over the budget, the choice is spread over the whole folder.
    files.sort_by_cached_key(|file| order_key("files of a folder", seed, file.relative.as_bytes()));
    let mut selection = Selection::new(limits);
    for relative in unreadable {
        selection.exclude(origin(path, relative), Reason::Unreadable, 0);
    }
    let candidate =
        |Found { relative, path: file, bytes }| Candidate { origin: origin(path, relative), file, bytes };
    selection.add(files.into_iter().map(candidate).collect());
    let gathered = Gathered::from(selection);
    if gathered.documents.is_empty() {
        return Err(nothing_usable(path, &gathered.exclusions));
    }
    Ok(gathered)
}

fn nothing_usable(path: &Path, exclusions: &[Exclusion]) -> DataError {
    let reasons: Vec<String> =
        count_reasons(exclusions).iter().map(|(reason, count)| format!("{} {reason}", count.files)).collect();
    DataError::NothingUsable {
        path: path.to_owned(),
        files: exclusions.len() as u64,
        reasons: reasons.join(", "),
    }
}

/// Nobody states a licence for what a person gives: it is theirs to use.
fn origin(root: &Path, relative: String) -> Origin {
    Origin { package: name_of(root), version: None, licence: None, path: relative }
}

/// The last part of a path: where it lies on this machine is nobody's business.
pub(crate) fn name_of(path: &Path) -> String {
    let whole: PathBuf = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    whole.file_name().map_or_else(|| "data".to_owned(), |name| name.to_string_lossy().into_owned())
}
