"""Two processes over gloo against one: the same gradient, the same training."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from hspan.training import train
from hspan.training._module import SRTrainingModule
from hspan.weights import load_model

SCRIPT = """
import sys
import torch
from hspan.training import load_recipe, train
from hspan.training._module import SRTrainingModule

torch.set_num_threads(1)
gradients = []
step = SRTrainingModule._step_unless

def record(self, bad, optimizer):
    gradients.append([p.grad.clone() for p in self.network.parameters()])
    step(self, bad, optimizer)

SRTrainingModule._step_unless = record
result = train(load_recipe(sys.argv[1]), sys.argv[2])
torch.save(gradients, f"{sys.argv[2]}/gradients-{sys.argv[3]}.pt")
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(recipe, out, processes):
    """The variables are those that torchrun sets for each process."""
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    started = []
    for rank in range(processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
        words = [sys.executable, "-c", SCRIPT, str(recipe), str(out), str(rank)]
        started.append(subprocess.Popen(words, env={**os.environ, **common, **own}))
    try:
        assert [process.wait(timeout=200) for process in started] == [0] * processes
    finally:
        for process in started:
            process.kill()
    return [torch.load(out / f"gradients-{rank}.pt") for rank in range(processes)]


def run_alone(recipe, out, monkeypatch):
    gradients, step = [], SRTrainingModule._step_unless

    def record(self, bad, optimizer):
        gradients.append([p.grad.clone() for p in self.network.parameters()])
        step(self, bad, optimizer)

    monkeypatch.setattr(SRTrainingModule, "_step_unless", record)
    train(recipe, out)
    return gradients


@pytest.mark.skipif(sys.platform != "linux", reason="names the loopback interface")
def test_two_processes_have_the_gradient_of_one(tiny, tmp_path, monkeypatch):
    recipe = tiny("training.max_steps=3", "logging.validate_every=3", "data.batch_size=4")
    alone = run_alone(recipe, tmp_path / "one", monkeypatch)
    (tmp_path / "2.toml").write_text(recipe.as_toml().replace("devices = 1", "devices = 2"))
    first, second = run(tmp_path / "2.toml", tmp_path / "two", 2)
    assert len(alone) == len(first) == 3
    for step in range(3):
        for one, a, b in zip(alone[step], first[step], second[step], strict=True):
            assert torch.equal(a, b)
            # Sums in another order; later steps carry the difference of the earlier on.
            torch.testing.assert_close(a, one, rtol=1e-4 * 10**step, atol=1e-7 * 10**step)
    networks = [load_model(tmp_path / n / "2x_hspan-light.safetensors") for n in ("one", "two")]
    for one, two in zip(*(n.parameters() for n in networks), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5)
