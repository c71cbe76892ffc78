"""Triton kernels as the interpreter can't show them: compiled, and at full size on a GPU.

Where there is no GPU, compiling happens in a process of its own: Triton, once imported, either
compiles or interprets.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import hspan
from hspan import hspa_attention

if find_spec("triton") is None:
    pytest.skip("needs Triton", allow_module_level=True)

COMPILE = """
import sys, torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from hspan.ops import _triton, _triton_solver

kinds = {torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.int32: "*i32", torch.int8: "*i8"}

def build(kernel, grid, *arguments, warps, stages=3, **constants):
    names = kernel.arg_names
    values = dict(zip(names, arguments)) | constants
    fixed = {(names.index(name),): value for name, value in constants.items()}
    types = {
        name: "constexpr" if name in constants
        else kinds[value.dtype] if isinstance(value, torch.Tensor) else "i32"
        for name, value in ((name, values[name]) for name in names)
    }
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names) if isinstance(values[name], torch.Tensor)
    }
    binary = triton.compile(
        ASTSource(kernel, types, constexprs=fixed, attrs=aligned),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True},
    )
    tensor_cores = binary.asm["ptx"].count("wgmma.mma_async")
    print(kernel.__name__, binary.metadata.shared, tensor_cores, flush=True)

_triton_solver.enqueue = build
query, key, value = (torch.zeros(1, n, c).bfloat16() for n, c in ((70, 24), (5000, 24), (5000, 48)))
empty = torch.empty(0)
out, limits = _triton.forward(query, key, value, 7, 0, empty)
_triton.backward(out, query, key, value, limits, empty, 7, 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_compiles_for_a_gpu_that_is_not_here(tmp_path):
    """The interpreter runs what no compiler takes. Every kernel of a call, for an H100."""
    source = str(Path(hspan.__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([source, *sys.path]),
        "TRITON_CACHE_DIR": str(tmp_path),
        "TRITON_INTERPRET": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = [line.split() for line in done.stdout.splitlines()]
    kernels = {name: (int(shared), int(products)) for name, shared, products in report}
    multiplying = {"screen", "collect", "solve", "truncate", "multiply", "mark"}
    multiplying |= {"grad_query", "grad_keys"}
    assert set(kernels) == multiplying | {"bound", "list_hits", "select", "gather"}
    for name, (shared, products) in kernels.items():
        assert shared <= 227 * 1024, name
        assert (products > 0) == (name in multiplying), name


def draw(batch, n, m, c, d, spread=1.0, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, n, c, generator=generator) * spread
    key = torch.randn(batch, m, c, generator=generator)
    value = torch.randn(batch, m, d, generator=generator)
    return [t.to(dtype).cuda() for t in (query, key, value)]


def attend(tensors, topk=None):
    return hspa_attention(*tensors, topk=topk, backend="triton")


def value_and_grads(tensors):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    out = attend(leaves)
    out.backward(torch.ones_like(out))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnGPU:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("topk", [None, 128])
    def test_many_tokens(self, dtype, topk):
        """Enough for several stripes and spans; rows of every density."""
        query, key, value = draw(1, 40_000, 30_001, 48, 96, 0.1, dtype=dtype)
        query[:, ::3] *= 8
        out = attend((query, key, value), topk).double()
        rows = torch.arange(0, 40_000, 97)
        truth = hspa_attention(
            query[:, rows].double(), key.double(), value.double(), topk=topk, backend="tiles"
        )
        tolerance = 2e-6 if dtype == torch.float32 else 1e-2
        assert (out[:, rows] - truth).norm() < tolerance * truth.norm()

    def test_same_bits_every_time(self):
        tensors = draw(2, 5000, 5000, 24, 48, 0.3, dtype=torch.bfloat16)
        first, again = value_and_grads(tensors), value_and_grads(tensors)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))

    def test_memory_is_linear(self):
        tensors = [t.requires_grad_() for t in draw(1, 65_536, 65_536, 16, 16, 1.0)]
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        attend(tensors).sum().backward()
        assert torch.cuda.max_memory_allocated() - before < 400 * 2**20

    def test_auto_takes_these_kernels(self):
        tensors = draw(1, 50, 60, 8, 8)
        assert torch.equal(hspa_attention(*tensors), attend(tensors))
