"""SPMSR: HR patches predicted from the sparse representation of LR patches.

Peleg, Elad: "A Statistical Prediction Model Based on Sparse Representations for Single Image
Super-Resolution", IEEE Transactions on Image Processing 23 (6), 2014. A patch x of the bicubically
enlarged luma, its mean removed, and the patch that is to be added to it each have a dictionary:

x = D_l α, with s = ±1 for coefficients that are in use and those that aren't
difference = D_h β, with a pattern of its own that follows from s as in a Boltzmann machine:
    P(β_j is in use | s) = (1 + tanh(b_j + w_jᵀ s)) / 2, and then its mean is c_jᵀ α

The least squares estimate of β_j is the product of probability and mean, which makes a small
network: analysis by D_lᵀ, threshold, W and b through a tanh, times C α, synthesis by D_h. D_l is
undercomplete with orthonormal atoms, so that α are inner products. Overlapping patches are averaged
and several levels follow one another, each on the result of the one before.

``hspan.training.fit_spmsr`` learns all of it from images. Departures: patches aren't clustered
first, and the sizes are ours, chosen by what they score.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.models._checks import check_positive, check_scale
from hspan.modules import BicubicResize, luma, move_luma


@dataclass(frozen=True, kw_only=True)
class SPMSRConfig:
    """Sizes are ours.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        patch: side of a patch, in HR pixels.
        lr_atoms: of D_l; fewer than patch².
        hr_atoms: of D_h.
        num_levels: predictions in a row.
    """

    scale: int = 2
    patch: int = 7
    lr_atoms: int = 40
    hr_atoms: int = 96
    num_levels: int = 2

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        check_scale(self.scale)
        check_positive(hr_atoms=self.hr_atoms, num_levels=self.num_levels)
        if not 1 <= self.lr_atoms < self.patch**2:
            raise UsageError(
                f"lr_atoms must lie in [1, {self.patch**2 - 1}] for patches of {self.patch}×"
                f"{self.patch} without their mean, got {self.lr_atoms}"
            )


class SPMSRLevel(nn.Module):
    """One prediction of what an enlarged luma image lacks.

    Args:
        patch: side of a patch.
        lr_atoms: L, of D_l.
        hr_atoms: H, of D_h.

    Attributes:
        analysis: [L, 1, patch, patch], the atoms of D_l.
        threshold: [L, 1, 1], above which a coefficient is in use.
        support: W and b.
        coefficients: C.
        synthesis: [H, 1, patch, patch], the atoms of D_h.
    """

    threshold: Tensor

    def __init__(self, patch: int, lr_atoms: int, hr_atoms: int) -> None:
        super().__init__()
        self.patch = patch
        self.analysis = nn.Parameter(_cosines(patch, lr_atoms).view(-1, 1, patch, patch))
        self.register_buffer("threshold", torch.full((lr_atoms, 1, 1), 0.02))
        self.support = nn.Conv2d(lr_atoms, hr_atoms, 1)
        self.coefficients = nn.Conv2d(lr_atoms, hr_atoms, 1, bias=False)
        self.synthesis = nn.Parameter(torch.randn(hr_atoms, 1, patch, patch) * 0.01)

    def forward(self, y: Tensor) -> Tensor:
        """Map luma [B, 1, H, W] to what is to be added to it."""
        edge = self.patch - 1  # so that as many patches hold a corner as any other pixel
        alpha = F.conv2d(F.pad(y, (edge,) * 4, mode="replicate"), self.analysis)
        sparse = torch.where(alpha.abs() > self.threshold, 1.0, -1.0).to(alpha.dtype)
        used = (1 + torch.tanh(self.support(sparse))) / 2
        total = F.conv_transpose2d(used * self.coefficients(alpha), self.synthesis)
        return total[..., edge:-edge, edge:-edge] / self.patch**2


class SPMSR(nn.Module):
    """Statistical prediction model on sparse representations.

    Args:
        config: sizes.
    """

    def __init__(self, config: SPMSRConfig) -> None:
        super().__init__()
        self.config = config
        self.enlarge = BicubicResize(config.scale)
        self.levels = nn.ModuleList(
            SPMSRLevel(config.patch, config.lr_atoms, config.hr_atoms)
            for _ in range(config.num_levels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        image = self.enlarge(x)
        y = luma(image)
        change = torch.zeros_like(y)
        for level in self.levels:
            change = change + level(y + change).to(y.dtype)
        return move_luma(image, change)


def _cosines(side: int, count: int) -> Tensor:
    """The lowest frequencies of the two-dimensional DCT but its mean, [count, side²]."""
    position = torch.arange(side, dtype=torch.float64)
    waves = torch.cos(torch.pi / side * torch.outer(position, position + 0.5))
    waves = waves / waves.norm(dim=1, keepdim=True)
    order = sorted((u**2 + v**2, u, v) for u in range(side) for v in range(side))
    atoms = [torch.outer(waves[u], waves[v]).flatten() for _, u, v in order[1 : count + 1]]
    return torch.stack(atoms).float()
