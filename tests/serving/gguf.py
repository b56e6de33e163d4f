#!/usr/bin/env python3
"""Checks that llama.cpp opens what `zoo export --gguf` writes, cuts prompts alike, and writes the same greedy text in f32.

    npm install --ignore-scripts --prefix FOLDER node-llama-cpp
    python tests/serving/gguf.py MODEL --node-modules FOLDER [--zoo target/release/zoo] [--tokens 80]

llama.cpp comes prebuilt with the npm package; nothing is compiled. Prints one JSON object; exits with 1 unless all texts
are equal. In f16 the weights are rounded, so there only the prompts' tokens must be.
"""
import argparse, json, pathlib, shutil, subprocess, sys, tempfile

PROMPTS = ["ROMEO:", "the largest of\n  all", "fn main() {\n    let größe = 42;", "  two spaces, 日本 🦊 and\ttabs"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--node-modules", required=True, help="the folder in which node-llama-cpp was installed")
    parser.add_argument("--zoo", default="target/release/zoo")
    parser.add_argument("--tokens", type=int, default=80)
    options = parser.parse_args()
    # A module is looked for beside the script that imports it.
    script = pathlib.Path(options.node_modules) / "llama.mjs"
    shutil.copy(pathlib.Path(__file__).with_name("llama.mjs"), script)
    texts, equal = [], True
    with tempfile.TemporaryDirectory() as folder:
        for precision, flags in (("f32", []), ("f16", ["--f16"])):
            file = f"{folder}/{precision}.gguf"
            subprocess.run([options.zoo, "export", options.model, "--gguf", file, *flags], check=True, stdout=subprocess.DEVNULL)
            for prompt in PROMPTS:
                ours = last_line([options.zoo, "generate", options.model, prompt, "--greedy", "--json", "--tokens", str(options.tokens)])
                theirs = last_line(["node", script, file, prompt, str(options.tokens)])
                same = next((at for at, pair in enumerate(zip(ours["tokens"], theirs["tokens"])) if pair[0] != pair[1]), len(ours["tokens"]))
                cut_alike = ours["prompt_tokens"] == len(theirs["prompt"])
                texts.append({"precision": precision, "prompt": prompt, "cut_alike": cut_alike, "same": same, "of": len(ours["tokens"])})
                equal &= cut_alike and (precision == "f16" or same == len(ours["tokens"]))
    print(json.dumps({"texts": texts, "equal": equal}, indent=1, ensure_ascii=False))
    sys.exit(0 if equal else 1)


def last_line(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
