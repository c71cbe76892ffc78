"""Networks with attention, run and trained in the ways that torch offers."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.distributed import barrier, destroy_process_group, init_process_group
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint_sequential

from hspan.models import create_model

LIGHT = {"channels": 8, "num_blocks": 2}
DESIGNS = {
    "patches": ("hspan-light", LIGHT),
    "positions, twice": ("hspan-light", {**LIGHT, "patch": 1, "attention_after": (1, 2)}),
    "truncated": ("hspan", {"channels": 8, "num_modules": 2, "topk": 20}),
}


@pytest.fixture(params=DESIGNS)
def network(request) -> nn.Module:
    torch.manual_seed(0)
    name, config = DESIGNS[request.param]
    return create_model(name, scale=2, **config).to(memory_format=torch.channels_last)


def batch(images: int = 4, height: int = 16, width: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    lr = torch.rand(images, 3, height, width, generator=generator)
    return lr, torch.rand(images, 3, 2 * height, 2 * width, generator=generator)


def gradients(network: nn.Module, run=None, *, autocast=False, **size) -> list[torch.Tensor]:
    """Of every parameter, after one backward pass of the network, or of what runs it."""
    run = network if run is None else run
    lr, hr = batch(**size)
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        sr = run(lr)
    F.l1_loss(sr.float(), hr).backward()
    return [parameter.grad.clone() for parameter in network.parameters()]


def test_compiled_training():
    """One graph forward and one backward, for one size and then for any, in mixed precision."""
    network = create_model("hspan-light", channels=8, num_blocks=1)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    for size in ({}, {"height": 11, "width": 13}):
        torch.testing.assert_close(
            gradients(network, compiled, autocast=True, **size),
            gradients(network, autocast=True, **size),
            rtol=2e-2,
            atol=2e-4,
        )
    torch.compiler.reset()


def test_autocast_training(network):
    """Gradients are those of float32 parameters, and close to what they are without bf16."""
    exact, narrow = gradients(network), gradients(network, autocast=True)
    for a, b in zip(exact, narrow, strict=True):
        assert b.dtype == torch.float32
        assert (a - b).norm() <= 0.1 * a.norm() + 1e-6


def test_checkpointed_training(network):
    """The body is computed twice, the second time for the gradient, and gives the same bits."""
    body = list(network.body)
    expected = gradients(network)
    network.body.forward = lambda x: checkpoint_sequential(body, len(body), x, use_reentrant=False)
    result = gradients(network)
    assert all(a.equal(b) for a, b in zip(result, expected, strict=True))


def share(rank: int, port: int, file: str, processes: int = 2) -> None:
    """One process of two: its part of the batch; the first saves the gradients."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    init_process_group("gloo", rank=rank, world_size=processes)
    torch.manual_seed(0)
    name, config = DESIGNS["positions, twice"]
    network = create_model(name, scale=2, **config)
    lr, hr = (part.chunk(processes)[rank] for part in batch())
    parallel = DistributedDataParallel(network)
    F.l1_loss(parallel(lr), hr).backward()
    if rank == 0:
        torch.save([parameter.grad for parameter in network.parameters()], file)
    barrier()  # a process that takes its threads down while the other still works may abort
    del parallel
    destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
def test_distributed_training(tmp_path):
    """Two processes with half the batch each find the gradients of one with all of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = tmp_path / "gradients.pt"
    # As a script: under pytest this file is no module that another process could import.
    command = [sys.executable, "-W", "ignore", __file__, str(port), str(file)]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=100) for process in processes] == [0, 0]
    torch.manual_seed(0)
    name, config = DESIGNS["positions, twice"]
    expected = gradients(create_model(name, scale=2, **config))
    torch.testing.assert_close(torch.load(file), expected, rtol=1e-4, atol=1e-7)


if __name__ == "__main__":
    share(rank=int(sys.argv[3]), port=int(sys.argv[1]), file=sys.argv[2])
