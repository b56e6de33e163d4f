//! What the tests of this crate share.
#![allow(dead_code)] // every test file uses its own part

use std::path::{Path, PathBuf};

use zoo_data::{CargoSource, HeldOut, Options, Prepared, Source, TokenizerChoice, prepare};
use zoo_model::Tokenizer;

/// Writes files below a folder.
pub fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Byte tokens, a budget of 2 MB, two threads.
pub fn options(source: Source) -> Options {
    Options {
        source,
        bytes_max: 2_000_000,
        held_out: HeldOut::default(),
        tokenizer: TokenizerChoice::Bytes,
        seed: 1,
        threads: 2,
    }
}

/// Options for a file or folder.
pub fn path(path: impl Into<PathBuf>) -> Options {
    options(Source::Path(path.into()))
}

/// Options for the packages below a cargo home, without asking cargo.
pub fn registry(cargo_home: &Path) -> Options {
    let cargo_home = Some(cargo_home.to_owned());
    options(Source::Cargo(CargoSource { cargo: "cargo".into(), manifest: None, cargo_home }))
}

/// Prepares what must succeed.
pub fn prepared(options: &Options) -> Prepared {
    prepare(options, &mut |_| {}).unwrap()
}

/// The message of what must fail.
pub fn failure(options: &Options) -> String {
    prepare(options, &mut |_| {}).err().expect("a refusal").to_string()
}

/// The text a dataset of byte tokens stands for.
pub fn text_of(dataset: &zoo_training::Dataset) -> String {
    let mut tokens = vec![0; dataset.len() as usize];
    dataset.read(0, &mut tokens);
    Tokenizer::bytes().decode(&tokens)
}
