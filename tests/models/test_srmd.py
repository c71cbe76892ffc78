import pytest
import torch
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.models import create_model, degradation_code, gaussian_kernel, kernel_basis


def test_kernels():
    narrow, wide = gaussian_kernel(0.01), gaussian_kernel(2.0)
    assert narrow[7, 7] == 1
    assert wide.sum() == pytest.approx(1)
    assert wide[7, 8] / wide[7, 7] == pytest.approx(torch.tensor(-1 / 8).exp().item())
    level = gaussian_kernel(3.0, 1.0)
    assert level[7, 9] > level[9, 7]  # wide along the rows
    torch.testing.assert_close(gaussian_kernel(3.0, 1.0, angle=torch.pi / 2), level.T)


def test_basis_holds_what_the_kernels_vary_in():
    widths = torch.linspace(0.4, 3, 40).tolist()
    kernels = torch.stack([gaussian_kernel(w, w / 2, angle=w) for w in widths])
    basis = kernel_basis(kernels)
    torch.testing.assert_close(basis @ basis.T, torch.eye(15, dtype=torch.float64))
    code = torch.tensor(degradation_code(kernels[7], basis), dtype=torch.float64)
    restored = (code @ basis).view(15, 15).T  # column by column
    assert (restored - kernels[7]).norm() < 0.02 * kernels[7].norm()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_kernel(0.0), "above 0"),
        (lambda: kernel_basis(torch.ones(3, 15, 15)), "as many kernels"),
        (lambda: kernel_basis(torch.ones(20, 7, 7)), r"\[N, 15, 15\]"),
        (lambda: degradation_code(torch.ones(7, 7), torch.ones(15, 225)), r"kernel \[15, 15\]"),
        (lambda: create_model("srmd", blur=(1.0,)), "15 numbers, got 1"),
    ],
)
def test_impossible_calls(call, message):
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_starts_as_bilinear_enlargement(scale):
    torch.manual_seed(0)
    x = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        out = create_model("srmdnf", scale=scale)(x)
    expected = F.interpolate(x, scale_factor=scale, mode="bilinear")
    inner = (..., slice(scale, -scale), slice(scale, -scale))  # zeros lie outside
    assert (out - expected)[inner].abs().mean() < 0.02
