"""Kill upscaling and training at random moments, resume them, and compare every byte.

    python benchmarks/kill_campaign.py [--kills 100] [--seed 0] [--out FILE.json]

Images: a batch with a manifest is started, ended by SIGKILL after a random time, and started again
until it comes through; then another round begins. After each kill no output may exist under its
final name that isn't byte for byte that of an undisturbed run, and no input may have changed. After
each round all outputs are there and nothing else is: no hidden folder, no part of a file.

Training: the same with ``hspan train --resume auto``. After each kill every checkpoint loads; at
the end weights and log (but for times) are those of an undisturbed run.

Three quarters of the kills go to images. Each run is a fork of this process, which has loaded the
library already, so that kills hit the work and not the imports. Needs a system with fork.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import lightning as lightning  # loaded before any fork, as all of these
import numpy as np
import torch
from PIL import Image

from hspan.cli import main as hspan_main
from hspan.inference import Upscaler as Upscaler
from hspan.models import create_model
from hspan.training import train as train
from hspan.weights import save_model, weights_hash

TINY = (
    *("model.channels=4", "model.num_blocks=1", "model.attention_after=[]"),
    *("data.patch=8", "data.batch_size=2", "schedule.warmup=2", "training.max_steps=120"),
    *("training.precision=fp32", "training.accelerator=cpu"),
    *("logging.log_every=5", "logging.validate_every=40", "logging.save_every=10"),
)
TIMES = ("seconds", "images_per_second", "data_wait")  # columns of the log


def run(words: Sequence[str], kill_after: float | None) -> tuple[int | None, float]:
    """Exit status of ``hspan WORDS``, None if it was killed; and how long it ran."""
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            if kill_after is not None:
                os.dup2(nowhere.fileno(), 2)
        status = 70
        with contextlib.suppress(BaseException):
            torch.set_num_threads(1)
            status = hspan_main(list(words))
        os._exit(status)
    deadline = None if kill_after is None else begin + kill_after
    while True:
        pid, state = os.waitpid(child, 0 if deadline is None else os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(state), time.monotonic() - begin
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            _, state = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(state)
            return (None if code == -signal.SIGKILL else code), time.monotonic() - begin
        time.sleep(0.001)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make_images(folder: Path, count: int, size: int) -> None:
    rng = np.random.default_rng(0)
    kinds = ("png", "tif", "jpg", "webp", "16.png", "alpha.png")
    for i in range(count):
        shape = (size + i, size + 2 * i, 4 if i % 6 == 5 else 3)
        values = rng.integers(0, 256, shape, np.uint8)
        place = folder / f"{i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        if i % 6 == 4:
            image = Image.fromarray(values[:, :, 0].astype(np.uint16) * 257)
        else:
            image = Image.fromarray(values)
        image.save(place / f"{i}.{kinds[i % 6]}")


class ImageRounds:
    """Kills of upscaling, whole images and large ones in turn."""

    name = "images"

    def __init__(self, work: Path) -> None:
        self._work, self._in = work, work / "in"
        make_images(self._in, 18, 20)
        torch.manual_seed(0)
        network = create_model("hspan-light", channels=4, num_blocks=1, attention_after=())
        save_model(network, work / "tiny.safetensors", name="hspan-light")
        self._inputs = hashes(self._in)
        status, self.seconds = run(self._words("reference"), None)
        assert status == 0
        self._reference = hashes(work / "reference")
        assert len(self._reference) == 18

    def _words(self, out: str) -> list[str]:
        paths = ["upscale", str(self._in), "-r", "-o", str(self._work / out)]
        manifest = ["--manifest", str(self._work / f"{out}.jsonl")]
        return [*paths, *manifest, "-m", str(self._work / "tiny.safetensors"), "-t", "16"]

    def begin(self) -> list[str]:
        shutil.rmtree(self._work / "out", ignore_errors=True)
        (self._work / "out.jsonl").unlink(missing_ok=True)
        return self._words("out")

    def check(self, finished: bool) -> None:
        assert hashes(self._in) == self._inputs, "an input was touched"
        found = hashes(self._work / "out") if (self._work / "out").exists() else {}
        named = {k: v for k, v in found.items() if "/." not in f"/{k}"}
        wrong = [k for k, v in named.items() if self._reference.get(k) != v]
        assert not wrong, f"not what an undisturbed run writes: {wrong}"
        if finished:
            assert found == self._reference, sorted(found.keys() ^ self._reference.keys())
            folders = [p for p in (self._work / "out").rglob(".*")]
            assert not folders, folders


class TrainingRounds:
    """Kills of training."""

    name = "training"

    def __init__(self, work: Path) -> None:
        self._work, self._in = work, work / "images"
        rng = np.random.default_rng(1)
        self._in.mkdir()
        for i in range(3):
            values = rng.integers(0, 256, (32, 40, 3), np.uint8)
            Image.fromarray(values).save(self._in / f"{i}.png")
        self._inputs = hashes(self._in)
        status, self.seconds = run(self._words("reference"), None)
        assert status == 0
        self._reference = self._result("reference")

    def _words(self, out: str) -> list[str]:
        folders = [f"data.{key}={self._in}" for key in ("train", "validation")]
        cache = f"data.cache={self._work / f'cache-{out}'}"
        words = ["train", "hspan-light_x2", *TINY, *folders, cache]
        return [*words, "--out", str(self._work / out), "--resume", "auto"]

    def _result(self, out: str) -> tuple[str, list[dict[str, str]]]:
        folder = self._work / out
        with (folder / "log.csv").open(newline="") as file:
            rows = [{k: v for k, v in r.items() if k not in TIMES} for r in csv.DictReader(file)]
        return weights_hash(folder / "2x_hspan-light.safetensors"), rows

    def begin(self) -> list[str]:
        for name in ("out", "cache-out"):
            shutil.rmtree(self._work / name, ignore_errors=True)
        return self._words("out")

    def check(self, finished: bool) -> None:
        assert hashes(self._in) == self._inputs, "an input was touched"
        for path in (self._work / "out").glob("*.ckpt"):
            torch.load(path, map_location="cpu", weights_only=True)
        if finished:
            assert self._result("out") == self._reference, "resumed differs from undisturbed"


def campaign(
    rounds: ImageRounds | TrainingRounds, kills: int, draw: Callable[[], float]
) -> dict[str, object]:
    """Kill until there were ``kills`` of them and the last round is finished."""
    done = finished = 0
    moments: list[float] = []
    words = rounds.begin()
    while True:
        limit = draw() * rounds.seconds * 1.2 if done < kills else None
        status, seconds = run(words, limit)
        if status is None:
            done += 1
            moments.append(round(seconds, 3))
            rounds.check(finished=False)
            print(f"{rounds.name}: {done} kills, {finished} rounds", file=sys.stderr)
            continue
        assert status == 0, f"exit status {status}"
        rounds.check(finished=True)
        finished += 1
        if done >= kills:
            break
        words = rounds.begin()
    return {
        "kills": done,
        "rounds_finished_equal": finished,
        "undisturbed_seconds": round(rounds.seconds, 3),
        "killed_after_seconds": moments,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    report: dict[str, object] = {"seed": options.seed}
    for kind, share in ((ImageRounds, 3), (TrainingRounds, 1)):
        with tempfile.TemporaryDirectory() as work:
            rounds = kind(Path(work))
            report[rounds.name] = campaign(rounds, -(-options.kills * share // 4), chance.random)
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
