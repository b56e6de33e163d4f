//! State bytes and Hugging Face folders: there and back, and what is refused.

mod common;

use zoo_model::hugging_face::{self, Imported};
use zoo_model::{ModelConfig, Network, NetworkOptions, Profile, Tokenizer};

type Files = Vec<(String, Vec<u8>)>;

fn exported() -> Vec<(&'static str, ModelConfig, Network, Files)> {
    let export = |(name, config): (_, ModelConfig)| {
        let config = ModelConfig { vocab_size: 300, ..config };
        let profile = if name == "llama" { Profile::Bf16Exact } else { Profile::F32Exact };
        let network = common::build_in(profile, &config, NetworkOptions::default());
        let tokenizer =
            Tokenizer::train(["a text to learn from, a text to learn"], 270).expect("enough text");
        let files = hugging_face::export(&network, &config, &tokenizer).expect("a decoder");
        (name, config, network, files)
    };
    common::configs().into_iter().map(export).collect()
}

fn import(files: &Files) -> Result<Imported, String> {
    hugging_face::import(files, NetworkOptions::default()).map_err(|error| error.to_string())
}

fn file<'a>(files: &'a mut Files, name: &str) -> &'a mut Vec<u8> {
    &mut files.iter_mut().find(|(file, _)| file == name).expect("exported").1
}

#[test]
fn an_exported_folder_imports_to_the_same_bits() {
    for (name, config, network, files) in exported() {
        let names: Vec<&str> = files.iter().map(|(name, _)| &name[..]).collect();
        let expected = [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(names, expected);
        let imported = import(&files).expect(name);
        assert_eq!(imported.config, config, "{name}");
        assert_eq!(imported.network.digest(), network.digest(), "{name}");
        assert_eq!(imported.network.profile(), network.profile(), "{name}");
        let tokenizer = imported.tokenizer.expect("exported with one");
        assert_eq!(tokenizer.decode(&tokenizer.encode("a text")), "a text");
        let again = hugging_face::export(&imported.network, &imported.config, &tokenizer).expect("a decoder");
        assert!(again == files, "{name}: the same files again");
    }
}

#[test]
fn a_damaged_or_foreign_folder_is_refused_with_what_is_wrong() {
    type Damage = fn(&mut Files);
    let damages: [(Damage, &str); 13] = [
        (|files| replace(files, "\"bf16-exact\"", "\"fp8\""), "zoo_numeric_profile 'fp8' is not known"),
        (|files| files.retain(|(name, _)| name != "config.json"), "there is no config.json"),
        (|files| files.retain(|(name, _)| name != "model.safetensors"), "there is no model.safetensors"),
        (|files| file(files, "model.safetensors").truncate(5000), "model.safetensors: "),
        (|files| file(files, "model.safetensors").truncate(3), "model.safetensors: "),
        (|files| file(files, "model.safetensors")[3] = 0xff, "model.safetensors: "),
        (|files| file(files, "model.safetensors").push(0), "model.safetensors: "),
        (|files| file(files, "config.json").truncate(20), "config.json: "),
        (
            |files| replace(files, "\"vocab_size\": 300", "\"vocab_size\": 301"),
            "its shape is [300, 32], not [301, 32]",
        ),
        (
            |files| replace(files, "\"vocab_size\": 300", "\"vocab_size\": -1"),
            "vocab_size is not a whole number",
        ),
        (
            |files| replace(files, "\"model_type\": \"llama\"", "\"model_type\": \"mamba\""),
            "'mamba' is not known",
        ),
        (
            |files| replace(files, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"),
            "the model has no such tensor",
        ),
        (|files| replace(files, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 99999"), "layers: 99999"),
    ];
    let (_, _, _, files) = exported().into_iter().find(|(name, ..)| *name == "llama").expect("a llama");
    for (damage, expected) in damages {
        let mut damaged = files.clone();
        damage(&mut damaged);
        assert!(damaged != files, "{expected}: something was damaged");
        let message = import(&damaged).err().expect(expected);
        assert!(message.contains(expected) && message.contains("\nhint: "), "{message}");
    }
}

fn replace(files: &mut Files, from: &str, to: &str) {
    let config = file(files, "config.json");
    *config = String::from_utf8(config.clone()).expect("text").replace(from, to).into_bytes();
}

#[test]
fn the_other_networks_export_is_refused() {
    let (_, config) = common::configs().remove(0);
    let network = common::build(&config, NetworkOptions::default());
    let other = ModelConfig { width: 48, ..config.clone() };
    assert!(hugging_face::export(&network, &other, &Tokenizer::bytes()).is_err());
    let error = hugging_face::export(&network, &config, &Tokenizer::bytes()).expect_err("70 tokens");
    assert!(error.to_string().contains("the tokenizer has 256 tokens, the model 70"), "{error}");
}

#[test]
fn state_bytes_come_back_and_nothing_else_does() {
    let (_, config) = common::configs().remove(0);
    let mut network = common::build(&config, NetworkOptions::default());
    let expected = network.digest();
    let states: Vec<Vec<u8>> = network.vnodes().iter().map(|vnode| vnode.state_bytes()).collect();
    network.initialise(99);
    assert_ne!(network.digest(), expected);
    for (vnode, bytes) in network.vnodes_mut().iter_mut().zip(&states) {
        vnode.load_state(bytes).expect("its own state");
        assert_eq!(vnode.state_bytes(), *bytes);
    }
    assert_eq!(network.digest(), expected);

    let vnode = &mut network.vnodes_mut()[2];
    let bytes = &states[2];
    for cut in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        assert!(vnode.load_state(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let header = bytes.len() - 4 * vnode.parameter_count();
    assert!(header > 40, "the header is worth flipping");
    for at in 0..40 {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(vnode.load_state(&flipped).is_err(), "byte {at} flipped");
    }
    let longer = [&bytes[..], &[0]].concat();
    let wrong =
        [(&longer[..], "1 bytes too many"), (&states[4], "id 'block.0.mlp' is not 'block.0.attention'")];
    for (bytes, expected) in wrong {
        let message = vnode.load_state(bytes).expect_err(expected).to_string();
        assert!(message.contains(expected) && message.contains("\nhint: "), "{message}");
    }
    assert!(vnode.load_state(&vnode.optimizer_bytes()).is_err());
    assert_eq!(network.digest(), expected, "refused bytes change nothing");
}
