//! The default corpus: the source code and documentation of the packages that
//! cargo has already put on this machine. Real text, real licences, no download.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::cargo_packages::{self, Package, find_manifest};
use crate::document::{Origin, Reason};
use crate::licence::is_permissive;
use crate::parallel;
use crate::selection::{Candidate, Limits, Selection, order_key};
use crate::source::{Gathered, SourceRecord};
use crate::walk::walk;

/// A package fills at most this part of the budget, as long as there are
/// others: no single author's habits dominate the text.
const PACKAGE_SHARE: u64 = 48;
/// Packages listed before the next look at the budget.
const WAVE_PACKAGES: usize = 16;
/// Most files of a package that are looked at.
const PACKAGE_FILES_MAX: usize = 20_000;
/// Larger files are tables, not prose or code.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Where to look for packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CargoSource {
    /// The cargo to ask.
    pub cargo: OsString,
    /// The project whose dependencies are wanted; without one, or if cargo
    /// cannot list them, every package in `cargo_home` serves.
    pub manifest: Option<PathBuf>,
    /// Cargo's home, which holds the unpacked packages.
    pub cargo_home: Option<PathBuf>,
}

impl CargoSource {
    /// The source as the environment has it: `CARGO`, `CARGO_HOME`, and the
    /// nearest manifest from `start` upwards.
    pub fn from_environment(start: &Path) -> Self {
        let home = || std::env::home_dir().map(|home| home.join(".cargo"));
        Self {
            cargo: std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
            manifest: find_manifest(start),
            cargo_home: std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home),
        }
    }

    /// The packages, and who listed them.
    fn packages(&self) -> Result<(SourceRecord, Vec<Package>), DataError> {
        let mut causes = Vec::new();
        match &self.manifest {
            None => causes.push("no Cargo.toml here or above".to_owned()),
            Some(manifest) => match cargo_packages::of_project(&self.cargo, manifest) {
                Ok(packages) if !packages.is_empty() => return Ok((SourceRecord::CargoMetadata, packages)),
                Ok(_) => causes.push("the project depends on no packages".to_owned()),
                Err(cause) => causes.push(cause),
            },
        }
        let packages = self.cargo_home.as_deref().map(cargo_packages::of_registry).unwrap_or_default();
        if packages.is_empty() {
            causes.push("no packages in cargo's home".to_owned());
            return Err(DataError::NoPackages { cause: causes.join("; ") });
        }
        Ok((SourceRecord::CargoRegistry, packages))
    }
}

/// Up to `bytes_max` bytes of documents, spread over the packages in an order
/// that follows from `seed` and their names.
pub(crate) fn gather(
    source: &CargoSource,
    bytes_max: u64,
    seed: u64,
    threads: usize,
) -> Result<(SourceRecord, Gathered), DataError> {
    let (record, packages) = source.packages()?;
    let mut selection = Selection::new(Limits { bytes_max, threads, only_by_persons: true });
    let mut usable = newest_permissive(packages, &mut selection);
    usable.sort_by_cached_key(|package| {
        order_key("packages", seed, format!("{}@{}", package.name, package.version).as_bytes())
    });
    let share = bytes_max / PACKAGE_SHARE;
    let mut later = Vec::new();
    for wave in usable.chunks(WAVE_PACKAGES) {
        if selection.is_full() {
            break;
        }
        let listed = parallel::map(threads, wave, |package| list_files(package, seed));
        let mut now = Vec::new();
        for files in listed {
            let (within, beyond) = cut_at_share(files, share);
            now.extend(within);
            later.extend(beyond);
        }
        selection.add(now);
    }
    if !selection.is_full() {
        selection.add(later);
    }
    if selection.documents.is_empty() {
        let cause = "none of the packages here has text under a permissive licence".to_owned();
        return Err(DataError::NoPackages { cause });
    }
    Ok((record, selection.into()))
}

/// The packages with a permissive licence, of several versions the newest:
/// versions share most of their text, and text that is trained on must not be
/// held out as well.
fn newest_permissive(packages: Vec<Package>, selection: &mut Selection) -> Vec<Package> {
    let mut newest = BTreeMap::<String, Package>::new();
    for package in packages {
        match package.licence.as_deref() {
            Some(licence) if is_permissive(licence) => {}
            Some(_) => {
                selection.exclude(origin(&package, String::new()), Reason::LicenceNotPermissive, 0);
                continue;
            }
            None => {
                selection.exclude(origin(&package, String::new()), Reason::NoLicence, 0);
                continue;
            }
        }
        let Some(other) = newest.remove(&package.name) else {
            newest.insert(package.name.clone(), package);
            continue;
        };
        let (kept, dropped) = match compare_versions(&package.version, &other.version) {
            Ordering::Greater => (package, other),
            Ordering::Less | Ordering::Equal => (other, package),
        };
        if kept.version != dropped.version {
            selection.exclude(origin(&dropped, String::new()), Reason::OlderVersion, 0);
        }
        newest.insert(kept.name.clone(), kept);
    }
    newest.into_values().collect()
}

/// Semantic versions: numbers compare as numbers, a pre-release comes before
/// its release, build metadata is the last resort.
fn compare_versions(one: &str, other: &str) -> Ordering {
    fn key(version: &str) -> (Vec<u64>, bool, &str) {
        let without_build = version.split('+').next().unwrap_or(version);
        let (numbers, is_release) =
            without_build.split_once('-').map_or((without_build, true), |(numbers, _)| (numbers, false));
        (numbers.split('.').map(|number| number.parse().unwrap_or(0)).collect(), is_release, version)
    }
    key(one).cmp(&key(other))
}

/// The source code and documentation of a package, in an order that follows
/// from `seed`.
fn list_files(package: &Package, seed: u64) -> Vec<Candidate> {
    let Ok(tree) = walk(&package.root, PACKAGE_FILES_MAX) else { return Vec::new() };
    let wanted =
        tree.files.into_iter().filter(|file| is_wanted(&file.relative) && file.bytes <= FILE_BYTES_MAX);
    let mut candidates: Vec<Candidate> = wanted
        .map(|file| Candidate { origin: origin(package, file.relative), file: file.path, bytes: file.bytes })
        .collect();
    candidates.sort_by_cached_key(|candidate| {
        let name = format!("{}/{}", candidate.origin.package, candidate.origin.path);
        order_key("files of a package", seed, name.as_bytes())
    });
    candidates
}

/// `src/**/*.rs`, every Markdown file and every read-me.
fn is_wanted(relative: &str) -> bool {
    let name = relative.rsplit('/').next().unwrap_or(relative);
    (relative.starts_with("src/") && name.ends_with(".rs"))
        || name.ends_with(".md")
        || name.starts_with("README")
}

/// The files that fit into a package's share of the budget, and the others.
fn cut_at_share(files: Vec<Candidate>, share: u64) -> (Vec<Candidate>, Vec<Candidate>) {
    let mut room = share;
    files.into_iter().partition(|file| {
        let fits = file.bytes <= room;
        room -= if fits { file.bytes } else { 0 };
        fits
    })
}

fn origin(package: &Package, path: String) -> Origin {
    Origin {
        package: package.name.clone(),
        version: Some(package.version.clone()),
        licence: package.licence.clone(),
        path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers_not_as_text() {
        let ascending = [
            "0.1.9",
            "0.1.10",
            "0.9.0",
            "0.10.0-rc.1",
            "0.10.0",
            "1.0.0-alpha",
            "1.0.0",
            "1.0.0+build",
            "2.0.0",
        ];
        for (index, one) in ascending.iter().enumerate() {
            for (other_index, other) in ascending.iter().enumerate() {
                assert_eq!(compare_versions(one, other), index.cmp(&other_index), "{one} and {other}");
            }
        }
    }

    #[test]
    fn source_code_and_documentation_are_wanted_and_nothing_else() {
        for path in ["src/lib.rs", "src/a/b.rs", "README.md", "README", "docs/guide.md", "CHANGELOG.md"] {
            assert!(is_wanted(path), "{path}");
        }
        for path in [
            "build.rs",
            "tests/it.rs",
            "benches/b.rs",
            "src/data.bin",
            "Cargo.toml",
            "LICENSE-MIT",
            "xsrc/a.rs",
        ] {
            assert!(!is_wanted(path), "{path}");
        }
    }
}
