"""Writes docs/results.md, the model cards and their curves from what was measured, never by hand.

    python benchmarks/results_page.py             # write them
    python benchmarks/results_page.py --check     # say whether they are as they would be written

Reads benchmarks/results/: ``NAME.json`` of every weight in the package, and ``NAME.log1.csv`` and
so on of the runs that led to it, which benchmarks/ship_weights.py writes, and
``Sx_bicubic[_BD].json`` of ``hspan eval -m bicubic --json``.
"""

import argparse
import csv
import json
import textwrap
from pathlib import Path
from string import Template
from typing import Any

from hspan.evaluation import published_rows
from hspan.models import create_model
from hspan.training import load_recipe
from hspan.weights import ShippedWeight, shipped_weights

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
FIGURES = ROOT / "docs" / "figures"
SETS = ("Set5", "Set14", "B100", "Urban100")
# Published rows that stand beside ours: what a reader knows, from the smallest to the best.
PUBLISHED = {
    "BI": ("FSRCNN", "VDSR", "MemNet", "SRMDNF", "EDSR", "RCAN", "HSPAN"),
    "BD": ("FSRCNN", "VDSR", "IRCNN", "SRMDNF", "RDN", "RCAN", "HSPAN"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on differences")
    args = parser.parse_args()
    texts = pages()
    if args.check:
        stale = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
        raise SystemExit("\n".join(f"{path} isn't up to date" for path in stale))
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    for weight in shipped_weights().values():
        draw_curve(weight, FIGURES / f"training_{weight.name}.svg")


def pages() -> dict[Path, str]:
    """Every page by its file."""
    weights = shipped_weights().values()
    cards = {
        weight.path.with_suffix(".md"): card(weight, record(weight.name)) for weight in weights
    }
    return {PAGE: results(list(weights)), **cards}


def record(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def bicubic(scale: int, kind: str) -> dict[str, Any]:
    return record(f"{scale}x_bicubic" + ("_BD" if kind == "BD" else ""))


def cells(evaluation: dict[str, Any]) -> list[str]:
    """PSNR / SSIM on the four sets, a dash where one wasn't scored."""
    sets = {d["name"]: f"{d['psnr']:.2f} / {d['ssim']:.4f}" for d in evaluation["datasets"]}
    return [sets.get(name, "–") for name in SETS]


def template(name: str) -> Template:
    return Template((ROOT / "benchmarks" / "templates" / name).read_text(encoding="utf-8"))


def row(*values: str) -> str:
    return "| " + " | ".join(values) + " |"


def results(weights: list[ShippedWeight]) -> str:
    """docs/results.md."""
    parts = [template("results.md").template]
    for weight in sorted(weights, key=lambda w: (w.kind, w.scale)):
        measured = record(weight.name)
        lines = [
            row("", "parameters", *SETS),
            row("---", "---", *["---"] * len(SETS)),
            row("bicubic, measured", "–", *cells(bicubic(weight.scale, weight.kind))),
            row(f"**{weight.name}**", parameters(weight), *cells(measured["evaluation"])),
        ]
        if "ensemble" in measured:
            name = f"{weight.name}, ×8 self-ensemble"
            lines.append(row(name, parameters(weight), *cells(measured["ensemble"])))
        for published in published_rows(weight.scale, weight.kind):
            if published.method in PUBLISHED[weight.kind]:
                scores = [published.score(name) for name in SETS]
                shown = [
                    "–" if s is None or s.psnr is None else f"{s.psnr:.2f} / {s.ssim:.4f}"
                    for s in scores
                ]
                lines.append(row(f"{published.method}, published", "", *shown))
        versions = measured["evaluation"]["protocol"]["versions"]
        parts.append(
            f"## ×{weight.scale} {weight.kind}\n\n"
            + "\n".join(lines)
            + f"\n\n`{weight.hash}`, {weight.provenance['date']}; scored with {versions}. "
            f"Model card: `src/hspan/pretrained/{weight.name}.md`; every image: "
            f"`benchmarks/results/{weight.name}.json`.\n"
        )
    return "\n".join(parts)


def parameters(weight: ShippedWeight) -> str:
    model = create_model(weight.model, **weight.config)
    return f"{sum(p.numel() for p in model.parameters()):,}"


def card(weight: ShippedWeight, measured: dict[str, Any]) -> str:
    """The model card of one weight."""
    made, config = weight.provenance, weight.config
    scores = [
        row("", *SETS),
        row("---", *["---"] * len(SETS)),
        row("this file", *cells(measured["evaluation"])),
    ]
    if "ensemble" in measured:
        scores.append(row("×8 self-ensemble", *cells(measured["ensemble"])))
    scores.append(row("bicubic", *cells(bicubic(weight.scale, weight.kind))))
    degradation = {
        "BI": "photographs reduced by bicubic interpolation (BI)",
        "BD": "photographs blurred by a Gaussian (7×7, σ 1.6) and decimated (BD)",
    }[weight.kind]
    runs = [training(run, number) for number, run in enumerate(measured["runs"], 1)]
    return template("model_card.md").substitute(
        title=f"{weight.model} ×{weight.scale}, {weight.kind}",
        file=weight.path.name,
        megabytes=f"{weight.bytes / 1e6:.2f}",
        blocks=config["num_blocks"],
        channels=config["channels"],
        patch=config["patch"],
        parameters=parameters(weight),
        degradation=f"{degradation}, ×{weight.scale}",
        border=weight.scale,
        scores="\n".join(scores),
        name=weight.name,
        training="\n\n".join(runs),
        # An image counts once for each of its sizes in the provenance, once here.
        images=f"{made['images'] // len(made['recipe']['data'].get('sizes', [1])):,}",
        data_hash=made["data_sha256"][:12],
        circumstances=textwrap.fill(circumstances(made["date"], measured), 120),
    )


def circumstances(date: str, measured: dict[str, Any]) -> str:
    """When a file was made, and whether scores had a say in which weights it holds."""
    sentence = f"The cores were shared with other programs; finished on {date}. "
    if "mean_of" in measured:
        return sentence + (
            f"The file holds the mean of the weights that the last {measured['mean_of']} runs "
            f"left. {', '.join(measured['mean_chosen_by'])} had a say in that: there, the mean is "
            "better than any of them."
        )
    return sentence + "Set5 was looked at now and then; the last weights are shipped."


def training(run: dict[str, Any], number: int) -> str:
    """One run of those that led to a file: its command, and what that does.

    Args:
        run: its provenance.
        number: 1 is the first.
    """
    recipe = run["recipe"]
    settings, data, schedule = recipe["training"], recipe["data"], recipe["schedule"]
    optimizer = recipe["optimizer"]
    ending = (
        f"constant, with a line to 0 over the last {schedule['descent']:,} steps"
        if schedule["name"] == "trapezoid"
        else "cosine decay to 0"
    )
    rates = (
        f"Muon at {optimizer['matrix_lr']:g} for the inner convolutions and Adam at "
        f"{optimizer['lr']:g} for the rest"
        if optimizer.get("name") == "muon"
        else f"Adam at {optimizer['lr']:g}"
    )
    start, candidates = settings["init_from"], data.get("candidates", 1)
    smaller = [f"{size:g}" for size in data.get("sizes", [1]) if size < 1]
    before = f"averaged weights `{start}`" + (" as they then stood" if number > 1 else "")
    text = template("training_run.md").substitute(
        start=f"from the {before}" if start else "from random weights",
        steps=f"{run['steps']:,}",
        batch=data["batch_size"],
        side=data["patch"],
        candidates=f", each the most detailed of {candidates}" if candidates > 1 else "",
        sizes=f" from images in their size and at {' and '.join(smaller)} of it" if smaller else "",
        loss={"l1": "L1", "mse": "MSE"}[settings.get("loss", "l1")],
        rates=rates,
        warmup=schedule["warmup"],
        ending=ending,
        clip=optimizer["clip"],
        precision=settings["precision"],
        seed=settings["seed"],
        ema=settings["ema"],
        hours=f"{run['seconds'] / 3600:.1f}",
        device=run["device"],
        remark=run.get("remark", ""),
    )
    return f"    {command(recipe)}\n\n{textwrap.fill(text, 120, break_on_hyphens=False)}"


def command(recipe: dict[str, Any]) -> str:
    """The call that trains so today: the packaged recipe, and what differs from it."""
    words = ["hspan train", recipe["name"], "data.train=TRAIN data.validation=Set5"]
    # Through JSON as the recorded one, which turns tuples into lists.
    packaged = json.loads(json.dumps(load_recipe(recipe["name"]).as_dict()))
    for table, settings in recipe.items():
        if table in ("name", "logging"):  # changes nothing about the weights
            continue
        for key, value in settings.items():
            its_own = key not in ("train", "validation", "cache")
            if its_own and value is not None and value != packaged[table].get(key):
                plain = ",".join(f"{v:g}" for v in value) if isinstance(value, list) else value
                words.append(f"{table}.{key}={plain}")
    return " ".join(words)


def draw_curve(weight: ShippedWeight, path: Path) -> None:
    """Loss and Set5's PSNR over the steps."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "hspan"  # the same drawing is the same file
    import matplotlib.pyplot as plt

    rows: list[dict[str, str]] = []
    for number, _ in enumerate(record(weight.name)["runs"], 1):
        with (RESULTS / f"{weight.name}.log{number}.csv").open(encoding="utf-8") as lines:
            begin = int(rows[-1]["step"]) if rows else 0
            rows += [r | {"step": str(begin + int(r["step"]))} for r in csv.DictReader(lines)]
    losses = [(int(r["step"]), float(r["loss"])) for r in rows if r["loss"]]
    scores = [(int(r["step"]), float(r["psnr"])) for r in rows if r["psnr"]]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    steps, values = zip(*losses, strict=True)
    left.plot(steps, values, linewidth=0.5, color="0.75")
    left.plot(steps[19:], means(values, 20), linewidth=1.2, color="C0")
    left.set(xlabel="step", ylabel="loss", yscale="log", title=f"{weight.name}: training")
    right.plot(*zip(*scores, strict=True), marker="o", markersize=3, color="C1")
    right.set(xlabel="step", ylabel="PSNR (dB), averaged weights", title="Set5")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def means(values: tuple[float, ...], count: int) -> list[float]:
    return [sum(values[i - count : i]) / count for i in range(count, len(values) + 1)]


if __name__ == "__main__":
    main()
