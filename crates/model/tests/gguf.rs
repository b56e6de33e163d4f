//! GGUF files, read back by a reader that knows only the format.

mod common;

use std::collections::BTreeMap;

use zoo_model::gguf::{Precision, export};
use zoo_model::{Family, ModelConfig, NetworkOptions, Tokenizer};

/// What is in a file: numbers and texts of the metadata as text, lengths of lists, and tensors.
#[derive(Default)]
struct Read {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, (Vec<u64>, Vec<f32>)>,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk::<N>().expect("long enough");
        self.0 = rest;
        *head
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn text(&mut self) -> String {
        let length = self.u64() as usize;
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).expect("text")
    }

    fn value(&mut self, kind: u32) -> String {
        match kind {
            4 | 5 => self.u32().to_string(),
            6 => f32::from_le_bytes(self.take()).to_string(),
            7 => self.take::<1>()[0].to_string(),
            8 => self.text(),
            9 => {
                let (kind, count) = (self.u32(), self.u64());
                let values: Vec<String> = (0..count).map(|_| self.value(kind)).collect();
                values.join("\n")
            }
            other => panic!("type {other}"),
        }
    }
}

fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let size = if exponent == 0 {
        fraction * 2f32.powi(-24)
    } else {
        (1024.0 + fraction) * 2f32.powi(exponent - 25)
    };
    if sign == 1 { -size } else { size }
}

fn read(bytes: &[u8]) -> Read {
    let mut reader = Reader(bytes);
    assert_eq!((&reader.take::<4>(), reader.u32()), (b"GGUF", 3));
    let (tensors, keys) = (reader.u64(), reader.u64());
    let mut read = Read::default();
    for _ in 0..keys {
        let (key, kind) = (reader.text(), reader.u32());
        let value = reader.value(kind);
        read.metadata.insert(key, value);
    }
    let places: Vec<_> = (0..tensors)
        .map(|_| {
            let (name, dimensions) = (reader.text(), reader.u32());
            let shape: Vec<u64> = (0..dimensions).map(|_| reader.u64()).collect();
            (name, shape, reader.u32(), reader.u64() as usize)
        })
        .collect();
    let start = (bytes.len() - reader.0.len()).next_multiple_of(32);
    let mut end = start;
    for (name, shape, kind, offset) in places {
        let count = shape.iter().product::<u64>() as usize;
        assert_eq!(start + offset, end.next_multiple_of(32), "{name}: one after the other");
        let width = if kind == 0 { 4 } else { 2 };
        end = start + offset + count * width;
        let values = &bytes[start + offset..end];
        let values = match kind {
            0 => values.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it)).collect(),
            1 => values.as_chunks::<2>().0.iter().map(|it| half(u16::from_le_bytes(*it))).collect(),
            other => panic!("type {other}"),
        };
        read.tensors.insert(name, (shape, values));
    }
    assert_eq!(end.next_multiple_of(32), bytes.len());
    read
}

fn cases() -> Vec<(ModelConfig, Tokenizer)> {
    let bytes = Tokenizer::bytes();
    let trained = Tokenizer::train(["the fox and the dog and the other fox"; 4], 280).expect("enough text");
    let with =
        |vocab_size| common::configs().into_iter().map(move |(_, it)| ModelConfig { vocab_size, ..it });
    with(256).map(|it| (it, bytes.clone())).chain(with(300).map(|it| (it, trained.clone()))).collect()
}

#[test]
fn every_family_is_written_as_it_is() {
    for (config, tokenizer) in cases() {
        let network = common::build(&config, NetworkOptions::default());
        let mut file = Vec::new();
        export(&network, &config, &tokenizer, "small", Precision::F32, &mut file).expect("it has a form");
        let read = read(&file);
        let family = ["qwen3", "llama", "gpt2"][config.family as usize];
        let at = |key: &str| read.metadata[key].as_str();
        assert_eq!(at("general.architecture"), family);
        assert_eq!(at(&format!("{family}.block_count")), "2");
        assert_eq!(at(&format!("{family}.attention.head_count_kv")), config.kv_heads.to_string());
        assert_eq!((at("tokenizer.ggml.model"), at("tokenizer.ggml.pre")), ("gpt2", "gpt-2"));
        assert_eq!(at("tokenizer.ggml.tokens").split('\n').count(), config.vocab_size);
        assert_eq!(at("tokenizer.ggml.token_type").split('\n').count(), config.vocab_size);
        if let Some(end) = tokenizer.end_of_text() {
            assert_eq!(at("tokenizer.ggml.eos_token_id"), end.to_string());
            assert_eq!(at("tokenizer.ggml.tokens").split('\n').nth(end as usize), Some("<|endoftext|>"));
            assert_eq!(at("tokenizer.ggml.token_type").split('\n').nth(end as usize), Some("3"));
        }
        let value = |vnode: &str, name: &str| {
            let vnode = network.vnodes().iter().find(|it| it.id() == vnode).expect("it is there");
            vnode.parameters().iter().find(|it| it.name() == name).expect("it is there").value.clone()
        };
        let (width, hidden) = (config.width as u64, config.hidden as u64);
        let (shape, values) = &read.tensors["token_embd.weight"];
        assert_eq!(
            (&shape[..], values),
            (&[width, config.vocab_size as u64][..], &value("embedding", "table"))
        );
        let (shape, values) = &read.tensors["blk.1.ffn_down.weight"];
        assert_eq!((&shape[..], values), (&[hidden, width][..], &value("block.1.mlp", "down")));
        assert_eq!(read.tensors.contains_key("output.weight"), !config.tied_embeddings);
        let qkv = value("block.0.attention", "qkv");
        match config.family {
            Family::Qwen3 => assert_eq!(read.tensors["blk.0.attn_q.weight"].1[..], qkv[..4 * 12 * 32]),
            Family::Gpt2 => assert_eq!(read.tensors["blk.0.attn_qkv.weight"], (vec![width, 3 * width], qkv)),
            Family::Llama => {
                // Rows 0, 6, 1, 7, ... of every head.
                let found = &read.tensors["blk.0.attn_k.weight"].1;
                let keys = &qkv[4 * 12 * 32..][..2 * 12 * 32];
                assert_eq!((&found[..32], &found[32..64]), (&keys[..32], &keys[6 * 32..7 * 32]));
                assert_eq!(found[13 * 32..14 * 32], keys[18 * 32..19 * 32]);
                let values = &qkv[6 * 12 * 32..];
                assert_eq!(read.tensors["blk.0.attn_v.weight"].1[..], *values);
            }
        }
    }
}

#[test]
fn halves_are_close_and_vectors_stay_exact() {
    let (config, tokenizer) = cases().remove(0);
    let network = common::build(&config, NetworkOptions::default());
    let [exact, halves] = [Precision::F32, Precision::F16].map(|precision| {
        let mut file = Vec::new();
        export(&network, &config, &tokenizer, "small", precision, &mut file).expect("it has a form");
        read(&file)
    });
    for (name, (shape, values)) in &exact.tensors {
        let (half_shape, half_values) = &halves.tensors[name];
        assert_eq!(shape, half_shape);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= a.abs() / 2048.0 + 3e-8;
        assert!(values.iter().zip(half_values).all(near), "{name}");
        assert_eq!(values == half_values, shape.len() == 1, "{name}");
    }
}
