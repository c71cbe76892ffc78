"""SRMD: one network for many degradations, which it is told beside the image.

Zhang, Zuo, Zhang: "Learning a Single Convolutional Super-Resolution Network for Multiple
Degradations", CVPR 2018. A 15×15 blur kernel, projected onto 15 numbers by a PCA of kernels
(Section 3.4), and the strength of the noise are repeated over the image as further channels; SRMDNF
("noise-free") isn't told the noise. The bicubic reduction of the benchmarks is the kernel without
blur at noise 0: the authors' own setting for them, and the default here.

For another blur, ``degradation_code(kernel, basis)`` needs the basis that the weights were trained
with. The authors' is a file of its own (``P`` in ``srmd_pca_matlab.mat``); ``kernel_basis`` makes
one for new networks.

Departure: training starts from weights that enlarge bilinearly, not from noise.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.models._checks import check_positive, check_scale
from hspan.modules import conv_chain
from hspan.modules.convolutions import carry

KERNEL_SIDE = 15
CODE_LENGTH = 15
# The kernel without blur in the authors' basis: the middle column of their P.
NO_BLUR = (
    *(0.0, 0.0, 0.018563796, 0.0, 0.033529297, 0.0, 0.0, -0.031623498),
    *(-0.013516925, 0.0, 0.038475379, 0.0, -0.24491675, -0.80221349, -0.54054976),
)


@dataclass(frozen=True, kw_only=True)
class SRMDConfig:
    """Sections 3.3 and 4.1; (code) marks values found only in the authors' program.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features.
        num_layers: convolutions.
        noise_aware: SRMD is told the noise, SRMDNF isn't.
        blur: code of the blur kernel: see ``degradation_code``. The default is no blur (code).
        noise: standard deviation of the LR image's noise, of 255 (code: 0).
    """

    scale: int = 2
    channels: int = 128
    num_layers: int = 12
    noise_aware: bool = True
    blur: tuple[float, ...] = NO_BLUR
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        check_scale(self.scale)
        check_positive(channels=self.channels)
        if self.num_layers < 2:
            raise UsageError(f"num_layers must be at least 2, got {self.num_layers}")
        # A configuration read from JSON holds lists.
        object.__setattr__(self, "blur", tuple(map(float, self.blur)))
        if len(self.blur) != CODE_LENGTH:
            raise UsageError(f"blur must be {CODE_LENGTH} numbers, got {len(self.blur)}")
        if self.noise and not self.noise_aware:
            raise UsageError("noise is for SRMD: SRMDNF takes images without noise")


class SRMD(nn.Module):
    """Super-resolution network for multiple degradations.

    Args:
        config: hyper-parameters, and the degradation to begin with.
    """

    degradation: Tensor

    def __init__(self, config: SRMDConfig) -> None:
        super().__init__()
        self.config = config
        inputs = 3 + CODE_LENGTH + int(config.noise_aware)
        hidden = (config.channels,) * (config.num_layers - 1)
        self.body = conv_chain((inputs, *hidden, 3 * config.scale**2))
        self.register_buffer("degradation", torch.empty(0), persistent=False)
        self.set_degradation(config.blur, config.noise)
        _interpolate(self.body, config.scale)

    def set_degradation(self, blur: tuple[float, ...], noise: float = 0.0) -> None:
        """Say what LR images have gone through; ``config`` says it from then on.

        Args:
            blur: code of the blur kernel, 15 numbers.
            noise: standard deviation, of 255.

        Raises:
            UsageError: not 15 numbers, or noise for SRMDNF.
        """
        self.config = replace(self.config, blur=blur, noise=noise)
        values = [*self.config.blur, noise / 255][: CODE_LENGTH + int(self.config.noise_aware)]
        self.degradation = torch.tensor(values, device=self.degradation.device).view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        maps = self.degradation.to(x.dtype).expand(x.shape[0], -1, *x.shape[2:])
        out = self.body(torch.cat([x, maps], dim=1))
        return F.pixel_shuffle(out, self.config.scale).to(x.dtype)


def degradation_code(kernel: Tensor, basis: Tensor) -> tuple[float, ...]:
    """What ``SRMDConfig.blur`` is for a blur kernel.

    Args:
        kernel: [15, 15], sums to one.
        basis: [15, 225], principal components as rows, of kernels read column by column.

    Raises:
        UsageError: tensors of other shapes.
    """
    if kernel.shape != (KERNEL_SIDE, KERNEL_SIDE) or basis.shape != (CODE_LENGTH, KERNEL_SIDE**2):
        raise UsageError(
            f"wanted are a kernel [15, 15] and a basis [15, 225], got {list(kernel.shape)} "
            f"and {list(basis.shape)}"
        )
    return tuple((basis.double() @ kernel.double().T.flatten()).tolist())


def gaussian_kernel(wide: float, narrow: float | None = None, angle: float = 0.0) -> Tensor:
    """A Gaussian blur kernel, Section 4.1.

    Args:
        wide: standard deviation along its axis, in HR pixels.
        narrow: across; None is as much, the isotropic kernel.
        angle: of the axis, in radians from the rows.

    Returns:
        [15, 15] float64, sums to one.

    Raises:
        UsageError: a deviation that isn't positive.
    """
    narrow = wide if narrow is None else narrow
    if wide <= 0 or narrow <= 0:
        raise UsageError(f"standard deviations must be above 0, got {wide} and {narrow}")
    line = torch.arange(KERNEL_SIDE, dtype=torch.float64) - KERNEL_SIDE // 2
    down, right = torch.meshgrid(line, line, indexing="ij")
    along = right * math.cos(angle) + down * math.sin(angle)
    across = down * math.cos(angle) - right * math.sin(angle)
    # Relative to the middle, which stays 1 for kernels so narrow that all else is 0.
    kernel = torch.exp(-0.5 * ((along / wide) ** 2 + (across / narrow) ** 2))
    return kernel / kernel.sum()


def kernel_basis(kernels: Tensor) -> Tensor:
    """PCA of blur kernels, Section 3.4: the directions that hold most of their energy.

    Args:
        kernels: [N, 15, 15], drawn from the blurs to train for.

    Returns:
        [15, 225] float64, orthonormal rows, the most important last; not centred, as the authors'.

    Raises:
        UsageError: fewer kernels than components, or of another size.
    """
    if kernels.ndim != 3 or kernels.shape[1:] != (KERNEL_SIDE, KERNEL_SIDE):
        raise UsageError(f"wanted are kernels [N, 15, 15], got {list(kernels.shape)}")
    if len(kernels) < CODE_LENGTH:
        raise UsageError(f"a PCA to {CODE_LENGTH} numbers needs as many kernels at least")
    columns = kernels.double().transpose(1, 2).flatten(1)  # [N, 225], column by column
    return torch.linalg.eigh(columns.T @ columns).eigenvectors[:, -CODE_LENGTH:].T


@torch.no_grad()
def _interpolate(body: nn.Sequential, scale: int) -> None:
    """Let colours pass all layers, and the last one enlarge them bilinearly."""
    convs = [layer for layer in body if isinstance(layer, nn.Conv2d)]
    for conv in convs[:-1]:
        if conv.out_channels >= 3:
            carry(conv, count=3, spread=0.01)
    last = convs[-1]
    if last.in_channels < 3:
        return
    last.weight *= 0.01
    nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType] (it has one)
    place = (torch.arange(scale) + 0.5) / scale - 0.5  # of the new pixels around an old one
    taps = (1 - (torch.arange(-1, 2) - place[:, None]).abs()).clamp(min=0)  # [scale, 3]
    filters = torch.einsum("ri,cj->rcij", taps, taps).flatten(0, 1)
    for colour in range(3):
        last.weight[colour * scale**2 : (colour + 1) * scale**2, colour] = filters
