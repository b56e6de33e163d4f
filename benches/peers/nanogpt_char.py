#!/usr/bin/env python3
"""nanoGPT's shakespeare_char configuration for a CPU, in PyTorch eager: the run that
`zoo train --preset nanogpt-shakespeare-char-cpu` is compared with.

    python benches/peers/nanogpt_char.py input.txt --threads 2

4 layers, 4 heads, width 128, context 64, batch 12, 2,000 iterations, no dropout, no biases, tied
embedding; AdamW 1e-3 (betas 0.9, 0.99; decay 0.1 on matrices), clip 1.0, 100 steps of warm-up, cosine
to 1e-4. Prints one JSON object; `val_loss` is over the whole last tenth of the text.
"""
import argparse, json, math, time

ap = argparse.ArgumentParser()
ap.add_argument("text")
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--iterations", type=int, default=2000)
ap.add_argument("--initial-std", type=float, default=0.03, help="as in our preset; nanoGPT's own is 0.02")
a = ap.parse_args()

import torch, torch.nn as nn, torch.nn.functional as F

torch.set_num_threads(a.threads)
torch.manual_seed(1337)
L, H, D, T, B = 4, 4, 128, 64, 12
text = open(a.text, encoding="utf-8").read()
chars = sorted(set(text))
ids = torch.tensor([chars.index(c) for c in text])
cut = int(0.9 * len(ids))
train, held_out, V = ids[:cut], ids[cut:], len(chars)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(D, bias=False), nn.LayerNorm(D, bias=False)
        self.qkv, self.proj = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.fc, self.out = nn.Linear(D, 4 * D, bias=False), nn.Linear(4 * D, D, bias=False)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(self.n1(x)).view(b, t, 3, H, D // H).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(z.transpose(1, 2).reshape(b, t, D))
        return x + self.out(F.gelu(self.fc(self.n2(x))))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok, self.pos = nn.Embedding(V, D), nn.Embedding(T, D)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(L)), nn.LayerNorm(D, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, 0, a.initial_std / math.sqrt(2 * L) if name.endswith(("proj.weight", "out.weight")) else a.initial_std)

    def forward(self, x, y):
        h = self.tok(x) + self.pos(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return F.cross_entropy((self.norm(h) @ self.tok.weight.T).view(-1, V), y.reshape(-1))


model = GPT()
groups = [{"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": 0.1},
          {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
start = time.perf_counter()
for i in range(a.iterations):
    at = torch.randint(len(train) - T, (B,))
    x = torch.stack([train[j : j + T] for j in at])
    y = torch.stack([train[j + 1 : j + 1 + T] for j in at])
    lr = 1e-3 * (i + 1) / 101 if i < 100 else 1e-4 + 0.5 * 9e-4 * (1 + math.cos(math.pi * (i - 100) / (2000 - 100)))
    for group in optimizer.param_groups:
        group["lr"] = lr
    loss = model(x, y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
seconds = time.perf_counter() - start
with torch.no_grad():
    windows = (len(held_out) - 1) // T
    x, y = held_out[: windows * T].view(-1, T), held_out[1 : windows * T + 1].view(-1, T)
    val = sum(model(x[i : i + 64], y[i : i + 64]).item() * len(x[i : i + 64]) for i in range(0, windows, 64)) / windows
print(json.dumps({"engine": "pytorch", "threads": a.threads, "iterations": a.iterations, "val_loss": val,
                  "seconds": seconds, "tokens_per_s": a.iterations * B * T / seconds}))
