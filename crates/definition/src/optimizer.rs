//! The optimiser of one node.

use zoo_model::{AdamWSettings, MuonSettings, NodeOptimizer, SgdSettings};

use crate::keys::{self, Keys};
use crate::refusal::Refusal;
use crate::tree::{Tree, Value};

const NAMES: &[(&str, Name)] =
    &[("adam", Name::Adam), ("adamw", Name::AdamW), ("sgd", Name::Sgd), ("muon", Name::Muon)];

#[derive(Clone, Copy)]
enum Name {
    /// AdamW without decay.
    Adam,
    AdamW,
    Sgd,
    Muon,
}

/// A name, or keys: its type and settings.
pub fn read(tree: &Tree) -> Result<NodeOptimizer, Refusal> {
    let Value::Keys(_) = tree.value else {
        let name = keys::one_of(tree, "optimizer", NAMES)?;
        return settings(name, Keys::none(tree.line, "the optimizer"));
    };
    let mut keys = Keys::of(tree, "the optimizer")?;
    let name = keys::one_of(keys.need("type", "adam")?, "type", NAMES)?;
    settings(name, keys)
}

fn settings(name: Name, mut keys: Keys) -> Result<NodeOptimizer, Refusal> {
    let mut share = |key: &'static str, default: f64| match keys.take(key) {
        None => Ok(default),
        Some(tree) => {
            let number = keys::number(tree, key)?;
            let fits = (0.0..1.0).contains(&number);
            let cause = || format!("{key} ({number}) is not at least 0 and below 1");
            if fits {
                Ok(number)
            } else {
                Err(Refusal::new(tree.line, cause(), format!("{default} is usual")))
            }
        }
    };
    let mut adamw = AdamWSettings::default();
    if let Name::Adam = name {
        adamw.weight_decay = 0.0;
    } else {
        adamw.weight_decay = share("weight_decay", adamw.weight_decay)?;
    }
    let optimizer = match name {
        Name::Sgd => {
            NodeOptimizer::Sgd(SgdSettings { weight_decay: adamw.weight_decay, ..SgdSettings::default() })
        }
        Name::Adam | Name::AdamW | Name::Muon => {
            adamw.beta1 = share("beta1", adamw.beta1)?;
            adamw.beta2 = share("beta2", adamw.beta2)?;
            adamw.epsilon = share("epsilon", adamw.epsilon)?;
            if let Name::Muon = name {
                let momentum = share("momentum", MuonSettings::default().momentum)?;
                NodeOptimizer::Muon(MuonSettings { momentum, adamw, ..MuonSettings::default() })
            } else {
                NodeOptimizer::AdamW(adamw)
            }
        }
    };
    keys.end()?;
    Ok(optimizer)
}
