//! Commands: what was appended replays, what was changed is noticed.

use std::path::Path;

use zoo_orchestrator::JournalError;
use zoo_orchestrator::journal::{Entry, Journal, JournalReader, Replayed};
use zoo_protocol::{JobDescription, NodeKey, Profile, RoundPlan};
use zoo_state::{Command, LossCause, State};

use crate::files::{edit, fresh, of_format_1};
use crate::history::profile;

fn commands() -> Vec<Command> {
    let node = NodeKey::from_seed([1; 32]).id();
    let digest = zoo_content::Digest::of(b"blob");
    let profile = profile();
    let plan = RoundPlan {
        steps: 1,
        rhythm: RoundPlan::constant(1),
        sequences_per_step: 1,
        evaluate_every: 1,
        evaluation_shards: 1,
        minimum_nodes: 1,
        contribution_deadline_ms: 1000,
        topology: Default::default(),
        overlap: false,
        verified_in_1000: 0,
        trust_discount: 4,
    };
    let job = JobDescription {
        network: node,
        name: "j".into(),
        program: digest,
        profile: Profile::F32Exact,
        initial: digest,
        training_data: digest,
        held_out_data: digest,
        plan,
        checkpoints: Default::default(),
        tokens_max: None,
    };
    let mut commands = vec![
        Command::NodeJoined { node, profile: profile.clone(), addresses: vec![], now_ms: 10 },
        Command::JobSubmitted { job, now_ms: 20 },
    ];
    for now_ms in 3..20 {
        let now_ms = 10 * now_ms;
        commands.push(Command::NodeLost { node, cause: LossCause::Left, now_ms });
        commands.push(Command::NodeJoined { node, profile: profile.clone(), addresses: vec![], now_ms });
    }
    commands
}

/// Writes the commands in batches of 1, 2, 3, ... The state after them.
async fn write(path: &Path) -> State {
    let (mut journal, Replayed { mut state, latest_ms, .. }) = Journal::open(path).await.unwrap();
    assert_eq!((journal.commands(), latest_ms), (0, 0));
    let mut commands = commands().into_iter().peekable();
    let mut size = 1;
    while commands.peek().is_some() {
        let entries: Vec<Entry> = commands
            .by_ref()
            .take(size)
            .map(|command| Entry { events: state.apply(&command).unwrap(), command })
            .collect();
        journal.append(&entries, &state).await.unwrap();
        size += 1;
    }
    journal.close().await.unwrap();
    state
}

#[tokio::test]
async fn what_was_appended_replays_to_the_same_state_and_events() {
    let (_directory, path) = fresh();
    let state = write(&path).await;
    let (journal, replayed) = Journal::open(&path).await.unwrap();
    assert_eq!(replayed.state, state);
    assert_eq!((journal.commands(), replayed.latest_ms), (commands().len() as u64, 190));
    let mut again = State::new();
    let expected: Vec<_> = commands()
        .iter()
        .flat_map(|command| again.apply(command).unwrap().into_iter().map(|event| (command.now_ms(), event)))
        .collect();
    let page = journal.events().page(0).await.unwrap();
    assert_eq!(page.len() as u64, journal.next_event());
    for (index, stored) in page.iter().enumerate() {
        let (at_ms, event) = &expected[index];
        assert_eq!((stored.sequence, stored.at_ms), (index as u64, *at_ms));
        assert_eq!(*stored.bytes, zoo_protocol::encode(event));
    }
    assert!(journal.events().page(journal.next_event()).await.unwrap().is_empty());
}

#[tokio::test]
async fn every_change_to_a_command_is_noticed_and_named() {
    let last = commands().len() as u64 - 1;
    let (_directory, path) = fresh();
    for (what, sql, sequence) in [
        ("a changed byte", "UPDATE commands SET entry = zeroblob(length(entry)) WHERE sequence = 7", 7),
        (
            "a cut entry",
            "UPDATE commands SET entry = substr(entry, 1, length(entry) - 1) WHERE sequence = 3",
            3,
        ),
        ("a changed digest", "UPDATE commands SET chain = zeroblob(32) WHERE sequence = 0", 0),
        ("a missing command", "DELETE FROM commands WHERE sequence = 5", 5),
        ("a missing beginning", "DELETE FROM commands WHERE sequence < 4", 0),
        (
            "a root that is none",
            "UPDATE commands SET root = x'00' WHERE root IS NOT NULL AND sequence > 30",
            last,
        ),
        (
            "two commands exchanged",
            "UPDATE commands SET entry = (SELECT entry FROM commands WHERE sequence = 9),
             chain = (SELECT chain FROM commands WHERE sequence = 9) WHERE sequence = 8",
            8,
        ),
    ] {
        let _ = std::fs::remove_file(&path);
        write(&path).await;
        edit(&path, sql).await;
        let error = Journal::open(&path).await.unwrap_err();
        assert!(
            matches!(error, JournalError::Damaged { sequence: s, .. } if s == sequence),
            "{what}: {error}"
        );
        assert!(
            error.to_string().contains("hint:") && error.to_string().contains("journal.sqlite"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_state_that_differs_from_the_written_one_is_noticed() {
    let last = commands().len() as u64 - 1;
    let (_directory, path) = fresh();
    write(&path).await;
    edit(&path, &format!("UPDATE commands SET root = zeroblob(32) WHERE sequence IN (2, {last})")).await;
    let error = Journal::open(&path).await.unwrap_err();
    assert!(matches!(error, JournalError::Diverged { sequence, .. } if sequence == last), "{error}");
    let error = JournalReader::open(&path).await.unwrap().verify().await.unwrap_err();
    assert!(matches!(error, JournalError::Diverged { sequence: 2, .. }), "verify names the first: {error}");
}

#[tokio::test]
async fn other_files_and_newer_journals_are_refused_with_a_hint() {
    let (_directory, path) = fresh();
    write(&path).await;
    edit(&path, "PRAGMA user_version = 99").await;
    let error = Journal::open(&path).await.unwrap_err();
    assert!(matches!(error, JournalError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("99") && error.to_string().contains("hint:"), "{error}");

    edit(&path, "PRAGMA application_id = 7").await;
    assert!(matches!(Journal::open(&path).await.unwrap_err(), JournalError::Foreign(_)));

    let (_directory, path) = fresh();
    edit(&path, "CREATE TABLE photos (name TEXT)").await;
    assert!(matches!(Journal::open(&path).await.unwrap_err(), JournalError::Foreign(_)));

    let (_directory, path) = fresh();
    std::fs::write(&path, b"junk".repeat(5000)).unwrap();
    let error = Journal::open(&path).await.unwrap_err();
    assert!(matches!(error, JournalError::Foreign(_)), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"junk".repeat(5000), "it is left as it was");

    let directory = tempfile::tempdir().unwrap();
    let error = Journal::open(&directory.path().join("no such folder/journal.sqlite")).await.unwrap_err();
    assert!(error.to_string().contains("hint:"), "{error}");
}

#[tokio::test]
async fn a_failed_append_leaves_the_journal_as_it_was() {
    let (_directory, path) = fresh();
    let state = write(&path).await;
    let (mut journal, replayed) = Journal::open(&path).await.unwrap();
    let (commands, events) = (journal.commands(), journal.next_event());
    // Somebody else's table has taken the place of the events: the second half of the append fails.
    edit(&path, "ALTER TABLE events RENAME TO hidden").await;
    let mut next = replayed.state;
    let command = Command::NodeLost {
        node: NodeKey::from_seed([1; 32]).id(),
        cause: LossCause::Disconnected,
        now_ms: 500,
    };
    let entry = Entry { events: next.apply(&command).unwrap(), command };
    assert!(!entry.events.is_empty());
    assert!(journal.append(&[entry], &next).await.is_err());
    assert_eq!((journal.commands(), journal.next_event()), (commands, events));
    journal.close().await.unwrap();
    edit(&path, "ALTER TABLE hidden RENAME TO events").await;
    let (journal, replayed) = Journal::open(&path).await.unwrap();
    assert_eq!((replayed.state, journal.commands()), (state, commands));
}

/// Written by format 1; every later version has to open it.
#[tokio::test]
async fn a_journal_of_format_1_still_opens() {
    let (_directory, path) = of_format_1();
    let (journal, replayed) = Journal::open(&path).await.unwrap();
    assert_eq!((journal.commands(), replayed.latest_ms), (commands().len() as u64, 190));
    assert!(replayed.state.running().is_some());
    assert!(journal.next_event() > journal.commands());
}
