"""Peak memory of one run in a process of its own.

It loads torch and the inputs, runs once on a few tokens (libraries, threads and their buffers), and
then once on all.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hspan.evaluation._process_memory import in_fresh_process, peak_of
from hspan.evaluation.bench_attention._features import Features
from hspan.evaluation.bench_attention._methods import METHODS, Direction
from hspan.evaluation.bench_attention._workload import Workload

_WARM_TOKENS = 64


def peak_memory(name: str, features: Features, direction: Direction, threads: int) -> int:
    """Measure the bytes that a method needs beside its inputs, its output among them.

    Args:
        name: of the method, a key of METHODS.
        features: its input.
        direction: what is computed.
        threads: of the fresh process.

    Raises:
        InputError: the process failed, as for want of memory, or this system can't say how much a
            process held.
    """
    with tempfile.TemporaryDirectory(prefix="hspan-bench-") as folder:
        for part in ("query", "key", "value"):
            np.save(Path(folder) / f"{part}.npy", getattr(features, part).numpy())
        task = {
            "method": name,
            "direction": direction,
            "threads": threads,
            "width": features.width,
            "folder": folder,
        }
        return int(in_fresh_process(__name__, task, name)["bytes"])


def main() -> None:
    """Run in the fresh process: a task as JSON on stdin, the measured bytes as JSON on stdout."""
    task = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    folder = Path(task["folder"])
    query, key, value = (
        torch.from_numpy(np.load(folder / f"{part}.npy")) for part in ("query", "key", "value")
    )
    features = Features(
        query=query,
        key=key,
        value=value,
        width=task["width"],
        scale=1.0,
        support=0.0,
        support_queries=0,
        source="",
    )
    few = replace(
        features,
        query=query[:, :_WARM_TOKENS].contiguous(),
        key=key[:, :_WARM_TOKENS].contiguous(),
        value=value[:, :_WARM_TOKENS].contiguous(),
        width=None,
    )
    method = METHODS[task["method"]]
    Workload(method, few, task["direction"]).run()
    work = Workload(method, features, task["direction"])
    print(json.dumps({"bytes": peak_of(work.run)}))
