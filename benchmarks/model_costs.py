"""Counts and measures what `hspan models` prints: parameters, multiply-adds, receptive fields.

    python benchmarks/model_costs.py [NAME...]

Writes src/hspan/evaluation/measured/models.json; with names, only their entries change. Parameters
and multiply-adds are counted without computing anything; receptive fields are measured on the
networks themselves, which takes about a minute for the largest.
"""

import argparse
import json
import time
from pathlib import Path

from hspan.evaluation import costs_to_json, measure_costs
from hspan.models import list_models

FILE = Path(__file__).parents[1] / "src/hspan/evaluation/measured/models.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list_models())
    arguments = parser.parse_args()
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name in arguments.names:
        start = time.perf_counter()
        known[name] = costs_to_json(measure_costs(name))
        fields = {scale: cost["receptive_field"] for scale, cost in known[name].items()}
        print(f"{name}: {fields} ({time.perf_counter() - start:.0f} s)", flush=True)
        ordered = {name: known[name] for name in list_models() if name in known}
        FILE.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
