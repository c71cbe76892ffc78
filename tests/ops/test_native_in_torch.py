"""The compiled kernel under autograd, compilers, threads and processes."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hspan import HSPA, UsageError, hspa_attention
from hspan.ops import _library

if not _library.instruction_sets():
    if os.environ.get("HSPAN_REQUIRE_NATIVE") == "1":
        raise RuntimeError(_library.why_missing())
    pytest.skip(_library.why_missing(), allow_module_level=True)


def draw(batch, n, m, c, d) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(batch, n, c), (batch, m, c), (batch, m, d)]
    return [torch.randn(size, generator=generator) for size in sizes]


def gradients(function, tensors, wanted=(0, 1, 2)) -> list[Tensor | None]:
    leaves = [t.clone().requires_grad_(i in wanted) for i, t in enumerate(tensors)]
    out = function(*leaves)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)))
    return [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)], ids=str)
def test_gradients_of_some_inputs(wanted):
    tensors = draw(2, 40, 50, 6, 5)
    every = gradients(hspa_attention, tensors)
    some = gradients(hspa_attention, tensors, wanted)
    for i in range(3):
        assert (some[i] is not None) == (i in wanted)
        assert some[i] is None or some[i].equal(every[i])


def test_supports_are_kept_only_for_gradients():
    tensors = draw(1, 40, 50, 6, 5)
    kept = []

    class Look(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if function is torch.ops.hspan.attention.default:
                kept.append(result[2].numel() > 0)
            return result

    with Look():
        hspa_attention(*tensors)
        leaf = tensors[1].clone().requires_grad_()
        hspa_attention(tensors[0], leaf, tensors[2])
        with torch.no_grad():
            hspa_attention(tensors[0], leaf, tensors[2])
    assert kept == [False, True, False]


def test_second_derivatives_are_refused():
    query, key, value = draw(1, 20, 30, 4, 3)
    query.requires_grad_()
    out = hspa_attention(query, key, value)

    def differentiate_twice():
        (grad,) = torch.autograd.grad(out.sum(), query, create_graph=True)
        grad.square().sum().backward()

    with pytest.raises(UsageError, match="once"):
        differentiate_twice()


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled(dynamic):
    compiled = torch.compile(hspa_attention, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for n in (40, 90):
        tensors = draw(2, n, 50, 6, 5)
        with torch.no_grad():
            assert compiled(*tensors, width=10).equal(hspa_attention(*tensors, width=10))
        ours, expected = gradients(compiled, tensors), gradients(hspa_attention, tensors)
        for a, b in zip(ours, expected, strict=True):
            assert a.equal(b)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed(reentrant):
    tensors = draw(2, 40, 50, 6, 5)
    ours = gradients(lambda *t: checkpoint(hspa_attention, *t, use_reentrant=reentrant), tensors)
    for a, b in zip(ours, gradients(hspa_attention, tensors), strict=True):
        assert a.equal(b)


def test_vmap():
    tensors = draw(4, 30, 50, 6, 5)
    mapped = torch.vmap(hspa_attention)(*(t.view(2, 2, *t.shape[1:]) for t in tensors))
    assert mapped.flatten(0, 1).equal(hspa_attention(*tensors))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_module(layout, autocast):
    torch.manual_seed(0)
    x = torch.randn(2, 16, 13, 18).to(memory_format=layout).requires_grad_()
    module, results = HSPA(16, topk=None), []
    for backend in ("native", "reference"):
        module.backend = backend
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = module(x)
        grads = torch.autograd.grad(out.square().sum(), [x, *module.parameters()])
        results.append((out, *grads))
    for ours, theirs in zip(*results, strict=True):
        # Under autocast, weights and gradients of scores are rounded to bf16.
        assert (ours - theirs).norm() <= (2e-2 if autocast else 1e-5) * theirs.norm()


def test_calls_at_the_same_time():
    tensors = draw(1, 200, 900, 16, 20)
    expected, equal = hspa_attention(*tensors), []

    def call():
        equal.extend(hspa_attention(*tensors).equal(expected) for _ in range(5))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert equal == [True] * 20


def run_script(code: str) -> None:
    """In a process of its own, which has no threads yet that a fork would lose."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_forked_child_does_not_hang():
    run_script("""
import os, torch
from hspan import hspa_attention
torch.set_num_threads(2)
tensors = [torch.randn(1, 500, 32) for _ in range(3)]
expected = hspa_attention(*tensors)
child = os.fork()
if child == 0:
    torch.set_num_threads(1)
    torch.testing.assert_close(hspa_attention(*tensors), expected)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""")


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed")
def test_distributed_gradients_are_those_of_one_process(tmp_path):
    run_script(f"""
import os, torch
from torch import distributed, nn
from hspan import HSPA
torch.manual_seed(0)
torch.set_num_threads(1)
images = torch.randn(2, 8, 10, 12)
modules = [HSPA(8, backend="native") for _ in range(2)]
modules[1].load_state_dict(modules[0].state_dict())
child = os.fork()
rank = int(child == 0)
store = {(tmp_path / "store").as_uri()!r}
distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
parallel = nn.parallel.DistributedDataParallel(modules[0])
parallel(images[rank : rank + 1]).sum().backward()
(modules[1](images).sum() / 2).backward()
for ours, expected in zip(modules[0].parameters(), modules[1].parameters()):
    torch.testing.assert_close(ours.grad, expected.grad)
distributed.destroy_process_group()
if rank == 1:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""")
