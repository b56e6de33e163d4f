//! Text that a person gives, and everything that can be wrong with it.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use common::{failure, path, prepared, text_of, write};
use zoo_data::{HeldOut, Reason, SourceRecord};

#[test]
fn one_file_is_split_at_nine_tenths_of_its_characters() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..1_003).map(|line| format!("{line}: to be, or not to be\n")).collect();
    write(folder.path(), &[("play.txt", &text)]);
    let prepared = prepared(&path(folder.path().join("play.txt")));
    let cut = text.len() * 9 / 10;
    assert_eq!(text_of(&prepared.training), text[..cut]);
    assert_eq!(text_of(&prepared.held_out), text[cut..]);

    let manifest = prepared.manifest;
    assert_eq!(manifest.source, SourceRecord::Path { name: "play.txt".into() });
    let offsets: Vec<u64> = manifest.documents.iter().map(|document| document.offset).collect();
    assert_eq!(offsets, [0, cut as u64]);
    assert!(manifest.documents.iter().all(|document| document.origin.licence.is_none()));
    assert!(manifest.excluded.counts.is_empty());
}

#[test]
fn a_file_over_the_budget_is_read_to_its_last_whole_character() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("long.txt", &"語".repeat(1_000))]);
    let mut options = path(folder.path().join("long.txt"));
    options.bytes_max = 100;
    let manifest = prepared(&options).manifest;
    assert_eq!((manifest.training.bytes, manifest.held_out.bytes), (87, 12));
    assert_eq!(manifest.excluded.counts[&Reason::OverBudget].bytes, 2_901);
}

#[test]
fn a_folder_gives_every_text_below_it_and_records_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("letters");
    let texts: Vec<String> = (0..40).map(|index| format!("letter {index}\n").repeat(20)).collect();
    for (index, text) in texts.iter().enumerate() {
        write(&root, &[(&format!("{}/{index}.txt", index % 3), text)]);
    }
    write(&root, &[("copy.txt", &texts[0]), ("empty.md", ""), (".secret", "no"), ("target/built.rs", "no")]);
    std::fs::write(root.join("image.png"), b"\x89PNG\0\0").unwrap();
    std::fs::write(root.join("latin.txt"), b"caf\xe9").unwrap();

    let prepared = prepared(&path(&root));
    let manifest = &prepared.manifest;
    assert_eq!(manifest.documents.len(), 40);
    let reasons: BTreeSet<Reason> = manifest.excluded.counts.keys().copied().collect();
    assert_eq!(reasons, BTreeSet::from([Reason::Empty, Reason::Binary, Reason::NotUtf8, Reason::Duplicate]));
    assert!(manifest.held_out.bytes * 20 <= manifest.training.bytes + manifest.held_out.bytes);

    let both = text_of(&prepared.training) + &text_of(&prepared.held_out);
    assert_eq!(both.len(), texts.iter().map(String::len).sum::<usize>());
    assert!(texts.iter().all(|text| both.contains(text.as_str())));
    for threads in [1, 5] {
        let mut options = path(&root);
        options.threads = threads;
        assert_eq!(common::prepared(&options).manifest, *manifest);
    }
}

#[test]
fn a_folder_over_the_budget_is_sampled_not_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..500 {
        write(folder.path(), &[(&format!("{index:03}.txt"), &format!("text number {index} \n").repeat(10))]);
    }
    let mut options = path(folder.path());
    options.bytes_max = 20_000;
    let manifest = prepared(&options).manifest;
    let bytes = manifest.training.bytes + manifest.held_out.bytes;
    assert!((19_000..=20_000).contains(&bytes), "{bytes}");
    let paths: Vec<&str> = manifest.documents.iter().map(|document| document.origin.path.as_str()).collect();
    assert!(paths.iter().any(|path| *path < "100") && paths.iter().any(|path| *path > "400"), "{paths:?}");
    let left_out = manifest.excluded.unread.files
        + manifest.excluded.counts.get(&Reason::OverBudget).map_or(0, |count| count.files);
    assert_eq!(left_out as usize + manifest.documents.len(), 500);
}

#[test]
fn every_wrong_input_says_what_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let file = |name: &str, bytes: &[u8]| std::fs::write(root.join(name), bytes).unwrap();
    file("empty.txt", b"");
    file("blank.txt", b" \n \n");
    file("binary.bin", b"abc\0def");
    file("latin.txt", b"caf\xe9 au lait");
    file("cut.txt", b"caf\xc3");
    file("one.txt", b"x");
    for name in ["void", "junk", "hidden"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    file("junk/a.bin", b"\0\0");
    file("junk/b.bin", b"\xff\xfe");
    file("hidden/.only", b"text");

    let table = [
        ("none.txt", "no such file or folder", "hint: check the path"),
        ("one.txt/inside", "no such file or folder", "hint: check the path"),
        ("empty.txt", "the file is empty", "hint: give a file or folder that holds text"),
        ("blank.txt", "the file is empty", "hint: give a file or folder that holds text"),
        ("binary.bin", "NUL byte at offset 3", "hint: give plain text"),
        ("latin.txt", "not UTF-8: bad byte 0xe9 at offset 3", "hint: convert it first"),
        ("cut.txt", "not UTF-8: bad byte 0xc3 at offset 3", "hint: convert it first"),
        ("one.txt", "the corpus has 1 characters: too few", "hint: give at least 2 characters"),
        ("void", "the folder holds no files", "hint: give a file or folder that holds text"),
        ("hidden", "the folder holds no files", "hidden files are not read"),
        ("junk", "none of its 2 files can be used (1 binary, 1 not UTF-8)", "hint: give a folder with UTF-8"),
    ];
    for (name, cause, hint) in table {
        let message = failure(&path(root.join(name)));
        // Too little text is about the corpus, not about a path.
        let names_it = message.contains(name) || name == "one.txt";
        assert!(names_it && message.contains(cause) && message.contains(hint), "{name}: {message}");
    }
    #[cfg(unix)]
    assert!(failure(&path("/dev/null")).contains("neither a regular file nor a folder"));
}

#[test]
fn impossible_options_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("a.txt", "some text")]);
    let good = path(folder.path());
    let with = |percent, bytes_max| HeldOut { percent, bytes_max };
    for (bytes_max, held_out, message) in [
        (0, with(5, 1), "the budget of text is 0"),
        (1, with(5, 0), "the limit on held-out text is 0"),
        (1, with(0, 1), "the held-out part is 0 percent"),
        (1, with(51, 1), "the held-out part is 51 percent"),
    ] {
        let mut options = good.clone();
        options.bytes_max = bytes_max;
        options.held_out = held_out;
        let failure = failure(&options);
        assert!(failure.starts_with(message) && failure.contains("hint: "), "{failure}");
    }
}

/// Nothing is denied to root: the test then runs itself as another user.
#[test]
#[cfg(unix)]
fn what_may_not_be_read_is_said() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(
        root,
        &[("open/a.txt", "some text\n"), ("open/b.txt", "x"), ("open/shut/c.txt", "x"), ("shut/d.txt", "x")],
    );
    write(root, &[("shut.txt", "x")]);
    let mode = |name: &str, mode| {
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    ["open/b.txt", "open/shut", "shut", "shut.txt"].into_iter().for_each(|name| mode(name, 0));
    if std::fs::read(root.join("shut.txt")).is_ok() {
        run_as_nobody(root, "what_may_not_be_read_is_said");
    } else {
        for name in ["shut", "shut.txt"] {
            let message = failure(&path(root.join(name)));
            let says = format!("{name}: permission denied\nhint: make it readable");
            assert!(message.contains(&says), "{message}");
        }
        let excluded = prepared(&path(root.join("open"))).manifest.excluded;
        let listed: Vec<&str> =
            excluded.listed.iter().map(|exclusion| exclusion.origin.path.as_str()).collect();
        assert_eq!(listed, ["b.txt", "shut"]);
        assert_eq!(excluded.counts[&Reason::Unreadable].files, 2);
    }
    ["open/shut", "shut"].into_iter().for_each(|name| mode(name, 0o755));
}

/// Runs one test of this file as a user who is not root.
#[cfg(unix)]
fn run_as_nobody(scratch: &Path, test: &str) {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let program = scratch.join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for (path, mode) in [(scratch, 0o777), (program.as_path(), 0o755)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let output = Command::new(&program)
        .args(["--exact", test])
        .current_dir("/")
        .env("TMPDIR", scratch)
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
