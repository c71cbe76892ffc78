"""Residual blocks as one operator, against float64 with the operator's own roundings."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hspan.errors import UsageError
from hspan.modules import ResidualBlock
from hspan.ops import _library, residual
from hspan.ops.residual import residual_block

# torch loads its forward mode through its own, deprecated, script compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

ROUNDING = 2**-8  # of bf16, relative
needs_kernel = pytest.mark.skipif(not residual.HAS_KERNEL, reason="needs AMX, or AVX-512 with bf16")
WITH_KERNEL = [
    name
    for name, level in _library._usable_levels().items()
    if _library.library().hspan_residual_usable(level)
]


@pytest.fixture(scope="module", autouse=True, params=WITH_KERNEL or ["no kernel"])
def instruction_set(request):
    with pytest.MonkeyPatch.context() as patch:
        if WITH_KERNEL:
            patch.setenv("HSPAN_ISA", request.param)
        yield request.param


def reach(weight, instruction_set):
    """How large a tap's weight counts in errors: Winograd's products have all nine taps in them."""
    if instruction_set != "avx512_bf16":
        return weight
    return weight.square().sum((2, 3), keepdim=True).sqrt().expand_as(weight)


def rounded(weight, instruction_set):
    """What the kernel makes of it, in float64."""
    return (weight if instruction_set == "avx512_bf16" else weight.bfloat16()).double()


def draw(batch, channels, height, width, seed=0):
    """An input, weights and biases such that all features are of order 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    x = normal(batch, channels, height, width).bfloat16()
    scale = (9 * channels) ** -0.5
    weights = [normal(channels, channels, 3, 3) * scale for _ in range(2)]
    biases = [normal(channels) / 4 for _ in range(2)]
    return x, weights[0], biases[0], weights[1], biases[1]


def far_from_zero(channels):
    """A bias that leaves no ReLU near zero, where roundings open it here and not there."""
    return torch.tensor([6.0, -6.0]).repeat(channels)[:channels]


def run(x, *parameters):
    """Output, activations in between, a gradient of the output and all gradients."""
    leaves = [t.clone().requires_grad_() for t in (x, *parameters)]
    out, inner = torch.ops.hspan.residual_block(*leaves, True)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out.dtype)
    return out.detach(), inner, grad, torch.autograd.grad(out, leaves, grad)


def size(x, weights, *added):
    """How large the numbers are that cancel to give a convolution's output, about."""
    squares = F.conv2d(x.double().square(), weights.square(), padding=1)
    return (squares + sum(a.double().square() for a in added)).sqrt()


def gradients(x, w1, hidden, w2, grad, opened):
    """Of input, weights and biases, given the gradient of the output and which ReLUs are open."""
    d_hidden = torch.nn.grad.conv2d_input(hidden.shape, w2, grad, padding=1) * opened
    return (
        grad + torch.nn.grad.conv2d_input(x.shape, w1, d_hidden, padding=1),
        torch.nn.grad.conv2d_weight(x, w1.shape, d_hidden, padding=1),
        d_hidden.sum((0, 2, 3)),
        torch.nn.grad.conv2d_weight(hidden, w2.shape, grad, padding=1),
        grad.sum((0, 2, 3)),
    )


def close(found, exact, rounding, size):
    """Equal but for the rounding of numbers of a size."""
    bound = rounding * (exact.abs() + size)
    assert (found.double() - exact).abs().le(bound + 1e-30).all()


def same_norm(found, exact, tolerance):
    """Equal on the whole: sums of many rounded terms."""
    assert (found.double() - exact).norm() <= tolerance * exact.norm() + 1e-30


shapes = st.tuples(
    st.integers(1, 3),
    st.integers(1, 70),
    st.integers(1, 20),
    st.integers(1, 20),
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(shapes, st.integers(0, 1000))
@example((2, 5, 1, 2), 57)  # an activation of few terms that cancel
@example((1, 1, 2, 1), 1)  # a gradient of two terms that do
def test_values_and_gradients(instruction_set, shape, seed):
    x, w1, b1, w2, b2 = draw(*shape, seed)
    out, inner, grad, found = run(x, w1, b1, w2, b2)
    wide1, wide2 = (rounded(w, instruction_set) for w in (w1, w2))
    hidden = F.relu(F.conv2d(x.double(), wide1, b1.double(), padding=1))
    b1, b2 = (b.view(-1, 1, 1) for b in (b1, b2))
    size1, size2 = (reach(w, instruction_set) for w in (wide1, wide2))
    close(inner, hidden, 2 * ROUNDING, size(x, size1, b1))
    hidden = inner.double()
    exact = x.double() + b2 + F.conv2d(hidden, wide2, padding=1)
    close(out, exact, 4 * ROUNDING, size(hidden, size2, b2, x))

    exact = gradients(x.double(), wide1, hidden, wide2, grad.double(), hidden > 0)
    # How large what cancels is, about: the same sums of squares.
    squares = (t.double().square() for t in (x, size1, hidden, size2, grad))
    sizes = [t.sqrt() for t in gradients(*squares, hidden > 0)]
    for a, b, s in zip(found, exact, sizes, strict=True):
        assert a.shape == b.shape
        assert (a.double() - b).norm() <= 1e-2 * s.norm()


@pytest.mark.parametrize(("height", "width"), [(100, 117), (9, 300), (300, 7)])
def test_images_of_several_parts(height, width):
    """Where an image is cut changes nothing: a piece far from its edges is the same by itself.

    If it begins at an even row and column, as the parts do.
    """
    parameters = draw(1, 60, height, width)
    x, rest = parameters[0], parameters[1:]
    whole = residual_block(x, *rest)
    top, left = (min(40, length // 4 * 2) for length in (height, width))
    piece = residual_block(x[:, :, top - 2 :, left - 2 :], *rest)
    first, second = whole[:, :, top:, left:], piece[:, :, 2:, 2:]
    torch.testing.assert_close(first, second, rtol=0, atol=0 if residual.HAS_KERNEL else 2e-2)


@needs_kernel
def test_gradients_don_t_depend_on_the_cut(instruction_set):
    x, *parameters = draw(1, 60, 90, 75)
    _, inner, grad, found = run(x, *parameters)
    w1, w2 = (rounded(w, instruction_set) for w in (parameters[0], parameters[2]))
    d_hidden = torch.nn.grad.conv2d_input(x.shape, w2, grad.double(), padding=1) * (inner > 0)
    exact = torch.nn.grad.conv2d_input(x.shape, w1, d_hidden, padding=1) + grad.double()
    turned = w1.flip(2, 3).transpose(0, 1)
    turned = reach(turned, instruction_set)
    close(found[0], exact, 4 * ROUNDING, size(d_hidden, turned, grad))
    same_norm(
        found[3],
        torch.nn.grad.conv2d_weight(inner.double(), w2.shape, grad.double(), padding=1),
        5e-3 if instruction_set == "avx512_bf16" else 1e-5,
    )


@needs_kernel
def test_same_bits_again_and_with_more_threads():
    parameters = draw(3, 60, 48, 48)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(run(*parameters))
    finally:
        torch.set_num_threads(before)
    one, two, again = results
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[3][0], two[3][0])
    for a, b in zip(two[3], again[3], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(one[3], two[3], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_nan_stays_where_it_is():
    x, *parameters = draw(1, 20, 11, 12)
    x[0, 3, 5, 6] = torch.nan
    out = residual_block(x, *parameters)
    near = torch.zeros(11, 12, dtype=torch.bool)
    near[3:8, 4:9] = True
    assert torch.equal(out[0].isnan().all(0), near)
    assert torch.equal(out[0].isnan().any(0), near)


def test_in_steps_where_the_processor_has_no_kernel(monkeypatch):
    parameters = draw(2, 24, 13, 10)
    parameters[2].copy_(far_from_zero(24))
    fast = run(*parameters)
    monkeypatch.setenv("HSPAN_ISA", _library.instruction_sets()[0])
    slow = run(*parameters)
    for a, b in zip((fast[0], *fast[3]), (slow[0], *slow[3]), strict=True):
        assert a.dtype == b.dtype
        same_norm(a, b.double(), 2e-2)


def test_any_memory_format_and_no_images():
    x, *parameters = draw(2, 20, 9, 8)
    out = residual_block(x, *parameters)
    assert out.is_contiguous(memory_format=torch.channels_last)
    other = residual_block(x.contiguous(memory_format=torch.channels_last), *parameters)
    assert torch.equal(out, other)
    assert residual_block(x[:0], *parameters).shape == (0, 20, 9, 8)
    _, _, _, gradients = run(x[:0], *parameters)
    assert all(not g.any() for g in gradients)


def test_wrong_inputs():
    x, w1, b1, w2, b2 = draw(1, 20, 5, 5)
    with pytest.raises(UsageError, match="bfloat16"):
        residual_block(x.float(), w1, b1, w2, b2)
    with pytest.raises(UsageError, match=r"\[20, 20, 3, 3\]"):
        residual_block(x, w1[:4], b1, w2, b2)
    with pytest.raises(UsageError, match="biases"):
        residual_block(x, w1, b1[:4], w2, b2)
    with forward_ad.dual_level(), pytest.raises(UsageError, match="no forward-mode"):
        residual_block(forward_ad.make_dual(x, x), w1, b1, w2, b2)


def test_differentiable_once():
    x, *parameters = draw(1, 20, 5, 5)
    out = residual_block(x.requires_grad_(), *parameters)
    (d_x,) = torch.autograd.grad(out.float().square().sum(), x, create_graph=True)
    with pytest.raises(UsageError, match="once"):
        d_x.float().sum().backward()


def block_and_input(channels=20):
    torch.manual_seed(0)
    block = ResidualBlock(channels).to(memory_format=torch.channels_last)
    x = torch.randn(2, channels, 9, 8, requires_grad=True)
    return block, x


@pytest.fixture
def calls(monkeypatch):
    """How often a module called the operator."""
    count = [0]
    original = residual.residual_block

    def counted(*args):
        count[0] += 1
        return original(*args)

    monkeypatch.setattr(residual, "residual_block", counted)
    return count


def gradients_of(block, x, call=None):
    with torch.autocast("cpu", torch.bfloat16):
        out = (block if call is None else call)(x)
    return torch.autograd.grad(out.float().square().sum(), (x, *block.parameters()))


@needs_kernel
@pytest.mark.parametrize("residual_scale", [1, 0.1])
def test_modules_use_it_under_autocast(calls, monkeypatch, residual_scale):
    block, x = block_and_input()
    block.residual_scale = residual_scale
    with torch.no_grad():
        block.conv1.bias.copy_(far_from_zero(20))
    found = gradients_of(block, x)
    assert calls == [1]
    monkeypatch.setattr(residual, "HAS_KERNEL", False)
    for a, b in zip(found, gradients_of(block, x), strict=True):
        assert a.dtype == b.dtype
        same_norm(a, b.double(), 2e-2)


@needs_kernel
def test_modules_use_it_for_networks_in_bf16(calls):
    block, x = block_and_input()
    with torch.no_grad():
        exact = block(x)
        out = block.bfloat16()(x.bfloat16())
    assert calls == [1]
    assert out.dtype == torch.bfloat16
    same_norm(out, exact.double(), 1e-2)


@needs_kernel
def test_activation_checkpointing():
    block, x = block_and_input()
    plain = gradients_of(block, x)
    again = gradients_of(block, x, lambda x: checkpoint(block, x, use_reentrant=False))
    for a, b in zip(plain, again, strict=True):
        assert torch.equal(a, b)


@needs_kernel
def test_left_alone_in_float32_when_watched_or_transformed(calls):
    block, x = block_and_input()
    block(x)
    with torch.autocast("cpu", torch.bfloat16):
        many = torch.vmap(lambda image: block(image[None])[0])(x)
        torch.func.jvp(block, (x.detach(),), (torch.ones_like(x),))
        seen = []
        with block.conv2.register_forward_pre_hook(lambda _, args: seen.append(args[0])):
            watched = block(x)
        ResidualBlock(16)(torch.randn(1, 16, 4, 4))  # too narrow to gain
        ResidualBlock(20, activation=torch.nn.GELU())(x)
    assert calls == [0]
    assert len(seen) == 1
    torch.testing.assert_close(many, watched, rtol=2e-2, atol=2e-2)


def test_traced_symbolically():
    block, x = block_and_input()
    traced = torch.fx.symbolic_trace(block)
    torch.testing.assert_close(traced(x), block(x))


@needs_kernel
def test_compiled():
    block, x = block_and_input()
    plain = gradients_of(block, x)
    found = gradients_of(block, x, torch.compile(block, fullgraph=True))
    for a, b in zip(plain, found, strict=True):
        torch.testing.assert_close(a, b)
