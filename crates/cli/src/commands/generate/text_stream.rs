//! Tokens as text while they come: a character may be spread over several.

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
}
