#!/usr/bin/env python3
"""Checks that the official `openai` client and `lm-evaluation-harness` work with `zoo serve`, unmodified.

    pip install openai "lm-eval[api]" accelerate torch transformers
    python tests/serving/check.py --zoo target/release/zoo MODEL [--text FILE]

MODEL is a folder that `zoo train` or `zoo fetch` exported, of the profile f32-exact. The harness scores it twice on tasks that are made here
(no download): over `local-completions` against `zoo serve`, and with `transformers` from the same folder. The scores
must agree to 4 decimals. Answers are executed again with `zoo serve check`, a changed one must be found out.

Prints one JSON object; exits with 1 unless everything is as it should be.
"""
import argparse, contextlib, json, os, pathlib, random, subprocess, sys, tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
PLACES = 4
SENTENCES = (
    "the king went out to see the people and the people did not see the king . "
    "what do you say to me , my lord ? I say that the night is long and the day is short . "
    "give me your hand and we shall go to the sea before the sun is down . "
    "fn main() { let name = String::new(); println!(\"{name}\"); } // nothing else is here\n"
)


@contextlib.contextmanager
def serving(zoo, model):
    command = [zoo, "serve", model, "--listen", "127.0.0.1:0", "--json", "--exit-with-stdin", "--name", "served"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        if not line:
            sys.exit("zoo serve did not start")
        yield json.loads(line)
        process.stdin.close()


def client_checks(address, zoo, model):
    """What the official client must see."""
    import openai

    client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0)
    name = client.models.list().data[0].id
    ask = dict(model=name, prompt="the king", max_tokens=24, seed=5, temperature=0.9)
    whole = client.completions.create(**ask, logprobs=2, n=2)
    checks = {
        "repeats": client.completions.create(**ask, logprobs=2, n=2).choices == whole.choices,
        "logprobs": len(whole.choices[0].logprobs.token_logprobs) == whole.zoo["choices"][0]["tokens"].__len__(),
        "usage": whole.usage.completion_tokens == sum(len(it["tokens"]) for it in whole.zoo["choices"]),
    }
    pieces = list(client.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    joined = "".join(piece.choices[0].text for piece in pieces if piece.choices)
    checks["streamed_completion"] = joined == whole.choices[0].text and pieces[-1].usage is not None
    talk = dict(model=name, messages=[{"role": "user", "content": "who is there?"}], max_tokens=24, seed=5)
    said = client.chat.completions.create(**talk, logprobs=True, top_logprobs=3)
    checks["conversation"] = said.choices[0].message.role == "assistant"
    checks["conversation_logprobs"] = all(len(it.top_logprobs) == 3 for it in said.choices[0].logprobs.content)
    pieces = list(client.chat.completions.create(**talk, stream=True))
    joined = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    checks["streamed_conversation"] = joined == said.choices[0].message.content
    echo = client.completions.create(model=name, prompt="the king", max_tokens=0, echo=True, logprobs=0)
    checks["echo"] = echo.choices[0].text == "the king" and echo.choices[0].logprobs.token_logprobs[0] is None
    try:
        client.completions.create(model="another", prompt="a")
        checks["refusal"] = False
    except openai.NotFoundError as error:
        checks["refusal"] = error.code == "model_not_found"

    def executed_again(answer):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(answer, file)
            file.flush()
            command = [zoo, "serve", "check", file.name, "--model", model, "--json"]
            return subprocess.run(command, capture_output=True, text=True)

    answer = json.loads(whole.model_dump_json())
    again = executed_again(answer)
    checks["check"] = again.returncode == 0 and json.loads(again.stdout)["same"] is True
    tokens = answer["zoo"]["choices"][1]["tokens"]
    tokens[3] = (tokens[3] + 1) % 250
    again = executed_again(answer)
    first = json.loads(again.stdout).get("first", {})
    checks["check_finds"] = again.returncode == 1 and (first.get("choice"), first.get("at")) == (1, 3)
    return checks


def make_tasks(folder, text, context_bytes):
    """A multiple choice with one right end of four, a text to predict, and one to generate; all from `text`."""
    draw = random.Random(1)
    cut = lambda: draw.randrange(len(text) - context_bytes)
    (folder / "choice.jsonl").write_text("".join(
        json.dumps({"start": text[at : at + 60], "ends": [text[o + 60 : o + 80] for o in [at, *(cut() for _ in range(3))]]}) + "\n"
        for at in (cut() for _ in range(40))
    ))
    (folder / "rolling.jsonl").write_text("".join(json.dumps({"text": text[at : at + 3 * context_bytes]}) + "\n" for at in (cut() for _ in range(6))))
    data = lambda name: f"""
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder / name}}}}}
test_split: test
"""
    (folder / "choice.yaml").write_text(f"""task: zoo_choice
{data("choice.jsonl")}
output_type: multiple_choice
doc_to_text: "{{{{start}}}}"
doc_to_choice: "{{{{ends}}}}"
doc_to_target: 0
target_delimiter: ""
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
""")
    (folder / "rolling.yaml").write_text(f"""task: zoo_rolling
{data("rolling.jsonl")}
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}, {{metric: byte_perplexity}}]
""")
    (folder / "write.yaml").write_text(f"""task: zoo_write
{data("choice.jsonl")}
output_type: generate_until
doc_to_text: "{{{{start}}}}"
doc_to_target: "{{{{ends[0]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 16, do_sample: false, temperature: 0}}
metric_list: [{{metric: exact_match}}]
""")


def scores(model, arguments, tasks, folder):
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    result = lm_eval.simple_evaluate(
        model=model, model_args=arguments, tasks=tasks, task_manager=manager, batch_size=1, log_samples=True, bootstrap_iters=0
    )
    numbers = {
        f"{task} {metric.split(',')[0]}": value
        for task, metrics in result["results"].items()
        for metric, value in metrics.items()
        if isinstance(value, float) and "stderr" not in metric
    }
    written = [sample["resps"][0][0] for sample in result["samples"].get("zoo_write", [])]
    return numbers, written


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--zoo", default="target/release/zoo")
    parser.add_argument("--text", help="a text to make the tasks from")
    options = parser.parse_args()
    text = pathlib.Path(options.text).read_text() if options.text else SENTENCES * 40
    # transformers reads a folder of a model, not of a run.
    model = pathlib.Path(options.model)
    model = model if (model / "config.json").exists() else model / "model"
    config = json.loads((model / "config.json").read_text())
    if config.get("zoo_numeric_profile", "f32-exact") != "f32-exact":
        sys.exit("the model computes in bf16, and transformers would not\nhint: give one that was trained with --profile f32-exact")
    context = config.get("max_position_embeddings") or config["n_positions"]
    has_end = json.loads((model / "tokenizer_config.json").read_text()).get("eos_token") is not None
    # What a text starts with where there is no token that ends one: a line break, which the byte tokenizer knows as 10.
    start = {} if has_end else {"served": {"custom_prefix_token_id": 10}, "loaded": {"prefix_token_id": 10}}
    # With transformers the harness cannot generate at all without such a token.
    tasks = ["zoo_choice", "zoo_rolling"] + (["zoo_write"] if has_end else [])
    with tempfile.TemporaryDirectory() as folder, serving(options.zoo, str(model)) as served:
        folder, address = pathlib.Path(folder), served["address"]
        checks = client_checks(address, options.zoo, str(model))
        make_tasks(folder, text, context)
        served_arguments = dict(
            model="served", base_url=f"http://{address}/v1/completions", tokenizer_backend="remote" if has_end else "huggingface",
            tokenizer=str(model), max_length=context, num_concurrent=1, **start.get("served", {}),
        )
        ours, written = scores("local-completions", served_arguments, tasks, folder)
        # Over an API the harness leaves two positions of the context free; both must cut a long text alike.
        loaded = dict(pretrained=str(model), dtype="float32", device="cpu", max_length=context - 2, **start.get("loaded", {}))
        theirs, expected = scores("hf", loaded, tasks, folder)
    checks["scores"] = ours.keys() == theirs.keys() and all(round(ours[it] - theirs[it], PLACES) == 0 for it in ours)
    checks["written"] = written == expected
    print(json.dumps({"served": ours, "transformers": theirs, **checks, "equal": all(checks.values())}, indent=1))
    sys.exit(0 if all(checks.values()) else 1)


if __name__ == "__main__":
    main()
