//! Who is told: people in front of a terminal, or a program that reads JSON lines.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zoo_orchestrator::Notice;

use super::narration::sentence;
use super::overview::Overview;
use super::screen::Screen;
use super::table;
use super::{event_line, print_line};

/// Where the news go.
#[derive(Debug)]
pub enum Audience {
    /// Sentences, and a table, on stderr.
    People(Screen),
    /// JSON lines on stdout.
    Programs,
}

impl Audience {
    /// For people unless `json`; their clock starts at `started`.
    pub fn new(json: bool, started: Instant) -> Self {
        if json { Self::Programs } else { Self::People(Screen::new(started)) }
    }

    /// Something that whoever runs the network did.
    pub fn tell(&mut self, event: &str, fields: Value, sentence: &str) {
        match self {
            Self::People(screen) => screen.say(sentence),
            Self::Programs => {
                let mut line = json!({ "event": event });
                if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
                    line.extend(fields);
                }
                print_line(&line);
            }
        }
    }

    /// Something that the network says, after `overview` has heard it.
    pub fn pass_on(&mut self, notice: &Notice, overview: &Overview) {
        let Notice::Event { at_ms, event, .. } = notice else { return };
        match self {
            Self::Programs => print_line(&event_line(*at_ms, event)),
            Self::People(screen) => {
                if let Some(sentence) = sentence(event, overview) {
                    screen.say(&sentence);
                }
            }
        }
    }

    /// Draws the table anew.
    pub fn show(&mut self, overview: &Overview, training: Option<Duration>) {
        if let Self::People(screen) = self
            && screen.is_live()
        {
            let lines = table::lines(overview, training, screen.width());
            screen.show(&lines);
        }
    }

    /// Takes the table away.
    pub fn clear(&mut self) {
        if let Self::People(screen) = self {
            screen.clear();
        }
    }
}
