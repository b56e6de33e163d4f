//! Which packages cargo has put on this machine.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::Deserialize;

use crate::selection::read_bounded;

/// Largest answer of `cargo metadata` that is read, bytes: it takes about 5 kB
/// a package.
const METADATA_BYTES_MAX: u64 = 256 << 20;
/// How long cargo may take: it may be waiting for another cargo's lock.
const METADATA_TIMEOUT: Duration = Duration::from_secs(20);
/// Cargo's complaints that are kept, bytes.
const COMPLAINT_BYTES_MAX: u64 = 64 << 10;
/// Largest package manifest that is read, bytes.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// A package whose source code is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub name: String,
    pub version: String,
    pub licence: Option<String>,
    /// The folder its manifest is in.
    pub root: PathBuf,
}

/// The nearest `Cargo.toml` in `start` or the folders above it.
pub fn find_manifest(start: &Path) -> Option<PathBuf> {
    start.ancestors().map(|folder| folder.join("Cargo.toml")).find(|manifest| manifest.is_file())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    version: String,
    license: Option<String>,
    /// Absent for the workspace's own members and for path dependencies.
    source: Option<String>,
    manifest_path: PathBuf,
}

/// The packages that the project of `manifest` depends on, as `cargo metadata`
/// lists them. Cargo is told to change nothing and to fetch nothing. An error
/// is what went wrong, in words.
pub(crate) fn of_project(cargo: &OsString, manifest: &Path) -> Result<Vec<Package>, String> {
    let metadata = run_metadata(cargo, manifest)?;
    let metadata: Metadata = serde_json::from_slice(&metadata)
        .map_err(|error| format!("cargo metadata: unexpected answer: {error}"))?;
    let packages =
        metadata.packages.into_iter().filter(|package| package.source.is_some()).filter_map(|package| {
            let root = package.manifest_path.parent()?.to_owned();
            Some(Package { name: package.name, version: package.version, licence: package.license, root })
        });
    Ok(packages.collect())
}

fn run_metadata(cargo: &OsString, manifest: &Path) -> Result<Vec<u8>, String> {
    let mut child = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--frozen", "--manifest-path"])
        .arg(manifest)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let answer = read_aside(child.stdout.take(), METADATA_BYTES_MAX + 1);
    let complaint = read_aside(child.stderr.take(), COMPLAINT_BYTES_MAX);
    let answer = answer.recv_timeout(METADATA_TIMEOUT).unwrap_or_default();
    let is_whole = !answer.is_empty() && answer.len() as u64 <= METADATA_BYTES_MAX;
    if !is_whole {
        // It hangs, says too much, or has failed and is gone already.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("cargo metadata: {error}"))?;
    if is_whole && status.success() {
        return Ok(answer);
    }
    let complaint = complaint.recv_timeout(METADATA_TIMEOUT).unwrap_or_default();
    let complaint = String::from_utf8_lossy(&complaint);
    let first = complaint.lines().find(|line| line.starts_with("error")).unwrap_or("no answer");
    Err(format!("cargo metadata: {first}"))
}

/// Reads a pipe on a thread of its own, so that neither pipe of a process can
/// block the other and nobody waits without a bound.
fn read_aside(pipe: Option<impl Read + Send + 'static>, bytes_max: u64) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What arrived before a failure is all there is.
            let _ = pipe.take(bytes_max).read_to_end(&mut bytes);
        }
        // Nobody listens any more after a timeout.
        let _ = sender.send(bytes);
    });
    receiver
}

#[derive(Deserialize)]
struct Manifest {
    package: Option<ManifestPackage>,
}

#[derive(Deserialize)]
struct ManifestPackage {
    name: String,
    version: String,
    license: Option<String>,
}

/// Every package unpacked in the registry folders of cargo's home, in the order
/// of the folders' names. What has no readable manifest is no package.
pub(crate) fn of_registry(cargo_home: &Path) -> Vec<Package> {
    let registries = folders(&cargo_home.join("registry").join("src"));
    registries.iter().flat_map(|registry| folders(registry)).filter_map(package_in).collect()
}

fn package_in(root: PathBuf) -> Option<Package> {
    let manifest = read_bounded(&root.join("Cargo.toml"), MANIFEST_BYTES_MAX).ok()?;
    let manifest: Manifest = toml::from_slice(&manifest).ok()?;
    let ManifestPackage { name, version, license } = manifest.package?;
    Some(Package { name, version, licence: license, root })
}

/// The folders in a folder, by name; none if it cannot be read.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
