//! The rules of the house that a machine can check. Each failure says why the rule is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// ARCHITECTURE.md's table: a room imports only rooms below it.
const FLOORS: &[(&str, u32)] = &[
    ("zoo-kernels", 1),
    ("zoo-content", 1),
    ("zoo-model", 2),
    ("zoo-update", 2),
    ("zoo-protocol", 2),
    ("zoo-state", 3),
    ("zoo-training", 3),
    ("zoo-attest", 3),
    ("zoo-pipeline", 3),
    ("zoo-placement", 3),
    ("zoo-definition", 3),
    ("zoo-admission", 4),
    ("zoo-agent", 4),
    ("zoo-data", 4),
    ("zoo-home", 4),
    ("zoo-http", 4),
    ("zoo-network", 4),
    ("zoo-relay", 4),
    ("zoo-storage", 4),
    ("zoo-tasks", 4),
    ("zoo-audit", 5),
    ("zoo-dispute", 5),
    ("zoo-gateway", 5),
    ("zoo-job", 5),
    ("zoo-orchestrator", 5),
    ("zoo-pnode", 5),
    ("zoo-simulator", 5),
    ("zoo-stages", 5),
    ("zoo-api", 6),
    ("zoo-page", 6),
    ("zoo", 7),
];

/// Heavy dependencies live in one crate each, so that the others build fast and know nothing of them.
const ONE_ROOM_ONLY: &[(&str, &[&str])] = &[
    ("iroh", &["zoo-network"]),
    ("iroh-base", &["zoo-relay"]),
    ("iroh-relay", &["zoo-relay"]),
    ("rcgen", &["zoo-relay"]),
    ("object_store", &["zoo-storage"]),
    ("reqwest", &["zoo-storage"]),
    ("rustls", &["zoo-http", "zoo-network", "zoo-relay", "zoo-storage"]),
    ("utoipa", &["zoo-api"]),
    ("axum", &["zoo-api", "zoo-gateway", "zoo-http", "zoo-page"]),
    ("hyper", &["zoo-http"]),
    ("minijinja", &["zoo-gateway"]),
    ("sqlx", &["zoo-orchestrator"]),
    ("tokenizers", &["zoo-model"]),
    ("dcap-qvl", &["zoo-attest"]),
    ("ring", &["zoo-attest"]),
    ("x509-cert", &["zoo-attest"]),
    ("safetensors", &["zoo-model"]),
    ("ed25519-dalek", &["zoo-protocol"]),
    ("clap", &["zoo"]),
    ("console", &["zoo"]),
    ("indicatif", &["zoo"]),
];

/// Floors 1 to 3 and the data room are synchronous: the async runtime stops at the network.
const WITHOUT_ASYNC: &[&str] = &[
    "zoo-kernels",
    "zoo-content",
    "zoo-model",
    "zoo-update",
    "zoo-protocol",
    "zoo-state",
    "zoo-training",
    "zoo-attest",
    "zoo-pipeline",
    "zoo-placement",
    "zoo-definition",
    "zoo-admission",
    "zoo-agent",
    "zoo-data",
    "zoo-home",
    "zoo-simulator",
    "zoo-tasks",
    "zoo-audit",
    "zoo-dispute",
];

#[test]
fn every_room_imports_only_rooms_below_it() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    for (room, dependencies) in rooms() {
        let floor = *floors.get(room.as_str()).unwrap_or_else(|| panic!("{room} has no floor in the table"));
        for dependency in dependencies {
            if let Some(below) = floors.get(dependency.as_str()) {
                assert!(
                    *below < floor,
                    "{room} (floor {floor}) imports {dependency} (floor {below}): floors may not mix"
                );
            }
        }
    }
}

#[test]
fn heavy_dependencies_live_in_one_room() {
    for (room, dependencies) in rooms() {
        for (heavy, homes) in ONE_ROOM_ONLY {
            let here = dependencies.iter().any(|dependency| dependency == heavy);
            assert!(!here || homes.contains(&room.as_str()), "{room} depends on {heavy}: only {homes:?} may");
        }
    }
}

#[test]
fn no_message_knows_of_relays() {
    // A node that others could send to a relay would tell its owner where it is, and whom it talks to.
    let folder = root().join("crates/protocol");
    for file in sources().into_iter().filter(|file| file.starts_with(&folder)) {
        let text = read(&file).to_ascii_lowercase();
        assert!(!text.contains("relay"), "{}: relays come from tickets, never from messages", file.display());
    }
}

#[test]
fn the_async_runtime_stops_at_the_network() {
    for (room, dependencies) in rooms() {
        let asynchronous = dependencies.iter().any(|dependency| dependency == "tokio");
        assert!(
            !asynchronous || !WITHOUT_ASYNC.contains(&room.as_str()),
            "{room} depends on tokio: pure rooms are called, they do not wait"
        );
    }
}

#[test]
fn unsafe_code_is_forbidden_outside_the_kernels() {
    for folder in crate_folders() {
        let manifest = read(&folder.join("Cargo.toml"));
        let kernels = folder.ends_with("kernels");
        assert_eq!(
            manifest.contains("[lints]\nworkspace = true"),
            !kernels,
            "{}: every crate but kernels takes the workspace's lints, which forbid unsafe code",
            folder.display()
        );
    }
    assert!(read(&root().join("Cargo.toml")).contains("unsafe_code = \"forbid\""));
}

#[test]
fn sources_leave_nothing_open() {
    // Spelt in pieces, or this file would find itself.
    let banned = [
        (["to", "do!("].concat(), "unfinished code is reachable"),
        (["unimpl", "emented!("].concat(), "unfinished code is reachable"),
        (["TO", "DO"].concat(), "open ends belong in an issue"),
        (["FIX", "ME"].concat(), "open ends belong in an issue"),
        (["#[ig", "nore"].concat(), "a test that does not run shows nothing"),
        (["dbg", "!("].concat(), "left over from debugging"),
    ];
    for file in sources() {
        let text = read(&file);
        for (word, why) in &banned {
            assert!(!text.contains(word.as_str()), "{} contains {word}: {why}", file.display());
        }
    }
}

/// Every crate's name with the names of its dependencies (not those of its tests).
fn rooms() -> Vec<(String, Vec<String>)> {
    let rooms: Vec<_> = crate_folders()
        .into_iter()
        .map(|folder| {
            let manifest: toml::Table = read(&folder.join("Cargo.toml")).parse().expect("a manifest is TOML");
            let name = manifest["package"]["name"].as_str().expect("a package has a name").to_string();
            let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
            (name, dependencies.map(|table| table.keys().cloned().collect()).unwrap_or_default())
        })
        .collect();
    assert_eq!(rooms.len(), FLOORS.len(), "every crate has a floor");
    rooms
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = crate_folders();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 100, "only {} sources found: is this the right folder?", found.len());
    found
}

fn crate_folders() -> Vec<PathBuf> {
    let crates = std::fs::read_dir(root().join("crates")).expect("crates/ is there");
    crates.flatten().map(|entry| entry.path()).filter(|path| path.join("Cargo.toml").exists()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
