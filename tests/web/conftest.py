"""Files to give the page, and the page itself in a process of its own."""

import os
import select
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from hspan.imaging import Picture, write_image
from hspan.models import create_model
from hspan.weights import save_model

RUN = [sys.executable, "-c", "import sys; from hspan.cli import main; sys.exit(main())"]
START = 180  # seconds; importing the web framework takes a while on a busy machine


def _noise(*shape, seed=0, dtype=np.uint8):
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


@pytest.fixture(scope="session")
def noise():
    return _noise


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A small network with attention over patches of 4×4, ×2."""
    torch.manual_seed(0)
    network = create_model("hspan-light", channels=4, num_blocks=2)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(network, path, name="hspan-light")
    return path


@pytest.fixture
def photo(tmp_path):
    """8-bit RGB, 22×18."""
    path = tmp_path / "photo.png"
    write_image(path, Picture(_noise(18, 22, 3)))
    return path


@pytest.fixture
def deep(tmp_path):
    """16-bit RGB with transparency, 14×12."""
    path = tmp_path / "deep.png"
    pixels, alpha = (_noise(*shape, dtype=np.uint16) for shape in ((12, 14, 3), (12, 14)))
    write_image(path, Picture(pixels, alpha))
    return path


class Server:
    """``hspan web`` at a free port."""

    command = RUN

    def __init__(self, temporary, *arguments):
        environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
        self.temporary = temporary
        self.process = subprocess.Popen(
            [*RUN, "web", "--port", "0", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        ready, _, _ = select.select([self.process.stdout], [], [], START)
        line = self.process.stdout.readline() if ready else ""
        if "serving at " not in line:
            self.stop()
            raise AssertionError(f"the page didn't start: {line!r}")
        self.address = line.split("serving at ")[1].split()[0]

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process.stdout.close()

    def left(self, wait=5.0):
        """What is left of its files, after it has had time to remove them."""
        end = time.monotonic() + wait
        while (found := list(self.temporary.glob("hspan-web-*"))) and time.monotonic() < end:
            time.sleep(0.1)
        return found


@pytest.fixture(scope="session")
def start_server():
    return Server


@pytest.fixture(scope="module")
def server(tmp_path_factory, weights):
    server = Server(
        tmp_path_factory.mktemp("server"), "-m", weights, "--megabytes", 2, "--megapixels", 0.02
    )
    yield server
    server.stop()
