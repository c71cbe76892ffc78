"""Scores a trained file on the benchmarks and puts it into the package.

    python benchmarks/ship_weights.py RUN/2x_hspan-light.safetensors --data Set5 Set14 B100 Urban100

Stores the weights in float16 under src/hspan/pretrained/, with the scores of exactly what is stored
in their metadata. The evaluations, without and with the self-ensemble, and the run's settings go to
benchmarks/results/NAME.json, its log to NAME.log1.csv beside it. Where earlier runs of the same
scale led to it, they come first: each is given by its file of weights, with its log beside that;
or, if the run began with the weights that are in the package, by --continues.
--mean-with averages the weights with those of earlier runs, which needs --chosen-by: the sets whose
scores spoke for it. The card then says so.
benchmarks/results_page.py turns these files into the model card and docs/results.md.
"""

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hspan import load_model, save_model
from hspan.evaluation import Evaluation, evaluate
from hspan.models import config_dict
from hspan.weights._container import read_metadata

ROOT = Path(__file__).parents[1]
PRETRAINED = ROOT / "src" / "hspan" / "pretrained"
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", nargs="+", required=True, help="folders to score")
    parser.add_argument("--ensemble", nargs="*", default=[], help="to score with self-ensemble")
    parser.add_argument("--after", nargs="*", default=[], type=Path, help="earlier runs' weights")
    parser.add_argument(
        "--continues", action="store_true", help="the runs of the file that is replaced come first"
    )
    parser.add_argument(
        "--mean-with", nargs="*", default=[], type=Path, help="earlier weights to average with"
    )
    parser.add_argument(
        "--chosen-by", nargs="*", default=[], help="sets on which the mean was found to be better"
    )
    parser.add_argument(
        "--remark",
        nargs=2,
        action="append",
        default=[],
        metavar=("RUN", "TEXT"),
        help="what the settings don't tell about a run; 1 is the first",
    )
    args = parser.parse_args()
    if args.mean_with and not args.chosen_by:
        parser.error("--mean-with needs --chosen-by: which sets' scores spoke for the mean?")
    metadata = read_metadata(args.weights)
    name = metadata["hspan.model"]
    provenance = json.loads(metadata["hspan.provenance"])
    kind = provenance["recipe"]["data"]["kind"]
    target = PRETRAINED / args.weights.name
    RESULTS.mkdir(parents=True, exist_ok=True)

    model = mean_of([args.weights, *args.mean_with])
    save_model(model, target, name=name, metadata=provenance, dtype=torch.float16)
    stored = load_model(target)
    scale = config_dict(stored)["scale"]
    result = evaluate(stored, args.data, scale=scale, kind=kind, precision="fp32")
    scores = {d.name: {"psnr": round(d.psnr, 3), "ssim": round(d.ssim, 4)} for d in result.datasets}
    details = {**provenance, "scores": scores, "protocol": asdict(result.protocol)}
    save_model(stored, target, name=name, metadata=details, dtype=torch.float16)

    runs = (
        json.loads((RESULTS / f"{target.stem}.json").read_text())["runs"] if args.continues else []
    )
    logged = len(runs)
    runs += [json.loads(read_metadata(file)["hspan.provenance"]) for file in args.after]
    runs.append(provenance)
    for number, text in args.remark:
        runs[int(number) - 1]["remark"] = text
    record: dict[str, Any] = {"runs": runs, "evaluation": portable(result)}
    if args.mean_with:
        record["mean_of"] = 1 + len(args.mean_with)
        record["mean_chosen_by"] = args.chosen_by
    for number, file in enumerate((*args.after, args.weights), logged + 1):
        shutil.copyfile(file.with_name("log.csv"), RESULTS / f"{target.stem}.log{number}.csv")
    if args.ensemble:
        record["ensemble"] = portable(
            evaluate(stored, args.ensemble, scale=scale, kind=kind, precision="fp32", ensemble=True)
        )
    (RESULTS / f"{target.stem}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(scores, indent=1))


def mean_of(files: list[Path]) -> nn.Module:
    """The network whose weights are the mean of several files', which runs of one line left."""
    models = [load_model(file) for file in files]
    states = [model.state_dict() for model in models]
    means = {key: torch.stack([state[key] for state in states]).mean(0) for key in states[0]}
    models[0].load_state_dict(means)
    return models[0]


def portable(result: Evaluation) -> dict[str, Any]:
    """What `hspan eval --json` writes, without this machine's folders."""
    record = result.to_json()
    for dataset in record["datasets"]:
        dataset["folder"] = dataset["name"]
    return record


if __name__ == "__main__":
    main()
