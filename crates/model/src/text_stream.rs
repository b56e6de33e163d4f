//! Tokens as text while they come: a character may be spread over several, and so may what ends the text.

/// Bytes in, whole characters out.
#[derive(Default)]
pub struct TextStream {
    /// The start of a character whose end has not come yet.
    pending: Vec<u8>,
}

impl TextStream {
    /// The characters that `bytes` complete; what can be no character shows as U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let rest = self.pending.split_off(error.valid_up_to());
                    let whole = std::mem::replace(&mut self.pending, rest);
                    text.push_str(&String::from_utf8(whole).expect("valid up to here"));
                    let Some(wrong) = error.error_len() else { return text };
                    self.pending.drain(..wrong);
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
    }

    /// What is left when nothing more comes.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    /// Bytes that wait for the rest of their character.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }
}

/// A text that ends before the first of some sequences of characters: what may be the start of one is held back.
#[derive(Default)]
pub struct StoppedText {
    stream: TextStream,
    /// Characters that may be the start of a stop sequence.
    held: String,
    stops: Vec<String>,
    is_over: bool,
}

impl StoppedText {
    /// An empty text that ends before any of `stops`; empty ones count for nothing.
    pub fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self { stops, ..Self::default() }
    }

    /// The characters that are certain now.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let more = self.stream.push(bytes);
        self.settle(&more)
    }

    /// Whether a stop sequence has come: nothing follows.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// What was held back, when nothing more comes.
    pub fn finish(mut self) -> String {
        if self.is_over {
            return String::new();
        }
        let rest = std::mem::take(&mut self.stream).finish();
        let settled = self.settle(&rest);
        settled + if self.is_over { "" } else { &self.held }
    }

    fn settle(&mut self, more: &str) -> String {
        if self.is_over {
            return String::new();
        }
        self.held.push_str(more);
        if let Some(end) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.is_over = true;
            self.held.truncate(end);
            return std::mem::take(&mut self.held);
        }
        let may_begin = |at: &usize| {
            let end = &self.held[*at..];
            self.stops.iter().any(|stop| stop.starts_with(end))
        };
        let starts = self.held.char_indices().map(|(at, _)| at);
        let certain = starts.into_iter().find(may_begin).unwrap_or(self.held.len());
        let rest = self.held.split_off(certain);
        std::mem::replace(&mut self.held, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_text_of_the_whole() {
        for bytes in ["größer 日本 🦊".as_bytes(), b"a\xff\xfeb\xe6\x97", b"\xf0\x9f", b""] {
            for size in 1..=bytes.len().max(1) {
                let mut stream = TextStream::default();
                let mut text: String = bytes.chunks(size).map(|piece| stream.push(piece)).collect();
                text.push_str(&stream.finish());
                assert_eq!(text, String::from_utf8_lossy(bytes), "{bytes:?} by {size}");
            }
        }
    }

    #[test]
    fn a_text_ends_before_its_first_stop_however_it_comes() {
        let cases = [
            ("one\n\ntwo", vec!["\n\n"], "one", true),
            ("one\ntwo", vec!["\n\n"], "one\ntwo", false),
            ("aab", vec!["ab"], "a", true),
            ("aaa", vec!["ab", ""], "aaa", false),
            ("xay", vec!["ay", "xa"], "", true),
            ("größe 🦊!", vec!["🦊"], "größe ", true),
            ("ends with a sto", vec!["stop"], "ends with a sto", false),
            ("a\u{fffd}b", vec!["b"], "a\u{fffd}", true),
        ];
        for (text, stops, expected, is_over) in cases {
            for size in 1..=text.len() {
                let mut stopped = StoppedText::new(stops.iter().map(|it| it.to_string()).collect());
                let mut found = String::new();
                for piece in text.as_bytes().chunks(size) {
                    found.push_str(&stopped.push(piece));
                    assert!(expected.starts_with(&found), "{text:?}: {found:?} cannot be taken back");
                }
                assert_eq!(stopped.is_over(), is_over, "{text:?} by {size}");
                found.push_str(&stopped.finish());
                assert_eq!(found, expected, "{text:?} by {size}");
            }
        }
    }
}
