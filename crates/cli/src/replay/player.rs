//! The viewer on a terminal: keys in, screens out.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use console::{Key, Term};

use super::picture;
use super::timeline::Timeline;
use super::viewer::{Then, Viewer};

/// Between two screens while playing.
const PLAYING: Duration = Duration::from_millis(50);
/// The terminal's size is looked at this often.
const RESTING: Duration = Duration::from_millis(250);

const ENTER_SCREEN: &str = "\x1b[?1049h\x1b[?7l";
const LEAVE_SCREEN: &str = "\x1b[?7h\x1b[?1049l";

/// Shows the timeline until somebody has seen enough.
///
/// # Errors
/// When the terminal goes away.
pub fn play(mut viewer: Viewer, timeline: &Timeline, name: &str) -> io::Result<()> {
    let terminal = Screen::enter()?;
    let keyboard = Keyboard::new();
    let mut drawn = None;
    let mut latest = Instant::now();
    loop {
        let size = terminal.0.size();
        if drawn.replace(size) != Some(size) {
            terminal.draw(&viewer, timeline, name)?;
        }
        let patience = if viewer.playing_ms.is_some() { PLAYING } else { RESTING };
        match keyboard.key(patience)? {
            Some(key) => {
                if viewer.press(&key, timeline) == Then::Quit {
                    return Ok(());
                }
                drawn = None;
                keyboard.next();
            }
            None if viewer.playing_ms.is_some() => {
                viewer.tick(latest.elapsed(), timeline);
                drawn = None;
            }
            None => {}
        }
        latest = Instant::now();
    }
}

/// The terminal's other screen; what was there before is there again at the end.
struct Screen(Term);

impl Screen {
    fn enter() -> io::Result<Self> {
        let screen = Self(Term::buffered_stdout());
        screen.0.write_str(ENTER_SCREEN)?;
        screen.0.hide_cursor()?;
        screen.0.flush()?;
        Ok(screen)
    }

    fn draw(&self, viewer: &Viewer, timeline: &Timeline, name: &str) -> io::Result<()> {
        let (rows, columns) = self.0.size();
        self.0.move_cursor_to(0, 0)?;
        let lines = picture::screen(viewer, timeline, name, columns.into(), rows.into());
        for row in 0..usize::from(rows) {
            // A line feed after the last line would scroll the first one away.
            let line_feed = if row == 0 { "" } else { "\r\n" };
            self.0.write_str(line_feed)?;
            self.0.clear_line()?;
            self.0.write_str(lines.get(row).map_or("", String::as_str))?;
        }
        self.0.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.0.show_cursor();
        let _ = self.0.write_str(LEAVE_SCREEN);
        let _ = self.0.flush();
    }
}

/// Reads keys in a thread of its own, each only when it is asked for: a terminal that is read from is not in the
/// state in which its shell wants it back.
struct Keyboard {
    keys: Receiver<io::Result<Key>>,
    wanted: SyncSender<()>,
}

impl Keyboard {
    fn new() -> Self {
        let (pressed, keys) = mpsc::sync_channel(1);
        let (wanted, asked) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let terminal = Term::stdout();
            while asked.recv().is_ok() && pressed.send(terminal.read_key_raw()).is_ok() {}
        });
        let keyboard = Self { keys, wanted };
        keyboard.next();
        keyboard
    }

    /// The key that was pressed, if one was within this time.
    fn key(&self, patience: Duration) -> io::Result<Option<Key>> {
        match self.keys.recv_timeout(patience) {
            Ok(key) => key.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn next(&self) {
        // A thread that is gone shows when its next key is waited for.
        let _ = self.wanted.send(());
    }
}
