//! From commands to what is seen of them.

use std::ops::Range;
use std::time::{Duration, Instant};

use console::{Key, strip_ansi_codes};
use zoo_content::Digest;
use zoo_orchestrator::journal::{Entry, Replayed, Step};
use zoo_protocol::{NodeKey, NodeProfile, Speeds};
use zoo_state::{Activity, Command, LossCause, State};

use super::recorder::Recorder;
use super::timeline::{ACTIVITIES, NodeLine, Timeline};
use super::viewer::{SPEEDS, Then, Viewer};
use super::{as_json, as_text, picture};
use crate::commands::bench::made_up::Network;

fn step(sequence: u64, Entry { command, events }: Entry) -> Step {
    Step { sequence, command, events, chain: Digest::of(b"not looked at"), written_root: None }
}

fn finish(recorder: Recorder, state: &State, commands: u64) -> Timeline {
    let written_root = Some(state.root());
    recorder.finish(&Replayed { state: state.clone(), commands, latest_ms: 0, written_root })
}

fn made_up(nodes: u32, commands: u64) -> (Timeline, State) {
    let (mut network, mut recorder) = (Network::new(nodes), Recorder::new());
    for sequence in 0..commands {
        let entry = network.next().unwrap();
        recorder.take(&step(sequence, entry), &network.state);
    }
    (finish(recorder, &network.state, commands), network.state)
}

#[test]
fn every_node_is_seen_doing_what_the_state_says_at_every_moment() {
    // All to all, and, as in larger networks, over trees.
    compare_with_states(7);
    compare_with_states(40);
}

fn compare_with_states(nodes: u32) {
    let (mut network, mut recorder, mut states) = (Network::new(nodes), Recorder::new(), Vec::new());
    for sequence in 0..4000 {
        let entry = network.next().unwrap();
        recorder.take(&step(sequence, entry), &network.state);
        states.push(network.state.activities().collect::<Vec<_>>());
    }
    let timeline = finish(recorder, &network.state, 4000);
    let mut seen = [0; ACTIVITIES.len()];
    for (moment, activities) in states.iter().enumerate() {
        for (id, activity) in activities {
            let node = timeline.nodes.iter().position(|line| line.id == *id).unwrap();
            assert_eq!(timeline.node_then(node, moment).activity, *activity, "moment {moment}");
            seen[*activity as usize] += 1;
        }
        assert_eq!(
            timeline.here_then(moment),
            activities.iter().filter(|(_, a)| *a != Activity::Away).count()
        );
    }
    assert!(seen.iter().all(|times| *times > 10), "every activity was seen: {seen:?}");
}

#[test]
fn what_nodes_contributed_is_what_their_accounts_say() {
    let (timeline, state) = made_up(7, 4000);
    let last = timeline.moments.len() - 1;
    let elapsed_ms = timeline.period_ms().1 - timeline.period_ms().0;
    let mut contributions = 0;
    for (node, line) in timeline.nodes.iter().enumerate() {
        let (then, account) = (timeline.node_then(node, last), &state.nodes()[&line.id].account);
        let tally = then.tally;
        assert_eq!(
            (tally.contributions, tally.missed, tally.faults),
            (account.contributions, account.missed, account.faults)
        );
        assert!(tally.tokens >= account.tokens && tally.sequences > 0 && tally.bytes > 0);
        assert!(0 < then.busy_ms && then.busy_ms < then.here_ms && then.here_ms <= elapsed_ms);
        contributions += tally.contributions;
    }
    assert_eq!(timeline.all_then(last).contributions, contributions);
    let rounds = timeline.rounds.len();
    let in_rounds: u64 = (0..rounds).map(|round| timeline.round_at(round, last).contributions).sum();
    assert_eq!(in_rounds, contributions);
    for round in 0..rounds - 1 {
        let then = timeline.round_at(round, last);
        assert!(then.finished.is_some() && then.loss.unwrap() > 2.0);
        assert_eq!(then.bits_per_byte.is_some(), (round + 1).is_multiple_of(4), "round {round}");
        let before = timeline.round_at(round, timeline.rounds[round].started as usize);
        assert_eq!((before.contributions, before.loss, before.finished), (0, None, None));
    }
}

/// What a bar has to show, looked at one ms at a time.
fn slow_cells(line: &NodeLine, period_ms: Range<u64>, cells: u64) -> Vec<Option<Activity>> {
    let width_ms = period_ms.end - period_ms.start;
    let one = |cell: u64| {
        let part = period_ms.start + width_ms * cell / cells..period_ms.start + width_ms * (cell + 1) / cells;
        let mut most = [0; ACTIVITIES.len()];
        let mut known = [Activity::Away; ACTIVITIES.len()];
        for ms in part {
            if let Some(span) = line.spans.iter().rfind(|span| span.from_ms <= ms) {
                most[span.activity as usize] += 1;
                known[span.activity as usize] = span.activity;
            }
        }
        let longest = (0..most.len()).max_by_key(|at| most[*at]).unwrap();
        (most[longest] > 0).then_some(known[longest])
    };
    (0..cells).map(one).collect()
}

#[test]
fn a_bar_shows_what_a_node_did_most_at_any_zoom() {
    let (timeline, _) = made_up(3, 1500);
    let (start_ms, end_ms) = timeline.period_ms();
    for line in &timeline.nodes {
        for (from, until, cells) in [
            (0, end_ms - start_ms, 50),
            (0, 1000, 10),
            (9_990, 19_000, 7),
            (500, 640, 14),
            (25_000, 29_000, 4),
        ] {
            let period_ms = start_ms + from..start_ms + until;
            assert_eq!(
                line.cells(period_ms.clone(), cells as usize),
                slow_cells(line, period_ms, cells),
                "{from}..{until} in {cells}"
            );
        }
    }
}

#[test]
fn keys_go_where_they_say() {
    let (timeline, _) = made_up(12, 3000);
    let mut viewer = Viewer::new(&timeline, 0, 0);
    let press = |viewer: &mut Viewer, keys: &[Key]| {
        keys.iter().for_each(|key| assert_eq!(viewer.press(key, &timeline), Then::Draw));
        (viewer.moment, viewer.node)
    };
    let typed = |text: &str| -> Vec<Key> { text.chars().map(Key::Char).chain([Key::Enter]).collect() };
    assert_eq!(press(&mut viewer, &[Key::ArrowLeft, Key::ArrowUp, Key::Home]), (0, 0));
    assert_eq!(press(&mut viewer, &[Key::ArrowRight, Key::ArrowRight, Key::ArrowDown]), (2, 1));
    assert_eq!(press(&mut viewer, &[Key::End, Key::ArrowRight]).0, 2999);
    let (paged, _) = press(&mut viewer, &[Key::PageUp]);
    assert!((2650..2750).contains(&paged), "a tenth of the whole: {paged}");
    for _ in 0..20 {
        press(&mut viewer, &[Key::Char('+')]);
    }
    assert_eq!(press(&mut viewer, &[Key::PageUp]).0, paged - 1, "at least one command");
    assert_eq!(press(&mut viewer, &[Key::PageDown, Key::PageDown]).0, paged + 1);
    for _ in 0..40 {
        press(&mut viewer, &[Key::Char('-')]);
    }
    assert_eq!(viewer.zoom, 1);

    assert_eq!(press(&mut viewer, &typed("/NODE-11")).1, 11);
    assert_eq!(press(&mut viewer, &typed("/node-1")).1, 1, "around the end");
    assert_eq!(press(&mut viewer, &[Key::Char('n')]).1, 10, "the next that fits");
    let id = timeline.nodes[4].id.to_string();
    assert_eq!(press(&mut viewer, &typed(&format!("/{}", &id[..12]))).1, 4);
    press(&mut viewer, &typed("/nobody"));
    assert_eq!((viewer.node, viewer.message.is_some()), (4, true));

    let (moment, _) = press(&mut viewer, &typed("j7"));
    assert_eq!(timeline.rounds[timeline.round_then(moment).unwrap()].round, 6);
    assert_eq!(press(&mut viewer, &typed("j999999")).0, moment);
    assert!(viewer.message.take().unwrap().contains("999999"));
    let mistyped = [Key::Char('j'), Key::Char('1'), Key::Backspace, Key::Char('2'), Key::Escape];
    assert_eq!(press(&mut viewer, &mistyped).0, moment, "Escape takes a question back, and does not quit");
    assert!(viewer.prompt.is_none());

    press(&mut viewer, &[Key::Escape]);
    for quits in [Key::Char('q'), Key::CtrlC] {
        assert_eq!(viewer.press(&quits, &timeline), Then::Quit);
    }
}

#[test]
fn playing_follows_the_journals_clock_to_the_end() {
    let (timeline, _) = made_up(5, 2000);
    let mut viewer = Viewer::new(&timeline, 0, 0);
    while SPEEDS[viewer.speed] < 10 {
        viewer.press(&Key::Char('>'), &timeline);
    }
    viewer.press(&Key::Char(' '), &timeline);
    viewer.tick(Duration::from_millis(100), &timeline);
    assert_eq!(viewer.moment, 50, "a second of the journal, with a command every 20 ms");
    viewer.press(&Key::Char(' '), &timeline);
    viewer.tick(Duration::from_secs(100), &timeline);
    assert_eq!(viewer.moment, 50, "paused");
    viewer.press(&Key::Char(' '), &timeline);
    viewer.tick(Duration::from_secs(100), &timeline);
    assert_eq!((viewer.moment, viewer.playing_ms), (1999, None), "it stops at the end");
    viewer.press(&Key::Char(' '), &timeline);
    assert_eq!(viewer.moment, 0, "and plays again from the beginning");
}

#[test]
fn no_line_is_wider_or_screen_higher_than_the_terminal() {
    let (timeline, _) = made_up(40, 3000);
    for (width, height) in [(60, 10), (60, 24), (79, 24), (80, 25), (100, 50), (133, 9), (250, 80), (60, 1)] {
        for moment in [0, 1, 1500, 2999] {
            for zoom in [1, 64, 1 << 20] {
                let mut viewer = Viewer::new(&timeline, moment, moment % 40);
                viewer.zoom = zoom;
                let screen = picture::screen(&viewer, &timeline, "journal.sqlite", width, height);
                assert!(screen.len() <= height, "{} lines in {height}", screen.len());
                for line in &screen {
                    let plain = strip_ansi_codes(line);
                    assert!(plain.chars().count() <= width, "{width}: {plain}");
                }
            }
        }
    }
    let viewer = Viewer::new(&timeline, 2999, 39);
    let screen = picture::screen(&viewer, &timeline, "journal.sqlite", 60, 24).join("\n");
    let screen = strip_ansi_codes(&screen);
    for part in [
        "command 3,000 of 3,000",
        "bench round ",
        ">node-39 ",
        "busy",
        "0:59^",
        "q quit",
        super::rows::LEGEND,
    ] {
        assert!(screen.contains(part), "{part} in\n{screen}");
    }
}

#[test]
fn a_timeline_of_nothing_is_drawn_too() {
    let timeline = finish(Recorder::new(), &State::new(), 0);
    let mut viewer = Viewer::new(&timeline, 0, 0);
    for key in [Key::ArrowRight, Key::PageDown, Key::PageUp, Key::End, Key::Char(' '), Key::Char('n')] {
        viewer.press(&key, &timeline);
        viewer.tick(Duration::from_secs(1), &timeline);
        assert!(!picture::screen(&viewer, &timeline, "empty", 80, 24).is_empty());
    }
    assert!(as_text(&timeline, 0, None, 80).starts_with("0 commands and 0 events"));
    assert_eq!(as_json(&timeline, 0, None)["command"], 0);
}

#[test]
fn a_summary_says_what_was_done_up_to_a_moment() {
    let (timeline, state) = made_up(4, 2000);
    let text = as_text(&timeline, 1999, None, 120);
    for part in
        ["2,000 commands", &state.root().to_string(), "as the orchestrator wrote it", "node-3", "bench"]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let of_one = as_text(&timeline, 1999, Some(2), 120);
    assert!(of_one.contains("node-2") && !of_one.contains("node-3"), "{of_one}");

    let moment = timeline.rounds[20].started as usize + 3;
    let (early, late) = (as_json(&timeline, moment, None), as_json(&timeline, 1999, None));
    assert_eq!((&early["command"], early["nodes"].as_array().unwrap().len()), (&(moment + 1).into(), 4));
    assert!(early["tokens"].as_u64() < late["tokens"].as_u64());
    let sum: u64 =
        late["nodes"].as_array().unwrap().iter().map(|node| node["tokens"].as_u64().unwrap()).sum();
    assert_eq!(late["tokens"], sum);
    assert!(early["rounds"].as_array().unwrap().len() < late["rounds"].as_array().unwrap().len());
    assert_eq!(early["rounds"].as_array().unwrap().last().unwrap()["finished_ms"], serde_json::Value::Null);
}

/// Ten thousand nodes come and go, a hundred thousand times.
#[test]
fn a_large_journal_is_indexed_once_and_drawn_at_once() {
    let nodes: Vec<_> = (0..10_000u64)
        .map(|number| NodeKey::from_seed(std::array::from_fn(|at| number.to_le_bytes()[at % 8])).id())
        .collect();
    let (mut state, mut recorder) = (State::new(), Recorder::new());
    for sequence in 0..100_000u64 {
        let (node, now_ms) = (nodes[(sequence * 7919 % 10_000) as usize], 1_000 + sequence);
        let command = if sequence < 10_000 || sequence % 20_000 >= 10_000 {
            let profile = NodeProfile {
                name: format!("node {}", sequence % 10_000),
                threads: 1,
                memory_mib: 1,
                isa: "scalar".into(),
                speeds: Speeds { f32_exact: 1, bf16_exact: 1 },
                region: String::new(),
                upload_kib_per_s: 0,
                storage: None,
                software: "test".into(),
            };
            Command::NodeJoined { node, profile, addresses: Vec::new(), now_ms }
        } else {
            Command::NodeLost { node, cause: LossCause::LeaseExpired, now_ms }
        };
        let events = state.apply(&command).unwrap();
        recorder.take(&step(sequence, Entry { command, events }), &state);
    }
    let timeline = finish(recorder, &state, 100_000);
    assert_eq!((timeline.nodes.len(), timeline.moments.len()), (10_000, 100_000));
    let begun = Instant::now();
    for at in 0..100 {
        let mut viewer = Viewer::new(&timeline, at * 1000, at * 100);
        viewer.zoom = 1 << (at % 10);
        assert_eq!(picture::screen(&viewer, &timeline, "large", 200, 60).len(), 60);
    }
    // Some 2 ms each on a machine of today; this is for machines that do ten other things.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
