//! Snapshots: opening begins with the newest that can be believed, and nothing else ever depends on one.

use std::fs;
use std::path::Path;

use zoo_content::Digest;
use zoo_orchestrator::JournalError;
use zoo_orchestrator::journal::{Journal, JournalReader, Replayed, SNAPSHOT_EVERY, SNAPSHOTS_KEPT};
use zoo_state::State;

use crate::files::{edit, fresh, log_of, of_format_1};
use crate::history::History;

const NODES: u8 = 3;
/// Two snapshots, and some commands.
const LONG: u64 = 2 * SNAPSHOT_EVERY + 100;

/// A journal of [`LONG`], written one command at a time around the snapshots. The state after it.
async fn write_long(path: &Path) -> State {
    let mut history = History::new(NODES);
    let (mut journal, _) = Journal::open(path).await.unwrap();
    for commands in [SNAPSHOT_EVERY - 3, LONG - 20] {
        history.write_until(&mut journal, commands, 64).await;
        history.write_until(&mut journal, commands + 6, 1).await;
    }
    history.write_until(&mut journal, LONG, 7).await;
    journal.close().await.unwrap();
    history.state
}

/// Opens it, and says from which snapshot that began.
async fn open(path: &Path) -> (u64, Replayed) {
    let (journal, replayed) = Journal::open(path).await.unwrap();
    let snapshot = journal.snapshot();
    journal.close().await.unwrap();
    (snapshot, replayed)
}

async fn snapshots(path: &Path) -> Vec<u64> {
    let mut reader = JournalReader::open(path).await.unwrap();
    let verified = reader.verify().await.unwrap();
    assert_eq!(verified.damaged_snapshots, []);
    reader.close().await.unwrap();
    verified.snapshots
}

#[tokio::test]
async fn opening_begins_with_the_newest_snapshot_and_leads_to_the_same_state() {
    let (_directory, path) = fresh();
    let state = write_long(&path).await;
    let kept = snapshots(&path).await;
    assert_eq!((kept.len(), kept[0]), (2, SNAPSHOT_EVERY));
    let (snapshot, replayed) = open(&path).await;
    assert_eq!((snapshot, replayed.commands), (kept[1], LONG));
    let mut reader = JournalReader::open(&path).await.unwrap();
    let verified = reader.verify().await.unwrap();
    assert_eq!((&replayed.state, &verified.replayed.state), (&state, &state));
    assert_eq!(replayed.latest_ms, verified.replayed.latest_ms);
    assert_eq!(replayed.written_root, Some(state.root()));
}

#[tokio::test]
async fn only_the_newest_snapshots_are_kept() {
    let (_directory, path) = fresh();
    let mut history = History::new(1);
    let (mut journal, _) = Journal::open(&path).await.unwrap();
    history.write_until(&mut journal, (SNAPSHOTS_KEPT + 2) * SNAPSHOT_EVERY + 1, 256).await;
    journal.close().await.unwrap();
    let expected: Vec<u64> = (3..SNAPSHOTS_KEPT + 3).map(|nth| nth * SNAPSHOT_EVERY).collect();
    assert_eq!(snapshots(&path).await, expected);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_believed_is_passed_over_for_an_older_one_and_replaced() {
    let newest = "(SELECT MAX(commands) FROM snapshots)";
    for (what, sql) in [
        (
            "a changed byte",
            format!(
                "UPDATE snapshots SET state = CAST(substr(state, 1, 99) || x'ff' || substr(state, 101) AS BLOB)
                 WHERE commands = {newest}"
            ),
        ),
        (
            "a cut",
            format!(
                "UPDATE snapshots SET state = substr(state, 1, length(state) / 2) WHERE commands = {newest}"
            ),
        ),
        ("nothing in it", format!("UPDATE snapshots SET state = x'' WHERE commands = {newest}")),
        (
            "the state of another moment",
            format!(
                "UPDATE snapshots SET state = (SELECT state FROM snapshots ORDER BY commands LIMIT 1)
                 WHERE commands = {newest}"
            ),
        ),
        ("another moment", format!("UPDATE snapshots SET commands = commands + 1 WHERE commands = {newest}")),
        (
            "a moment that never was",
            format!("UPDATE snapshots SET commands = 999999 WHERE commands = {newest}"),
        ),
        (
            "another root beside its command",
            format!("UPDATE commands SET root = zeroblob(32) WHERE sequence = {newest} - 1"),
        ),
        (
            "the encoding of another version",
            format!(
                "UPDATE snapshots SET state = x'02' WHERE commands = {newest};
                 UPDATE commands SET root = x'{}' WHERE sequence = {newest} - 1",
                Digest::of(&[2])
            ),
        ),
        (
            "no root beside its command",
            format!("UPDATE commands SET root = NULL WHERE sequence = {newest} - 1"),
        ),
    ] {
        let (_directory, path) = fresh();
        let state = write_long(&path).await;
        edit(&path, &sql).await;
        let (snapshot, replayed) = open(&path).await;
        assert_eq!((snapshot, &replayed.state), (SNAPSHOT_EVERY, &state), "{what}");

        // It was thrown away, and the next append is followed by a new one.
        let mut history = History::new(NODES);
        history.entries(LONG);
        let (mut journal, _) = Journal::open(&path).await.unwrap();
        history.write_until(&mut journal, LONG + 1, 1).await;
        assert_eq!(journal.snapshot(), LONG + 1, "{what}");
        journal.close().await.unwrap();
        assert_eq!(open(&path).await.1.state, history.state, "{what}");
    }
}

#[tokio::test]
async fn without_any_sound_snapshot_opening_begins_with_the_first_command() {
    for sql in ["UPDATE snapshots SET state = zeroblob(500)", "DELETE FROM snapshots", "DROP TABLE snapshots"]
    {
        let (_directory, path) = fresh();
        let state = write_long(&path).await;
        edit(&path, sql).await;
        let (snapshot, replayed) = open(&path).await;
        assert_eq!((snapshot, replayed.state), (0, state), "{sql}");
    }
}

#[tokio::test]
async fn verify_tells_of_a_damaged_snapshot_and_changes_nothing() {
    let (_directory, path) = fresh();
    write_long(&path).await;
    let newest = format!("commands > {SNAPSHOT_EVERY}");
    edit(&path, &format!("UPDATE snapshots SET state = zeroblob(500) WHERE {newest}")).await;
    let before = fs::read(&path).unwrap();
    let mut reader = JournalReader::open(&path).await.unwrap();
    let verified = reader.verify().await.unwrap();
    assert_eq!(verified.snapshots, [SNAPSHOT_EVERY]);
    let [(damaged, cause)] = &verified.damaged_snapshots[..] else { panic!("{verified:?}") };
    assert!(*damaged > SNAPSHOT_EVERY && cause.contains("another root"), "{cause}");
    reader.close().await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// Opening does not look at what a snapshot stands for; verify does.
#[tokio::test]
async fn what_changed_before_a_snapshot_is_found_by_verify() {
    let (_directory, path) = fresh();
    let state = write_long(&path).await;
    edit(&path, "UPDATE commands SET entry = zeroblob(9) WHERE sequence = 500").await;
    assert_eq!(open(&path).await.1.state, state);
    let error = JournalReader::open(&path).await.unwrap().verify().await.unwrap_err();
    assert!(matches!(error, JournalError::Damaged { sequence: 500, .. }), "{error}");
}

/// The machine loses power at any moment of the append that a snapshot follows: the log is cut anywhere.
#[tokio::test]
async fn a_crash_at_any_point_between_command_and_snapshot_leaves_both_or_neither() {
    let (_directory, path) = fresh();
    let mut history = History::new(NODES);
    history.write(&path, SNAPSHOT_EVERY - 1).await;
    let (root_before, whole) = (history.state.root(), fs::read(&path).unwrap());
    let (mut journal, _) = Journal::open(&path).await.unwrap();
    history.write_until(&mut journal, SNAPSHOT_EVERY, 1).await;
    let root_after = history.state.root();
    assert_eq!(journal.snapshot(), SNAPSHOT_EVERY);
    assert_eq!(fs::read(&path).unwrap(), whole, "everything is in the log so far");
    let log = fs::read(log_of(&path)).unwrap();

    let (_elsewhere, crashed) = fresh();
    let mut seen = [0, 0];
    for cut in (0..=log.len()).step_by(509).chain([log.len() - 1, log.len()]) {
        fs::write(&crashed, &whole).unwrap();
        fs::write(log_of(&crashed), &log[..cut]).unwrap();
        let (snapshot, replayed) = open(&crashed).await;
        let survived = replayed.commands == SNAPSHOT_EVERY;
        assert_eq!(snapshot, if survived { SNAPSHOT_EVERY } else { 0 }, "cut after {cut} bytes");
        let expected = if survived { root_after } else { root_before };
        assert_eq!(replayed.state.root(), expected, "cut after {cut} bytes");
        seen[usize::from(survived)] += 1;
    }
    assert!(seen[0] > 3 && seen[1] >= 1, "{seen:?}");
}

#[tokio::test]
async fn an_append_whose_snapshot_fails_leaves_the_journal_as_it_was() {
    let (_directory, path) = fresh();
    let mut history = History::new(NODES);
    let (mut journal, _) = Journal::open(&path).await.unwrap();
    history.write_until(&mut journal, SNAPSHOT_EVERY - 1, 64).await;
    let before = history.state.clone();
    edit(&path, "ALTER TABLE snapshots RENAME TO hidden").await;
    let entries = history.entries(1);
    assert!(journal.append(&entries, &history.state).await.is_err());
    assert_eq!((journal.commands(), journal.snapshot()), (SNAPSHOT_EVERY - 1, 0));
    edit(&path, "ALTER TABLE hidden RENAME TO snapshots").await;
    assert_eq!(open(&path).await.1.state, before);
    journal.append(&entries, &history.state).await.unwrap();
    assert_eq!(journal.snapshot(), SNAPSHOT_EVERY);
    journal.close().await.unwrap();
    assert_eq!(open(&path).await.1.state, history.state);
}

#[tokio::test]
async fn a_journal_from_before_there_were_snapshots_gets_one_when_it_has_grown() {
    let (_directory, path) = of_format_1();
    let (mut journal, Replayed { mut state, commands, latest_ms, .. }) = Journal::open(&path).await.unwrap();
    assert_eq!(journal.snapshot(), 0);
    let tick = zoo_state::Command::Tick { now_ms: latest_ms };
    while journal.snapshot() == 0 {
        let entries: Vec<_> = (0..100)
            .map(|_| zoo_orchestrator::journal::Entry {
                events: state.apply(&tick).unwrap(),
                command: tick.clone(),
            })
            .collect();
        journal.append(&entries, &state).await.unwrap();
    }
    assert!(journal.snapshot() - commands < SNAPSHOT_EVERY);
    journal.close().await.unwrap();
    let (snapshot, replayed) = open(&path).await;
    assert!(snapshot >= SNAPSHOT_EVERY);
    assert_eq!(replayed.state, state);
}
