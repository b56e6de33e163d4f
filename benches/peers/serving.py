#!/usr/bin/env python3
"""How fast `zoo serve` writes, beside llama.cpp on the same model, in turns on the same machine.

    pip install "llama-cpp-python[server]"
    python benches/peers/serving.py MODEL --zoo target/release/zoo [--threads 2] [--rounds 3]

MODEL is a folder with a model; `zoo export` makes the GGUF file (f32) of it that llama.cpp reads. Measured are:

    zoo            `zoo serve`, over HTTP
    llama server   llama-cpp-python's server, over HTTP; it writes one text at a time
    llama batched  llama.cpp's own loop over a batch in this process, without HTTP: the most that any server of it could give
    transformers   `generate` of Hugging Face's library in this process, if it is installed, without HTTP

Each gives tokens per second with 1 and with 16 texts at a time, and, over HTTP, the time until the first token of a prompt.
The greedy texts of all are compared. Prints one JSON object, medians over the rounds with all values beside them.
"""
import argparse, contextlib, http.client, json, pathlib, random, statistics, subprocess, sys, tempfile, threading, time

PROMPT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on while the fox runs to the river again"


class Server:
    """A process that speaks OpenAI's API."""

    def __init__(self, command, port, extra):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.port, self.extra = port, extra
        for _ in range(600):
            with contextlib.suppress(OSError):
                self.ask({"prompt": "a", "max_tokens": 1, "temperature": 0})
                return
            if self.process.poll() is not None:
                sys.exit(f"{command[0]} has ended with {self.process.returncode}")
            time.sleep(0.1)
        sys.exit(f"{command[0]} does not answer")

    def ask(self, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("POST", "/v1/completions", json.dumps({**body, **self.extra}), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def first_token(self, prompt):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        start = time.perf_counter()
        body = {"prompt": prompt, "max_tokens": 4, "temperature": 0, "stream": True, **self.extra}
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        while not (line := response.readline()).startswith(b"data: {"):
            if not line:
                sys.exit("the stream ended early")
        seconds = time.perf_counter() - start
        response.read()
        connection.close()
        return seconds

    def tokens_per_s(self, prompts, tokens):
        written = [0] * len(prompts)

        def one(at):
            body = {"prompt": prompts[at], "max_tokens": tokens, "temperature": 0}
            written[at] = self.ask(body)["usage"]["completion_tokens"]

        threads = [threading.Thread(target=one, args=(at,)) for at in range(len(prompts))]
        start = time.perf_counter()
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        return sum(written) / (time.perf_counter() - start)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Batched:
    """llama.cpp without a server: all texts go on by one token in every pass."""

    def __init__(self, gguf, threads, context, texts):
        import llama_cpp as api

        self.api = api
        api.llama_backend_init()
        self.quiet = api.llama_log_callback(lambda *_: None)
        api.llama_log_set(self.quiet, None)
        self.model = api.llama_model_load_from_file(gguf.encode(), api.llama_model_default_params())
        settings = api.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_seq_max = context * texts, 512, texts
        settings.n_threads = settings.n_threads_batch = threads
        self.context = api.llama_init_from_model(self.model, settings)
        self.vocab = api.llama_model_get_vocab(self.model)
        self.size = api.llama_vocab_n_tokens(self.vocab)
        self.batch = api.llama_batch_init(512, 0, 1)

    def tokenize(self, text):
        text = text.encode()
        tokens = (self.api.llama_token * (len(text) + 8))()
        return list(tokens[: self.api.llama_tokenize(self.vocab, text, len(text), tokens, len(tokens), False, False)])

    def decode(self, entries):
        for at, (token, position, sequence, wanted) in enumerate(entries):
            self.batch.token[at], self.batch.pos[at], self.batch.n_seq_id[at] = token, position, 1
            self.batch.seq_id[at][0], self.batch.logits[at] = sequence, wanted
        self.batch.n_tokens = len(entries)
        if self.api.llama_decode(self.context, self.batch) != 0:
            sys.exit("llama_decode failed")

    def greedy(self, row):
        import numpy

        return int(numpy.ctypeslib.as_array(self.api.llama_get_logits_ith(self.context, row), (self.size,)).argmax())

    def write(self, prompts, tokens):
        """The greedy texts, as tokens."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        texts, positions = [], []
        for sequence, prompt in enumerate(prompts):
            self.decode([(token, at, sequence, at + 1 == len(prompt)) for at, token in enumerate(prompt)])
            texts.append([self.greedy(len(prompt) - 1)])
            positions.append(len(prompt))
        for _ in range(tokens - 1):
            self.decode([(text[-1], positions[at], at, True) for at, text in enumerate(texts)])
            for at, text in enumerate(texts):
                text.append(self.greedy(at))
                positions[at] += 1
        return texts

    def tokens_per_s(self, prompts, tokens):
        prompts = [self.tokenize(prompt) for prompt in prompts]
        start = time.perf_counter()
        texts = self.write(prompts, tokens)
        return sum(len(text) for text in texts) / (time.perf_counter() - start)


class Transformers:
    """Hugging Face's own loop: texts of equal length in one batch, greedy, with its cache."""

    def __init__(self, folder, threads):
        import torch, transformers

        torch.set_num_threads(threads)
        self.torch = torch
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def tokens_per_s(self, prompts, tokens):
        texts = [self.tokenizer(prompt)["input_ids"] for prompt in prompts]
        shortest = min(map(len, texts))
        texts = self.torch.tensor([text[:shortest] for text in texts])
        start = time.perf_counter()
        with self.torch.inference_mode():
            written = self.model.generate(
                texts, attention_mask=self.torch.ones_like(texts), min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False
            )
        return (written.numel() - texts.numel()) / (time.perf_counter() - start)


def transformers_if_here(folder, threads):
    try:
        return {"transformers": Transformers(folder, threads)}
    except ImportError:
        return {}


def prompts_of(count, seed):
    """Different from each other and from round to round, so that no cache has them."""
    words = PROMPT.split()
    return [" ".join(random.Random(f"{seed} {at}").sample(words, len(words))) for at in range(count)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--zoo", default="target/release/zoo")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96, help="tokens of a text")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--ports", type=int, default=18080)
    options = parser.parse_args()
    most = max(options.streams)
    with tempfile.TemporaryDirectory() as folder:
        gguf = str(pathlib.Path(folder) / "model.gguf")
        subprocess.run([options.zoo, "export", options.model, "--gguf", gguf], check=True, stdout=subprocess.DEVNULL)
        threads = str(options.threads)
        batched = Batched(gguf, options.threads, 256, most)
        zoo = Server(
            [options.zoo, "serve", options.model, "--listen", f"127.0.0.1:{options.ports}", "--threads", threads, "--batch", str(most)],
            options.ports, {"ignore_eos": True},
        )
        llama = Server(
            [sys.executable, "-m", "llama_cpp.server", "--model", gguf, "--port", str(options.ports + 1), "--n_threads", threads,
             "--n_threads_batch", threads, "--n_ctx", "0", "--verbose", "false"],
            options.ports + 1, {},
        )
        servers = {"zoo": zoo, "llama server": llama}
        loops = {"llama batched": batched, **transformers_if_here(options.model, options.threads)}
        try:
            found = {}
            for round in range(options.rounds):
                for streams in options.streams:
                    prompts = prompts_of(streams, f"{round} {streams}")
                    for name, one in {**servers, **loops}.items():
                        speed = one.tokens_per_s(prompts, options.tokens)
                        found.setdefault(f"{name}, {streams} at a time, tokens/s", []).append(speed)
                for name, server in servers.items():
                    (prompt,) = prompts_of(1, f"first {round}")
                    found.setdefault(f"{name}, first token, ms", []).append(1000 * server.first_token(prompt))
            texts = {name: server.ask({"prompt": PROMPT, "max_tokens": 64, "temperature": 0})["choices"][0]["text"] for name, server in servers.items()}
        finally:
            [server.stop() for server in servers.values()]
    print(json.dumps({
        "threads": options.threads, "tokens": options.tokens, "rounds": options.rounds,
        "median": {name: round_to(statistics.median(values)) for name, values in found.items()},
        "all": {name: [round_to(value) for value in values] for name, values in found.items()},
        "same_greedy_text": texts["zoo"] == texts["llama server"],
    }, indent=1))


def round_to(value):
    return float(f"{value:.4g}")


if __name__ == "__main__":
    main()
