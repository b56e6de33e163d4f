//! Those who only look: at a journal that rests, at one that is being written, at what is none.

use std::fs;

use zoo_orchestrator::JournalError;
use zoo_orchestrator::journal::{Journal, JournalReader, Roots};
use zoo_state::State;

use crate::files::{edit, fresh, of_format_1};
use crate::history::History;

#[tokio::test]
async fn a_replay_gives_every_command_its_events_and_the_written_roots() {
    let (_directory, path) = fresh();
    let mut history = History::new(2);
    history.write(&path, 100).await;
    let mut reader = JournalReader::open(&path).await.unwrap();
    let (mut again, mut next, mut roots) = (State::new(), 0, 0);
    let replayed = reader.replay(u64::MAX, Roots::Every, |step, state| {
        assert_eq!(step.sequence, next);
        assert_eq!(again.apply(&step.command).unwrap(), step.events);
        assert_eq!(&again, state);
        roots += usize::from(step.written_root.is_some());
        next += 1;
    });
    let replayed = replayed.await.unwrap();
    assert_eq!((replayed.commands, roots), (100, 100usize.div_ceil(7)));
    assert_eq!((&replayed.state, replayed.written_root), (&history.state, Some(history.state.root())));
}

#[tokio::test]
async fn a_replay_stops_where_it_is_told() {
    let (_directory, path) = fresh();
    History::new(2).write(&path, 100).await;
    for (until, has_root) in [(0, false), (1, false), (7, true), (50, false), (98, true)] {
        let mut expected = History::new(2);
        expected.entries(until);
        let mut reader = JournalReader::open(&path).await.unwrap();
        let replayed = reader.replay(until, Roots::Last, |_, _| {}).await.unwrap();
        assert_eq!((replayed.commands, &replayed.state), (until, &expected.state));
        assert_eq!(replayed.written_root.is_some(), has_root, "{until}");
    }
}

#[tokio::test]
async fn a_journal_is_read_while_it_is_written_and_is_not_disturbed() {
    let (_directory, path) = fresh();
    let mut history = History::new(2);
    let (mut journal, _) = Journal::open(&path).await.unwrap();
    for commands in (10..200).step_by(10) {
        history.write_until(&mut journal, commands, 5).await;
        let mut reader = JournalReader::open(&path).await.unwrap();
        assert_eq!(reader.commands().await.unwrap(), commands);
        // What is appended while it reads is read, or not, but never half.
        history.write_until(&mut journal, commands + 5, 5).await;
        let verified = reader.verify().await.unwrap();
        assert_eq!(verified.replayed.state.root(), verified.replayed.written_root.unwrap());
        reader.close().await.unwrap();
    }
    journal.close().await.unwrap();
}

#[tokio::test]
async fn a_changed_event_is_found_and_named() {
    for (sql, expected) in [
        ("UPDATE events SET event = zeroblob(3) WHERE sequence = 17", 17),
        ("UPDATE events SET at_ms = at_ms + 1 WHERE sequence = 0", 0),
        ("DELETE FROM events WHERE sequence = 30", 30),
        ("DELETE FROM events WHERE sequence >= 40", 40),
    ] {
        let (_directory, path) = fresh();
        History::new(2).write(&path, 100).await;
        edit(&path, sql).await;
        let error = JournalReader::open(&path).await.unwrap().verify().await.unwrap_err();
        assert!(
            matches!(error, JournalError::OtherEvent { sequence, .. } if sequence == expected),
            "{sql}: {error}"
        );
    }
}

#[tokio::test]
async fn looking_leaves_no_trace_in_the_journal() {
    let (_directory, path) = of_format_1();
    let before = fs::read(&path).unwrap();
    let mut reader = JournalReader::open(&path).await.unwrap();
    let verified = reader.verify().await.unwrap();
    assert_eq!((verified.snapshots, verified.damaged_snapshots), (vec![], vec![]));
    assert!(verified.events > verified.replayed.commands);
    reader.close().await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn what_is_no_journal_is_refused_with_a_hint_and_not_created() {
    let (directory, path) = fresh();
    let missing = JournalReader::open(&path).await.unwrap_err();
    assert!(matches!(missing, JournalError::Inaccessible(_)), "{missing}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

    History::new(1).write(&path, 50).await;
    let good = fs::read(&path).unwrap();
    for (what, bytes) in [
        ("an empty file", Vec::new()),
        ("something else", b"junk".repeat(5000)),
        ("a head alone", good[..60].to_vec()),
        ("another application's database", [&good[..68], &[0; 4], &good[72..]].concat()),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = JournalReader::open(&path).await.unwrap_err();
        assert!(matches!(error, JournalError::Foreign(_)), "{what}: {error:?}");
        assert!(error.to_string().contains("hint:"), "{error}");
    }
    for cut in [4096, good.len() / 2, good.len() - 4096] {
        fs::write(&path, &good[..cut]).unwrap();
        let error = match JournalReader::open(&path).await {
            Ok(mut reader) => reader.verify().await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, JournalError::Damaged { .. }), "{cut} of {}: {error:?}", good.len());
        assert!(error.to_string().contains("hint:"), "{error}");
    }
    fs::write(&path, &good).unwrap();
    edit(&path, "PRAGMA user_version = 99").await;
    let error = JournalReader::open(&path).await.unwrap_err();
    assert!(matches!(error, JournalError::Newer { found: 99, .. }), "{error}");
}
