//! VNodes, networks, presets, tokenizers and model files.
