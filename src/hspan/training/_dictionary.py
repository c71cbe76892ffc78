"""Learning SPMSR (``hspan.models.spmsr``) from images: dictionaries first, then all together.

For each level, on patches x of the enlarged luma without their mean and patches d of what it lacks:

1. D_l: orthonormal atoms for which few inner products suffice, by turns thresholding them and
   rotating the atoms to fit (Procrustes).
2. β: codes of d in a dictionary of unit atoms, by turns orthogonal matching pursuit and least
   squares for the atoms (method of optimal directions).
3. W, b: logistic regression of which HR atoms are in use on which LR atoms are.
   C: least squares of the HR coefficients in use on the LR coefficients.
   D_h: least squares of d on the β that these predict, which are shrunk by their probabilities.
4. All of them but the pattern of D_l by gradient descent on the error of the predicted patches,
   which is what counts; the statistics before are where it starts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hspan.models.spmsr import SPMSR, SPMSRLevel
from hspan.modules import luma

_ROUNDS = 15  # of both dictionaries' alternations
_LR_USED = 0.35  # share of the LR coefficients above the threshold
_HR_USED = 3  # atoms of a difference patch
_RIDGE = 1e-4
_BATCH = 4096


def fit_spmsr(
    network: SPMSR,
    lr: Tensor,
    hr: Tensor,
    *,
    samples: int = 100_000,
    steps: int = 3000,
    seed: int = 0,
) -> None:
    """Learn all levels of a network, in place.

    Args:
        network: of any sizes; what it held is lost.
        lr: [B, 3, h, w], RGB in [0, 1].
        hr: [B, 3, scale·h, scale·w], likewise.
        samples: patches to learn from, at most.
        steps: of gradient descent for each level; 0 leaves that to a training run.
        seed: chooses the patches.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        y, target = luma(network.enlarge(lr)), luma(hr)
    for level in network.levels:
        assert isinstance(level, SPMSRLevel)
        x, d = _patches(y, target - y, level.patch, samples, generator)
        with torch.no_grad():
            _start(level, x, d, generator)
        _descend(level, x, d, steps, generator)
        with torch.no_grad():
            y = torch.cat([part + level(part) for part in y.split(1)])


def _patches(
    y: Tensor, difference: Tensor, side: int, samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw patches at the same places of both: [N, side²] each, the first without their mean."""
    count = len(y) * (y.shape[2] - side + 1) * (y.shape[3] - side + 1)
    places = torch.randint(count, (min(samples, count),), generator=generator)
    drawn: list[Tensor] = []
    for source in (y, difference):
        windows = source[:, 0].unfold(1, side, 1).unfold(2, side, 1)  # [B, rows, columns, s, s]
        rows, columns = windows.shape[1:3]
        image = places // (rows * columns)
        drawn.append(windows[image, places // columns % rows, places % columns].flatten(1))
    x, d = drawn
    return x - x.mean(1, keepdim=True), d


def _start(level: SPMSRLevel, x: Tensor, d: Tensor, generator: torch.Generator) -> None:
    """Steps 1 to 3."""
    side = level.patch
    atoms, threshold = _orthonormal(x, level.analysis.shape[0])
    alpha = x @ atoms
    sparse = torch.where(alpha.abs() > threshold, 1.0, -1.0)
    beta = _sparse_codes(d, level.synthesis.shape[0], generator)
    used = beta != 0
    weight, bias = _logistic(sparse, used)
    mean = _conditional_mean(alpha, beta, used)
    level.analysis.copy_(atoms.T.view(-1, 1, side, side))
    level.threshold.fill_(threshold)
    level.support.weight.copy_(weight[..., None, None])
    assert level.support.bias is not None
    level.support.bias.copy_(bias)
    level.coefficients.weight.copy_(mean[..., None, None])
    predicted = (1 + torch.tanh(sparse @ weight.T + bias)) / 2 * (alpha @ mean.T)
    level.synthesis.copy_(_least_squares(predicted, d).view(-1, 1, side, side))


def _orthonormal(x: Tensor, count: int) -> tuple[Tensor, float]:
    """Step 1: [side², count] with orthonormal columns, and the threshold of coefficients."""
    atoms = torch.linalg.eigh(x.T @ x).eigenvectors[:, -count:]
    threshold = 0.0
    for _ in range(_ROUNDS):
        alpha = x @ atoms
        threshold = float(
            alpha.abs().flatten()[:: 1 + alpha.numel() // 1_000_000].quantile(1 - _LR_USED)
        )
        left, _, right = torch.linalg.svd(x.T @ F.hardshrink(alpha, threshold), full_matrices=False)
        atoms = left @ right
    return atoms, threshold


def _sparse_codes(d: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Step 2: codes [N, count] of a dictionary that is learned beside them."""
    lively = d.norm(dim=1).topk(min(len(d), 20 * count)).indices
    atoms = d[lively[torch.randperm(len(lively), generator=generator)[:count]]]
    if len(atoms) < count:
        atoms = torch.cat([atoms, torch.randn(count - len(atoms), d.shape[1], generator=generator)])
    atoms = F.normalize(atoms, dim=1)
    for _ in range(_ROUNDS):
        atoms = F.normalize(_least_squares(_pursue(d, atoms), d), dim=1)
    return _pursue(d, atoms)


def _pursue(d: Tensor, atoms: Tensor) -> Tensor:
    """Orthogonal matching pursuit with ``_HR_USED`` atoms: codes [N, count]."""
    chosen = torch.empty(len(d), 0, dtype=torch.int64)
    codes = torch.empty(len(d), 0)
    rest = d
    eye = _RIDGE * torch.eye(_HR_USED)
    for step in range(1, min(_HR_USED, len(atoms)) + 1):
        score = (rest @ atoms.T).abs().scatter(1, chosen, -1.0)
        chosen = torch.cat([chosen, score.argmax(1, keepdim=True)], dim=1)
        basis = atoms[chosen]  # [N, step, side²]
        gram = basis @ basis.transpose(1, 2) + eye[:step, :step]
        codes = torch.linalg.solve(gram, basis @ d.unsqueeze(-1)).squeeze(-1)
        rest = d - (codes.unsqueeze(1) @ basis).squeeze(1)
    return torch.zeros(len(d), len(atoms)).scatter(1, chosen, codes)


def _least_squares(codes: Tensor, d: Tensor) -> Tensor:
    """The dictionary [count, side²] with which codes [N, count] best give d [N, side²]."""
    gram = codes.T @ codes
    ridge = _RIDGE * gram.diagonal().mean().clamp(min=1e-12)
    return torch.linalg.solve(gram + ridge * torch.eye(len(gram)), codes.T @ d)


def _logistic(sparse: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Step 3, W [H, L] and b [H]: gradient steps whose length the curvature bounds."""
    signs = torch.where(used, 1.0, -1.0)
    inputs = F.pad(sparse, (0, 1), value=1.0)
    weight = torch.zeros(used.shape[1], inputs.shape[1])
    weight[:, -1] = signs.mean(0).clamp(-0.999, 0.999).atanh()
    curvature = torch.linalg.matrix_norm(inputs.T @ inputs / len(inputs), 2)
    for _ in range(50):
        slope = (signs - torch.tanh(inputs @ weight.T)).T @ inputs / len(inputs)
        weight += slope / curvature
    return weight[:, :-1], weight[:, -1]


def _conditional_mean(alpha: Tensor, beta: Tensor, used: Tensor) -> Tensor:
    """Step 3, C [H, L]: for each HR atom, least squares over the patches that use it."""
    rows: list[Tensor] = []
    for j in range(beta.shape[1]):
        own = used[:, j]
        rows.append(_least_squares(alpha[own], beta[own, j : j + 1]).squeeze(1))
    return torch.stack(rows)


def _descend(
    level: SPMSRLevel, x: Tensor, d: Tensor, steps: int, generator: torch.Generator
) -> None:
    """Step 4, on patches alone: averaging them is linear."""
    parameters = list(level.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(steps):
        chosen = torch.randint(len(x), (_BATCH,), generator=generator)
        given, wanted = x[chosen], d[chosen]
        alpha = given @ level.analysis.flatten(1).T
        sparse = torch.where(alpha.abs() > level.threshold.flatten(), 1.0, -1.0)
        used = (
            1 + torch.tanh(F.linear(sparse, level.support.weight.flatten(1), level.support.bias))
        ) / 2
        beta = used * F.linear(alpha, level.coefficients.weight.flatten(1))
        loss = F.mse_loss(beta @ level.synthesis.flatten(1), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
