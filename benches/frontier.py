#!/usr/bin/env python3
"""Loss against traffic: what synchronisations of eight replicas cost, in held-out loss and in bits on the wire.

    cargo build --release
    python3 benches/frontier.py --out DIR --data shakespeare=FILE packages= [--seeds 1 2 3] [--steps 900]
    python3 benches/frontier.py --out DIR --draw docs/frontier

Every row trains the shape S with the batch of eight replicas over as many steps (so over as many tokens): an f32 all-reduce after
every step (`zoo train` with the whole batch), and rounds of H steps with dense or sparse updates (`zoo bench codec`, which counts
the bytes on its sockets), with AdamW and Muon, with and without a synchronous warm-up, from scratch and from a model that was
trained for a thousand steps on the same text, without what is held out. A row that was measured is in DIR/rows.jsonl and is not measured again, so the script
can be stopped and started; rows that matter most come first. --draw makes a figure for every text and start, and a table.
"""
import argparse, collections, itertools, json, math, pathlib, statistics, subprocess

HERE = pathlib.Path(__file__).resolve().parent
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--out", type=pathlib.Path, required=True, help="folder of runs and rows")
ap.add_argument("--data", nargs="*", default=[], metavar="NAME=FILE", help="texts; without a file, the packages that cargo has here")
ap.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
ap.add_argument("--steps", type=int, default=900)
ap.add_argument("--replicas", type=int, default=8)
ap.add_argument("--preset", default="bench-s")
ap.add_argument("--zoo", default=str(HERE.parent / "target" / "release" / "zoo"))
ap.add_argument("--draw", type=pathlib.Path, help="write PREFIX-TEXT-START.svg and PREFIX.md from the rows, and stop")
a = ap.parse_args()
ROWS = a.out / "rows.jsonl"
Row = collections.namedtuple("Row", "text start sync steps_a_round optimizer warmup seed")
DENSE_BITS = 32.0


def rows():
    """Everything that is measured, what matters most first."""
    texts = [name for name, _ in texts_given()]
    core = [("all-reduce", 1, "adamw", 0)]
    core += [(sync, h, "adamw", 0) for h in (10, 1, 30, 3, 100) for sync in ("sparse", "dense")]
    more = [("all-reduce", 1, "muon", 0)]
    more += [(sync, h, "muon", 0) for h in (10, 1, 30, 3, 100) for sync in ("sparse", "dense")]
    warm = [(sync, h, optimizer, a.steps // 9) for optimizer in ("adamw", "muon") for h in (10, 30, 100) for sync in ("sparse", "dense")]
    for part in (core, warm[:6], more, warm[6:]):
        for seed, start, text, row in itertools.product(a.seeds, ("scratch", "trained"), texts, part):
            yield Row(text, start, *row, seed)


def texts_given():
    return [tuple(given.split("=", 1)) for given in a.data]


def measured():
    return {Row(*row["key"]): row for row in map(json.loads, ROWS.read_text().splitlines())} if ROWS.exists() else {}


def keys(row, rate=1e-3):
    """What every run of a row is told, however it synchronises."""
    least = rate / 10
    schedule = f"{{type: cosine, learning_rate: {rate}, minimum_learning_rate: {least}, warmup_steps: 50, decay_steps: {a.steps}}}"
    optimizer = {"adamw": "{type: adamw, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1}", "muon": "{type: muon}"}[row.optimizer]
    return [f"training.seed={row.seed}", f"training.schedule={schedule}", f"training.optimizer={optimizer}",
            "training.clip=1.0", "training.profile=bf16-exact"]


def options(settings):
    return [word for setting in settings for word in ("--set", setting)]


def of_text(row):
    path = dict(texts_given())[row.text]
    return ["--data", path] if path else []


def start_of(row):
    """The model that a row starts from: trained once for every text and seed."""
    if row.start == "scratch":
        return []
    out = a.out / f"start-{row.text}-{row.seed}"
    if not (out / "model").exists():
        # The seed also says what is held out: with another one the start would have seen it.
        settings = [f"training.seed={row.seed}", f"training.batch_sequences={12 * a.replicas}", "training.profile=bf16-exact",
                    "training.schedule={type: constant, learning_rate: 1e-3, warmup_steps: 50}", "training.clip=1.0", "evaluate_every=0"]
        run(["train", "--preset", a.preset, "--steps", "1000", "--out", str(out), "--resume", *of_text(row), *options(settings)])
    return ["--from", str(out)]


def run(words):
    done = subprocess.run([a.zoo, *words, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(row):
    """Held-out loss in nats a token, and bits that a replica sends a parameter and step."""
    common = ["--preset", a.preset, "--steps", str(a.steps), *of_text(row), *start_of(row)]
    if row.sync == "all-reduce":
        out = a.out / ("-".join(map(str, row)))
        settings = [*keys(row), f"training.batch_sequences={12 * a.replicas}", "evaluate_every=0", "checkpoint_every=0"]
        done = run(["train", *common, "--out", str(out), "--resume", *options(settings)])
        return {"loss": done["val_loss"], "bits": DENSE_BITS}
    settings = [*keys(row), f"training.update.type={row.sync}", f"rounds.inner_steps={row.steps_a_round}", f"rounds.warmup_steps={row.warmup}"]
    done = run(["bench", "codec", "--replicas", str(a.replicas), *common, *options(settings)])
    assert done["exact"], row
    return {"loss": done["val_loss"], "bits": done["upload_bits_per_parameter_per_inner_step"]}


def draw(prefix):
    """A figure for every text and start, and one table: the mean over seeds, and how far apart they are."""
    groups = collections.defaultdict(list)
    for row, found in measured().items():
        groups[row._replace(seed=0)].append(found)
    means = {row: (statistics.mean(f["loss"] for f in found), statistics.mean(f["bits"] for f in found),
                   max(f["loss"] for f in found) - min(f["loss"] for f in found), len(found)) for row, found in groups.items()}
    lines = ["| text | start | optimiser | synchronisation | H | warm-up | bits up | loss | of the all-reduce | between seeds | seeds |", "|" + "---|" * 11]
    for row in sorted(means, key=lambda row: (row.text, row.start, row.optimizer, row.sync, row.warmup, row.steps_a_round)):
        loss, bits, spread, count = means[row]
        reference = means.get(row._replace(sync="all-reduce", steps_a_round=1, optimizer="adamw", warmup=0))
        against = f"{loss / reference[0] - 1:+.1%}" if reference else ""
        lines.append(f"| {row.text} | {row.start} | {row.optimizer} | {row.sync} | {row.steps_a_round} | {row.warmup} | {bits:.3g} | {loss:.4f} | {against} | {spread:.4f} | {count} |")
    pathlib.Path(f"{prefix}.md").write_text("\n".join(lines) + "\n")
    for text, start in sorted({(row.text, row.start) for row in means}):
        chosen = {row: mean for row, mean in means.items() if (row.text, row.start) == (text, start)}
        pathlib.Path(f"{prefix}-{text}-{start}.svg").write_text(figure(f"{text}, {start}", chosen))


def figure(title, means):
    """Loss over bits, a line for every optimiser, update and warm-up; plain SVG, readable in light and dark."""
    width, height, left, top, right, bottom = 760, 420, 64, 40, 210, 48
    losses = [loss for loss, *_ in means.values()]
    low, high = min(losses) - 0.01, max(losses) + 0.01
    first, last = math.floor(math.log10(min(bits for _, bits, *_ in means.values()))), 2
    x = lambda bits: left + (math.log10(bits) - first) / (last - first) * (width - left - right)
    y = lambda loss: height - bottom - (loss - low) / (high - low) * (height - top - bottom)
    colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#6a3d9a", "#b15928", "#1b9e77"]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" role="img" aria-label="{title}">',
             "<style>text{fill:#333}.axis{stroke:#999}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>",
             f'<text x="{left}" y="20" font-size="14">Held-out loss against traffic: {title}</text>']
    for power in range(first, last + 1):
        at = x(10 ** power)
        parts += [f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{height - bottom}" stroke-opacity="0.3"/>',
                  f'<text x="{at:.1f}" y="{height - bottom + 16}" text-anchor="middle">{10 ** power:g}</text>']
    for tick in range(6):
        loss = low + (high - low) * tick / 5
        parts += [f'<line class="axis" x1="{left}" x2="{width - right}" y1="{y(loss):.1f}" y2="{y(loss):.1f}" stroke-opacity="0.3"/>',
                  f'<text x="{left - 6}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.3f}</text>']
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 10}" text-anchor="middle">bits sent per parameter and inner step</text>')
    lines = collections.defaultdict(list)
    for row, (loss, bits, *_) in means.items():
        lines[(row.optimizer, row.sync, row.warmup > 0)].append((bits, loss, row.steps_a_round))
    for number, ((optimizer, sync, warm), points) in enumerate(sorted(lines.items())):
        colour, name = colours[number % len(colours)], f"{optimizer} {sync}" + (", warm-up" if warm else "")
        points.sort()
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(f"{x(b):.1f},{y(l):.1f}" for b, l, _ in points)}"/>')
        for bits, loss, h in points:
            parts.append(f'<circle cx="{x(bits):.1f}" cy="{y(loss):.1f}" r="3.5" fill="{colour}"><title>{name}, H = {h}: {loss:.4f} at {bits:.3g} bits</title></circle>')
        at = top + 18 * number + 8
        parts.append(f'<circle cx="{width - right + 20}" cy="{at}" r="4" fill="{colour}"/><text x="{width - right + 30}" y="{at + 4}">{name}</text>')
    return "\n".join(parts) + "\n</svg>\n"


if a.draw:
    draw(a.draw)
else:
    a.out.mkdir(parents=True, exist_ok=True)
    for row in rows():
        if row not in measured():
            found = measure(row)
            print(*row, f"loss {found['loss']:.4f} bits {found['bits']:.5f}", flush=True)
            with ROWS.open("a") as file:
                file.write(json.dumps({"key": row, **found}) + "\n")
