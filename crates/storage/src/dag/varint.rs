//! Unsigned varints, seven bits a byte, the lowest first; at most nine bytes
//! (<https://github.com/multiformats/unsigned-varint>).

/// Most bytes of a varint: 63 bits.
const BYTES_MAX: usize = 9;

/// Appends `value`, which is less than 2⁶³.
pub fn write(mut value: u64, out: &mut Vec<u8>) {
    debug_assert!(value < 1 << 63, "sizes are far below 63 bits");
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a varint from the front of `bytes`; only its shortest form is accepted.
pub fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().enumerate().take(BYTES_MAX) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            let shortest = byte != 0 || at == 0;
            *bytes = &bytes[at + 1..];
            return shortest.then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_specification() {
        let vectors: [(u64, &[u8]); 6] = [
            (1, &[0x01]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (255, &[0xff, 0x01]),
            (300, &[0xac, 0x02]),
            (16384, &[0x80, 0x80, 0x01]),
        ];
        for (value, bytes) in vectors {
            let mut out = Vec::new();
            write(value, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(read(&mut &bytes[..]), Some(value));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for bytes in [&[][..], &[0x80], &[0x81, 0x00], &[0x80, 0x00], &[0xff; 10]] {
            assert_eq!(read(&mut &bytes[..]), None, "{bytes:?}");
        }
    }
}
