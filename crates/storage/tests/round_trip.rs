//! What is put comes back, to the byte or not at all, from folders and CAR files. Buckets are tested beside their code;
//! real servers by `tests/storage/`.

use std::fs;
use std::path::{Path, PathBuf};

use zoo_content::Digest;
use zoo_storage::{Address, Cid, Item, Name, Parcel, Storage, StorageError, Stored};

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn storage(&self, kind: &str) -> Storage {
        let address: Address = format!("{kind}:{}", self.path(kind).display()).parse().unwrap();
        Storage::open(&address).unwrap()
    }
}

/// A run of a few files, among them one of several chunks; some files stay the same from step to step.
fn parcel(step: u64) -> Parcel {
    let large: Vec<u8> = (0..1_000_000u64).map(|at| ((at * (step + 3)) >> 5) as u8).collect();
    let items = vec![
        Item::memory("run.json", b"{}".to_vec()),
        Item::memory("data/training.tokens", vec![7; 300_000]),
        Item::memory("blobs/ab/cd", large),
        Item::memory("blobs/ab/empty", vec![]),
        Item::memory("latest", step.to_string().into_bytes()),
    ];
    Parcel::new("run", step, items).unwrap()
}

async fn put(storage: &Storage, parcel: &Parcel) -> zoo_storage::Sent {
    let mut told = Vec::new();
    let sent = storage.put(parcel, &mut |done, total| told.push((done, total))).await.unwrap();
    let total = parcel.snapshot().total_bytes();
    assert_eq!((told[0], *told.last().unwrap()), ((0, total), (total, total)));
    assert!(told.is_sorted());
    sent
}

async fn get(storage: &Storage, name: Name, out: &Path) -> Result<(), StorageError> {
    storage.get(&name, out, &mut |_, _| {}).await.map(drop)
}

fn assert_is(out: &Path, step: u64) {
    assert_eq!(fs::read(out.join("latest")).unwrap(), step.to_string().as_bytes());
    assert_eq!(fs::read(out.join("data/training.tokens")).unwrap(), vec![7; 300_000]);
    let found = Digest::of(&fs::read(out.join("blobs/ab/cd")).unwrap());
    assert!(parcel(step).snapshot().files.iter().any(|file| file.digest == found));
}

#[tokio::test]
async fn snapshots_come_back_and_what_they_share_is_stored_once() {
    let bench = Bench::new();
    let storage = bench.storage("dir");
    let first = put(&storage, &parcel(1)).await;
    let second = put(&storage, &parcel(2)).await;
    assert_eq!((first.sent_bytes, second.sent_bytes), (1_300_003, 1_000_001));
    assert_eq!(put(&storage, &parcel(2)).await.sent_bytes, 0);
    for (step, sent) in [(1, first), (2, second)] {
        let out = bench.path(&format!("out-{step}"));
        get(&storage, Name::Digest(sent.digest), &out).await.unwrap();
        assert_is(&out, step);
        let again = get(&storage, Name::Digest(sent.digest), &out).await.unwrap_err().to_string();
        assert!(again.contains("exists already\nhint: "), "{again}");
    }
    let steps: Vec<u64> = storage.list().await.unwrap().iter().map(|stored| stored.snapshot.step).collect();
    assert_eq!(steps, [1, 2]);
}

#[tokio::test]
async fn a_car_file_holds_one_snapshot_that_is_known_by_both_its_names() {
    let bench = Bench::new();
    let storage = bench.storage("car");
    put(&storage, &parcel(1)).await;
    let sent = put(&storage, &parcel(2)).await;
    let [Stored { digest, cid: Some(cid), .. }] = storage.list().await.unwrap()[..] else {
        panic!("one snapshot")
    };
    assert_eq!((digest, Some(cid)), (sent.digest, sent.cid));
    for (at, name) in [Name::Digest(digest), Name::Cid(cid)].into_iter().enumerate() {
        let out = bench.path(&format!("out-{at}"));
        get(&storage, name, &out).await.unwrap();
        assert_is(&out, 2);
    }
    let other = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354".parse::<Cid>().unwrap();
    for name in [Name::Digest(Digest::of(b"")), Name::Cid(other)] {
        let error = get(&storage, name, &bench.path("other")).await.unwrap_err().to_string();
        assert!(error.contains("another snapshot is there\nhint: "), "{error}");
    }
    assert!(!bench.path("car.unfinished").exists());
}

#[tokio::test]
async fn a_snapshot_is_found_by_the_beginning_of_its_name_or_by_being_the_newest() {
    let bench = Bench::new();
    let storage = bench.storage("dir");
    let first = put(&storage, &parcel(1)).await.digest;
    let second = put(&storage, &parcel(2)).await.digest;
    assert_eq!(storage.find(None).await.unwrap(), Name::Digest(second));
    for name in [first, second] {
        let text = name.to_string();
        assert_eq!(storage.find(Some(&text)).await.unwrap(), Name::Digest(name));
        assert_eq!(storage.find(Some(&text[..9])).await.unwrap(), Name::Digest(name));
    }
    assert!(storage.find(Some("")).await.unwrap_err().to_string().contains("several snapshots begin so"));
    assert!(
        storage.find(Some("xyz")).await.unwrap_err().to_string().contains("no snapshot here is called so")
    );
    put(&storage, &Parcel::new("other run", 9, vec![]).unwrap()).await;
    assert!(storage.find(None).await.unwrap_err().to_string().contains("there are several runs here"));
    let nothing = bench.storage("car").list().await.unwrap_err().to_string();
    assert!(nothing.contains("there is no storage in "), "{nothing}");
}

#[tokio::test]
async fn what_an_attempt_before_has_fetched_is_not_fetched_again() {
    let bench = Bench::new();
    let storage = bench.storage("dir");
    let digest = put(&storage, &parcel(1)).await.digest;
    // One blob is gone: the attempt stops there.
    let file =
        parcel(1).snapshot().files.iter().find(|file| file.path == "blobs/ab/cd").unwrap().digest.to_string();
    let blob = bench.path("dir/blobs").join(&file[..2]).join(&file[2..]);
    fs::rename(&blob, bench.path("aside")).unwrap();
    let out = bench.path("out");
    let missing = get(&storage, Name::Digest(digest), &out).await.unwrap_err();
    assert!(matches!(missing, StorageError::Missing { .. }), "{missing}");
    assert!(!out.exists());

    // Now everything else may go, and a file that was cut off half-way is not taken for whole.
    let unfinished = bench.path(&format!("out.{}.unfinished", &digest.to_string()[..12]));
    let (latest, data) = (unfinished.join("latest"), unfinished.join("data/training.tokens"));
    while !latest.is_file() || !data.is_file() {
        // Files fetched at the same time may have been given up with the one that is missing.
        fs::rename(bench.path("aside"), &blob).unwrap();
        let folder = bench.path("whole");
        get(&storage, Name::Digest(digest), &folder).await.unwrap();
        fs::copy(folder.join("latest"), &latest).unwrap();
        fs::copy(folder.join("data/training.tokens"), &data).unwrap();
        fs::rename(&blob, bench.path("aside")).unwrap();
    }
    fs::write(&latest, "").unwrap();
    fs::rename(bench.path("aside"), &blob).unwrap();
    let tokens = Digest::of(&vec![7; 300_000]).to_string();
    fs::remove_file(bench.path("dir/blobs").join(&tokens[..2]).join(&tokens[2..])).unwrap();
    get(&storage, Name::Digest(digest), &out).await.unwrap();
    assert_is(&out, 1);
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_flipped_or_missing_byte_anywhere_is_an_error_never_other_bytes() {
    let bench = Bench::new();
    let storage = bench.storage("car");
    let sent = put(&storage, &parcel(1)).await;
    let good = fs::read(bench.path("car")).unwrap();
    // Every byte of the first kilobyte and the last, and some between.
    let places =
        (0..1000).chain((1000..good.len() - 3000).step_by(40_007)).chain(good.len() - 3000..good.len());
    for at in places.step_by(31) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(bench.path("car"), bad).unwrap();
        let error =
            get(&storage, Name::Digest(sent.digest), &bench.path("out")).await.unwrap_err().to_string();
        assert!(error.contains("\nhint: "), "byte {at}: {error}");
        fs::write(bench.path("car"), &good[..at]).unwrap();
        get(&storage, Name::Digest(sent.digest), &bench.path("out")).await.unwrap_err();
        remove_unfinished(&bench);
    }
    assert!(!bench.path("out").exists());
    fs::write(bench.path("car"), good).unwrap();
    get(&storage, Name::Digest(sent.digest), &bench.path("out")).await.unwrap();
}

fn remove_unfinished(bench: &Bench) {
    for entry in fs::read_dir(bench.path("")).unwrap().flatten() {
        if entry.file_name().to_string_lossy().ends_with(".unfinished") {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_stored_is_an_error() {
    let bench = Bench::new();
    let file = bench.path("file");
    fs::write(&file, "before").unwrap();
    let parcel = Parcel::new("run", 1, vec![Item::hashed("file", file.clone()).unwrap()]).unwrap();
    fs::write(&file, "behind").unwrap();
    let storage = bench.storage("dir");
    let error = storage.put(&parcel, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(error, StorageError::Changed { .. }), "{error}");
    assert_eq!(storage.list().await.unwrap(), []);
}

#[tokio::test]
async fn an_s3_storage_without_credentials_says_what_to_set() {
    let address: Address = "s3://bucket/prefix".parse().unwrap();
    // Whoever runs the tests may have some.
    if std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        return;
    }
    let error = Storage::open(&address).unwrap_err().to_string();
    assert!(error.contains("s3://bucket/prefix\nhint: set AWS_ACCESS_KEY_ID"), "{error}");
}

#[tokio::test]
async fn a_node_that_is_not_there_is_an_error_with_a_hint() {
    // Port 9 of this machine discards what it hears, where anybody listens there at all.
    let storage = Storage::open(&"ipfs:127.0.0.1:9".parse().unwrap()).unwrap();
    let error = storage.list().await.unwrap_err().to_string();
    assert!(error.starts_with("ipfs:127.0.0.1:9: ") && error.contains("\nhint: "), "{error}");
}
