"""Graphs from patches of an image to alike patches of the same image made smaller (IGNN, 2020).

PatchGraph            the k nearest patches, and how they differ
PatchGraph.aggregate  what stands in place of a neighbour at full size, brought to the query's own
                      mean and deviation, its overlaps averaged

Patches are of 3 × 3 positions at every second position, with zeros after the last row and column
where they don't fit otherwise. At full size a neighbour has s × s values for each position, which
are channels here: nothing is laid out at full size but what is returned.

Shapes: B batch, C channels, m patches of the image (queries), n patches of the smaller one.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_SIDE = 3
_STRIDE = 2
_WINDOW = 30  # patches per side of the neighbourhood that is searched where there are more
_DEVIATION_FLOOR = 1e-5  # added to variances (code)
_DISTANCES = 2**23  # at hand at once: 32 MiB of float32


def patches_along(side: int) -> int:
    """How many patches fit a row of ``side`` positions and the zeros after it."""
    return max(0, -(-(side - _SIDE) // _STRIDE) + 1)


class PatchGraph:
    """The k nearest neighbours of an image's patches.

    Args:
        features: [B, C, H, W] that are compared, of the image.
        smaller: [B, C, ⌊H/s⌋, ⌊W/s⌋], of the image made s times smaller.
        neighbours: k.
        scale: s.
    """

    def __init__(self, features: Tensor, smaller: Tensor, neighbours: int, scale: int) -> None:
        self.scale = scale
        self.size = features.shape[-2], features.shape[-1]
        query = _patches(features).transpose(1, 2)  # [B, m, 9·C]
        key = _patches(smaller).transpose(1, 2)  # [B, n, 9·C]
        rows, columns = map(patches_along, smaller.shape[-2:])
        small = rows <= _WINDOW and columns <= _WINDOW
        # A strip so narrow that a square in it holds fewer keys than are wanted has few in all.
        if small or min(rows, columns) ** 2 < neighbours:
            found = _nearest(query, key, neighbours)
        else:
            grid = tuple(map(patches_along, self.size))
            found = _nearest_in_window(query, key, grid, (rows, columns), neighbours, scale)
        self.index = found.unbind(dim=2)  # k of [B, m]
        self._query, self._key = query, key

    def differences(self) -> list[Tensor]:
        """Absolute differences to each neighbour, summed over a patch: k of [B, C, H, W]."""
        found: list[Tensor] = []
        for index in self.index:
            neighbour = self._key.gather(1, index.unsqueeze(2).expand_as(self._query))
            difference = (self._query - neighbour).abs().unflatten(2, (-1, _SIDE**2)).sum(dim=3)
            same = difference.repeat_interleave(_SIDE**2, dim=2)
            found.append(_image(same.transpose(1, 2), self.size))
        return found

    def aggregate(self, x: Tensor, index: Tensor) -> Tensor:
        """Enlarge features with one neighbour of every patch.

        Args:
            x: [B, C, H, W].
            index: one of ``index``.

        Returns:
            [B, C, s·H, s·W].
        """
        s = self.scale
        height, width = (side - side % s for side in self.size)
        key = _patches(F.pixel_unshuffle(x[..., :height, :width], s))
        key = key.unflatten(1, (x.shape[1], -1)).permute(0, 3, 1, 2)  # [B, n, C, 9·s²]
        query = _patches(x).unflatten(1, (x.shape[1], -1)).permute(0, 3, 1, 2)  # [B, m, C, 9]
        mean, deviation = _moments(key)
        key = ((key - mean) / deviation).flatten(2)  # [B, n, 9·s²·C]
        found = key.gather(1, index.unsqueeze(2).expand(-1, -1, key.shape[2]))
        mean, deviation = _moments(query)
        found = found.unflatten(2, (x.shape[1], -1)) * deviation + mean  # [B, m, C, 9·s²]
        return F.pixel_shuffle(_image(found.flatten(2).transpose(1, 2), self.size), s)


def _patches(x: Tensor) -> Tensor:
    """[B, C, H, W] to [B, 9·C, patches]."""
    missing = [(patches_along(side) - 1) * _STRIDE + _SIDE - side for side in x.shape[-2:]]
    return F.unfold(F.pad(x, (0, missing[1], 0, missing[0])), _SIDE, stride=_STRIDE)


def _image(patches: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, 9·C, patches] to [B, C, H, W]: where patches overlap, their mean."""
    height, width = ((patches_along(side) - 1) * _STRIDE + _SIDE for side in size)
    padded = height, width
    total = F.fold(patches, padded, _SIDE, stride=_STRIDE)
    counts = F.fold(torch.ones_like(patches[:1, : _SIDE**2]), padded, _SIDE, stride=_STRIDE)
    return (total / counts)[..., : size[0], : size[1]]


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the last dimension, kept as 1."""
    variance = rows.var(dim=-1, keepdim=True) + _DEVIATION_FLOOR
    return rows.mean(dim=-1, keepdim=True), variance.sqrt()


def _distances(query: Tensor, key: Tensor) -> Tensor:
    """Squared distances [B, m, n] of [B, m, 9·C] and [B, n, 9·C]."""
    distances = -2 * (query @ key.transpose(1, 2))
    distances += query.square().sum(dim=2).unsqueeze(2)
    distances += key.square().sum(dim=2).unsqueeze(1)
    return distances


def _nearest(query: Tensor, key: Tensor, neighbours: int) -> Tensor:
    """Indices of the nearest keys, nearest first: [B, m, k]."""
    step = max(1, _DISTANCES // (query.shape[0] * key.shape[1]))
    parts = (_distances(part, key) for part in query.split(step, dim=1))
    found = [part.topk(neighbours, dim=2, largest=False).indices for part in parts]
    return torch.cat(found, dim=1)


def _nearest_in_window(
    query: Tensor,
    key: Tensor,
    grid: tuple[int, ...],
    key_grid: tuple[int, int],
    neighbours: int,
    scale: int,
) -> Tensor:
    """The same among the keys around a query's own place, a square of them; [B, m, k].

    The square starts half the query's row (whatever the scale) less window/scale rows down, moved
    into the image where it would leave it; columns likewise.
    """
    window = min(_WINDOW, *key_grid)
    tops, lefts = (
        [min(max(i // 2 - window // scale, 0), keys - window) for i in range(size)]
        for size, keys in zip(grid, key_grid, strict=True)
    )
    left = torch.tensor(lefts, device=query.device).unsqueeze(1)
    taken = left + torch.arange(window, device=query.device)  # [m columns, window]
    query = query.unflatten(1, grid)
    key = key.unflatten(1, key_grid)
    found: list[Tensor] = []
    for row, top in enumerate(tops):
        strip = key[:, top : top + window]
        distances = _distances(query[:, row], strip.flatten(1, 2))
        distances = distances.unflatten(2, (window, -1)).transpose(2, 3)  # [B, m c., n c., window]
        index = taken[None, :, :, None].expand(len(query), -1, -1, window)
        nearest = distances.gather(2, index).flatten(2).topk(neighbours, dim=2, largest=False)
        place = nearest.indices
        found.append((top + place % window) * key_grid[1] + left + place // window)
    return torch.cat(found, dim=1)
