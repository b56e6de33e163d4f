#!/usr/bin/env python3
"""PyTorch's bf16 matrix products (MKL) on the shapes of M and L: f32 in, f32 out, conversion included.

    python benches/peers/pytorch_gemm.py [--threads 1]

Prints one JSON object: `products`, each with config, layer, transposes, m, n, k and gflops (median of 11).
"""
import argparse, json, statistics, time
import torch

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--threads", type=int, default=1)
a = ap.parse_args()
torch.set_num_threads(a.threads)

LAYERS = {
    "M": (2048, [("qkv", 384, 1152), ("out", 384, 384), ("gate_up", 384, 2048), ("down", 1024, 384), ("head", 384, 256)]),
    "L": (1024, [("qkv", 768, 2304), ("out", 768, 768), ("gate_up", 768, 4096), ("down", 2048, 768), ("head", 768, 8192)]),
}
products = []
for config, (tokens, layers) in LAYERS.items():
    for layer, inputs, outputs in layers:
        for transposes, m, n, k in [("NT", tokens, outputs, inputs), ("NN", tokens, inputs, outputs), ("TN", outputs, inputs, tokens)]:
            x = torch.rand(*((k, m) if transposes == "TN" else (m, k))) - 0.5
            w = torch.rand(*((n, k) if transposes == "NT" else (k, n))) - 0.5
            x = x.t() if transposes == "TN" else x
            w = w.t() if transposes == "NT" else w
            times = []
            for run in range(13):
                start = time.perf_counter()
                y = (x.to(torch.bfloat16) @ w.to(torch.bfloat16)).float()
                if run >= 2:
                    times.append(time.perf_counter() - start)
            gflops = 2.0 * m * n * k / statistics.median(times) / 1e9
            products.append(dict(config=config, layer=layer, transposes=transposes, m=m, n=n, k=k, gflops=round(gflops, 1)))
print(json.dumps(dict(torch=torch.__version__, threads=a.threads, products=products)))
