//! What the viewer shows of a timeline, and what each key does to that. It knows no terminal.

use std::ops::Range;
use std::time::Duration;

use console::Key;

use super::timeline::Timeline;

/// Journal time per time, when playing.
pub const SPEEDS: [u64; 9] = [1, 2, 5, 10, 30, 100, 300, 1000, 10_000];
/// Unless told otherwise, a journal is played in about this long.
const PLAY_TIME: Duration = Duration::from_secs(40);
/// The closest look: the whole journal is so many times as long.
const ZOOM_MAX: u32 = 1 << 20;
/// A page is this part of what is visible.
const PAGE: u64 = 10;
/// Characters that a prompt takes.
const PROMPT_MAX: usize = 40;

/// Where somebody looks.
#[derive(Debug)]
pub struct Viewer {
    /// The selected moment.
    pub moment: usize,
    /// The selected node.
    pub node: usize,
    /// What is visible is the whole, divided by this.
    pub zoom: u32,
    /// Index into [`SPEEDS`].
    pub speed: usize,
    /// The time it is while playing, ms since the Unix epoch.
    pub playing_ms: Option<u64>,
    /// What is being typed.
    pub prompt: Option<Prompt>,
    /// Something to say until the next key.
    pub message: Option<String>,
    /// What was searched last.
    searched: String,
}

/// A question at the bottom.
#[derive(Debug)]
pub struct Prompt {
    /// What for.
    pub asks: Asks,
    /// The answer so far.
    pub text: String,
}

/// What a prompt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// A node's name or id.
    Node,
    /// A round's number.
    Round,
}

/// What follows from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Draw again.
    Draw,
    /// End.
    Quit,
}

impl Viewer {
    /// Looks at a moment and a node.
    pub fn new(timeline: &Timeline, moment: usize, node: usize) -> Self {
        let (start_ms, end_ms) = timeline.period_ms();
        let wanted = (end_ms - start_ms) / PLAY_TIME.as_millis() as u64;
        let speed = SPEEDS.partition_point(|speed| *speed < wanted).min(SPEEDS.len() - 1);
        Self {
            moment,
            node,
            zoom: 1,
            speed,
            playing_ms: None,
            prompt: None,
            message: None,
            searched: String::new(),
        }
    }

    /// What a key does.
    pub fn press(&mut self, key: &Key, timeline: &Timeline) -> Then {
        self.message = None;
        if *key == Key::CtrlC {
            return Then::Quit;
        }
        if let Some(prompt) = self.prompt.take() {
            self.answer(prompt, key, timeline);
            return Then::Draw;
        }
        let last = timeline.moments.len().saturating_sub(1);
        let last_node = timeline.nodes.len().saturating_sub(1);
        match key {
            Key::Char('q') => return Then::Quit,
            Key::ArrowLeft => self.go(self.moment.saturating_sub(1)),
            Key::ArrowRight => self.go((self.moment + 1).min(last)),
            Key::PageUp => self.page(timeline, false),
            Key::PageDown => self.page(timeline, true),
            Key::Home => self.go(0),
            Key::End => self.go(last),
            Key::ArrowUp => self.node = self.node.saturating_sub(1),
            Key::ArrowDown => self.node = (self.node + 1).min(last_node),
            Key::Char('+' | '=') => self.zoom = (self.zoom * 2).min(ZOOM_MAX),
            Key::Char('-') => self.zoom = (self.zoom / 2).max(1),
            Key::Char(' ') => self.toggle(timeline, last),
            Key::Char('>' | '.') => self.speed = (self.speed + 1).min(SPEEDS.len() - 1),
            Key::Char('<' | ',') => self.speed = self.speed.saturating_sub(1),
            Key::Char('/') => self.prompt = Some(Prompt { asks: Asks::Node, text: String::new() }),
            Key::Char('j') => self.prompt = Some(Prompt { asks: Asks::Round, text: String::new() }),
            Key::Char('n') => self.search(timeline),
            _ => {}
        }
        Then::Draw
    }

    /// Time passes while playing.
    pub fn tick(&mut self, passed: Duration, timeline: &Timeline) {
        let Some(now_ms) = self.playing_ms else { return };
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let now_ms = now_ms.saturating_add(passed_ms.saturating_mul(SPEEDS[self.speed]));
        self.moment = timeline.moment_at(now_ms);
        self.playing_ms = (self.moment + 1 < timeline.moments.len()).then_some(now_ms);
    }

    /// The part of the timeline that is visible, ms: around the selected moment, within the whole.
    pub fn visible_ms(&self, timeline: &Timeline) -> Range<u64> {
        let (start_ms, end_ms) = timeline.period_ms();
        let end_ms = end_ms + 1;
        let width_ms = ((end_ms - start_ms) / u64::from(self.zoom)).max(1);
        let middle_ms = timeline.at_ms(self.moment);
        let from_ms = middle_ms.saturating_sub(width_ms / 2).clamp(start_ms, end_ms - width_ms);
        from_ms..from_ms + width_ms
    }

    fn go(&mut self, moment: usize) {
        self.moment = moment;
        self.playing_ms = None;
    }

    /// A part of what is visible, and at least one moment.
    fn page(&mut self, timeline: &Timeline, forward: bool) {
        let visible_ms = self.visible_ms(timeline);
        let page_ms = ((visible_ms.end - visible_ms.start) / PAGE).max(1);
        let now_ms = timeline.at_ms(self.moment);
        let last = timeline.moments.len().saturating_sub(1);
        self.go(if forward {
            timeline.moment_at(now_ms.saturating_add(page_ms)).max(self.moment + 1).min(last)
        } else {
            timeline.moment_at(now_ms.saturating_sub(page_ms)).min(self.moment.saturating_sub(1))
        });
    }

    /// Plays, from the beginning if everything has been played, or pauses.
    fn toggle(&mut self, timeline: &Timeline, last: usize) {
        if self.playing_ms.take().is_none() {
            if self.moment == last {
                self.moment = 0;
            }
            self.playing_ms = Some(timeline.at_ms(self.moment));
        }
    }

    fn answer(&mut self, mut prompt: Prompt, key: &Key, timeline: &Timeline) {
        match key {
            Key::Enter => return self.accept(prompt, timeline),
            Key::Escape => return,
            Key::Backspace => _ = prompt.text.pop(),
            Key::Char(letter) if !letter.is_control() && prompt.text.chars().count() < PROMPT_MAX => {
                prompt.text.push(*letter);
            }
            _ => {}
        }
        self.prompt = Some(prompt);
    }

    fn accept(&mut self, Prompt { asks, text }: Prompt, timeline: &Timeline) {
        match asks {
            Asks::Node => {
                if !text.is_empty() {
                    self.searched = text;
                }
                self.search(timeline);
            }
            Asks::Round => {
                let found =
                    text.trim().parse().ok().and_then(|number| timeline.find_round(number, self.moment));
                match found {
                    Some(round) => self.go(timeline.rounds[round].started as usize),
                    None => self.message = Some(format!("there is no round {text}")),
                }
            }
        }
    }

    /// The next node that fits what was searched last.
    fn search(&mut self, timeline: &Timeline) {
        match timeline.find_node(&self.searched, Some(self.node)) {
            Some(node) => self.node = node,
            None => self.message = Some(format!("no node's name or id begins with {}", self.searched)),
        }
    }
}
