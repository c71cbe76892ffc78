"""Coverage-guided fuzzing of whatever reads files of strangers: images, checkpoints, recipes.

    python benchmarks/fuzz/campaign.py images corpus/ -runs=400000
    python benchmarks/fuzz/campaign.py checkpoints corpus/ -runs=200000
    python benchmarks/fuzz/campaign.py recipes corpus/ -runs=600000

needs ``pip install atheris``. The first words are the target and the folder of the corpus, which
gets small valid files to start from (``seeds.py``); the others are libFuzzer's. An input that ends
in anything but a result or an ``HspanError`` stops the campaign and is kept as ``crash-...``; with
``--go-on`` each new kind of exception is kept in CORPUS/findings and the campaign continues.
Executions and findings stand in CORPUS/report-PID.json, brought up to date every thousand runs.

Images whose header promises more than a megapixel aren't decoded, as that would measure memory
bandwidth; ``hspan upscale --max-pixels`` refuses the worst of them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

INSTRUMENTED = {
    "images": ["hspan.imaging"],
    "checkpoints": ["hspan.weights"],
    "recipes": ["hspan.training._recipe", "tomllib"],
}

if len(sys.argv) < 3 or sys.argv[1] not in INSTRUMENTED:
    raise SystemExit(__doc__)
if sys.argv[1] != "images":  # what isn't fuzzed is loaded before the instrumentation, which is slow
    import lightning as lightning

    from hspan.models import create_model as create_model

with atheris.instrument_imports(include=INSTRUMENTED[sys.argv[1]], enable_loader_override=False):
    from hspan.errors import HspanError
    from hspan.imaging import probe_image, read_image

    if sys.argv[1] != "images":
        from hspan.training import load_recipe
        from hspan.weights import load_model

MEGAPIXEL = 2**20


def fuzz_image(path: Path) -> None:
    info = probe_image(path)
    if info.width * info.height <= MEGAPIXEL:
        picture = read_image(path)
        assert (picture.width, picture.height) == (info.width, info.height), info
        assert picture.dtype == info.dtype, info


def fuzz_checkpoint(path: Path) -> None:
    network = load_model(path, device="cpu")
    assert not network.training


def fuzz_recipe(path: Path) -> None:
    text, _, rest = path.read_bytes().partition(b"\0")
    path.write_bytes(text)
    overrides = rest.decode("utf-8", "replace").split("\0") if rest else []
    recipe = load_recipe(path, overrides)
    path.write_text(recipe.as_toml(), encoding="utf-8")
    assert load_recipe(path).as_dict() == recipe.as_dict()


TARGETS: dict[str, tuple[Callable[[Path], None], str]] = {
    "images": (fuzz_image, "input.bin"),
    "checkpoints": (fuzz_checkpoint, "input.bin"),
    "recipes": (fuzz_recipe, "input.toml"),
}


class Campaign:
    """Runs one input after the other and counts.

    Args:
        target: a key of TARGETS.
        corpus: folder whose ``findings`` and ``report.json`` are written.
        go_on: whether findings are kept and the campaign continues.
    """

    def __init__(self, target: str, corpus: Path, go_on: bool) -> None:
        self._run, name = TARGETS[target]
        memory = Path("/dev/shm")  # a file system in memory, where there is one
        self._folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self._file = Path(self._folder.name) / name
        self._target = target
        self._corpus = corpus
        self._go_on = go_on
        self.executions = self.accepted = 0
        self.findings: dict[str, str] = {}

    def __call__(self, data: bytes) -> None:
        self.executions += 1
        self._file.write_bytes(data)
        try:
            self._run(self._file)
            self.accepted += 1
        except HspanError:
            pass
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
            if not self._go_on:
                raise
            self._keep(kind, data)
        if self.executions % 1000 == 0:
            self.report()

    def _keep(self, kind: str, data: bytes) -> None:
        if kind in self.findings:
            return
        self.findings[kind] = name = f"{self._target}-{len(self.findings)}"
        folder = self._corpus / "findings"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        (folder / f"{name}.txt").write_text(traceback.format_exc())
        print(f"finding: {kind}", file=sys.stderr, flush=True)

    def report(self) -> None:
        """Write how far the campaign is."""
        (self._corpus / f"report-{os.getpid()}.json").write_text(
            json.dumps(
                {
                    "target": self._target,
                    "executions": self.executions,
                    "accepted": self.accepted,
                    "findings": self.findings,
                }
            )
        )


def main() -> None:
    warnings.simplefilter("ignore")
    go_on = "--go-on" in sys.argv
    words = [word for word in sys.argv[1:] if word != "--go-on"]
    corpus = Path(words[1])
    from seeds import make_seeds  # needs everything, after the instrumentation

    seeds = corpus / "inputs"
    seeds.mkdir(parents=True, exist_ok=True)
    make_seeds(words[0], seeds)
    campaign = Campaign(words[0], corpus, go_on)
    options = ["-max_len=8192", "-rss_limit_mb=2500", "-timeout=60", *words[2:]]
    atheris.Setup([sys.argv[0], str(seeds), *options], campaign)
    atheris.Fuzz()  # never returns


if __name__ == "__main__":
    main()
