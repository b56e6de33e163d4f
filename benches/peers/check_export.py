#!/usr/bin/env python3
"""Checks that Python `transformers` reads an exported model and computes what we computed.

    pip install torch transformers
    python check_export.py FOLDER LOGITS.json

FOLDER is an exported Hugging Face folder. LOGITS.json is one object with what our engine computed from the same model:

    tokens    a list of token ids, no longer than the context
    logits    for each of them a list of vocabulary size: the logits that follow it
    greedy    the ids that greedy decoding appends to `tokens` (may be empty)
    text      optional: a text
    text_ids  optional: the ids our tokenizer gives it

Prints one JSON object. Exits with 1 unless every logit is within 1e-4, greedy tokens and text ids are equal, the text
comes back from its ids, and saving the model again with `transformers` gives tensors equal to ours.
"""
import json, pathlib, sys, tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-4

folder, ours = pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

with torch.no_grad():
    tokens = torch.tensor([ours["tokens"]])
    logits = model(tokens).logits[0]
    difference = (logits - torch.tensor(ours["logits"])).abs().max().item()
    greedy = []
    for _ in ours["greedy"]:
        greedy.append(model(tokens).logits[0, -1].argmax().item())
        tokens = torch.cat([tokens, torch.tensor([greedy[-1:]])], 1)

checks = {"logits": difference <= TOLERANCE, "greedy": greedy == ours["greedy"]}
if "text" in ours:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(ours["text"])["input_ids"]
    checks["text_ids"] = ids == ours["text_ids"]
    checks["text"] = tokenizer.decode(ids) == ours["text"]
with tempfile.TemporaryDirectory() as again:
    model.save_pretrained(again)
    saved, exported = (load_file(pathlib.Path(path) / "model.safetensors") for path in (again, folder))
    checks["saved_again"] = saved.keys() == exported.keys() and all(torch.equal(saved[k], exported[k]) for k in saved)

print(json.dumps({
    "architecture": type(model).__name__, "positions": len(ours["tokens"]), "largest_difference": difference,
    "tolerance": TOLERANCE, **checks, "equal": all(checks.values()),
}))
sys.exit(0 if all(checks.values()) else 1)
