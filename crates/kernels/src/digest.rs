//! The digest of a tensor: what two machines compare instead of the tensor.

/// Says what the bytes are, so that no other use of BLAKE3 collides with this.
const DOMAIN: &[u8; 16] = b"zoo tensor f32 1";

/// Values turned into bytes at a time.
const BATCH: usize = 4096;

/// BLAKE3 of a domain tag, the rank, the shape (u64, little-endian) and the
/// values (f32, little-endian, row-major).
///
/// # Panics
/// If the shape does not have as many elements as `data`.
pub fn tensor(shape: &[usize], data: &[f32]) -> [u8; 32] {
    assert_eq!(shape.iter().product::<usize>(), data.len(), "a tensor has as many values as its shape says");
    let mut hasher = blake3::Hasher::new();
    hasher.update(DOMAIN);
    hasher.update(&(shape.len() as u64).to_le_bytes());
    for extent in shape {
        hasher.update(&(*extent as u64).to_le_bytes());
    }
    let mut bytes = [0u8; 4 * BATCH];
    for values in data.chunks(BATCH) {
        let bytes = &mut bytes[..4 * values.len()];
        for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        hasher.update(bytes);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_over_the_bytes_documented() {
        let shape = [2usize, 3];
        let data = [0.0f32, -0.0, 1.0, f32::MIN_POSITIVE / 2.0, f32::INFINITY, -7.5];
        let mut bytes = DOMAIN.to_vec();
        bytes.extend(2u64.to_le_bytes());
        bytes.extend(shape.iter().flat_map(|n| (*n as u64).to_le_bytes()));
        bytes.extend(data.iter().flat_map(|x| x.to_le_bytes()));
        assert_eq!(tensor(&shape, &data), *blake3::hash(&bytes).as_bytes());
    }

    #[test]
    fn shape_order_and_the_sign_of_zero_count() {
        let data: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let digests = [
            tensor(&[6], &data),
            tensor(&[2, 3], &data),
            tensor(&[3, 2], &data),
            tensor(&[1, 6], &data),
            tensor(&[6], &[-0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        ];
        for (i, a) in digests.iter().enumerate() {
            assert!(digests[i + 1..].iter().all(|b| a != b), "digest {i} appears twice");
        }
    }

    #[test]
    fn a_long_tensor_is_hashed_whole() {
        let mut data = vec![1.0f32; 3 * BATCH + 5];
        let before = tensor(&[data.len()], &data);
        *data.last_mut().expect("not empty") = 2.0;
        assert_ne!(before, tensor(&[data.len()], &data));
    }
}
