"""Where the tokens of an attention lie on the LR image, in LR pixels.

x counts columns from the left, y rows from the top, both from 0; pixel (x, y) covers the square
from (x, y) to (x + 1, y + 1). Tokens count row by row, as everywhere in this package.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

_PADDED = 64  # pixels that a network may append on the right and below before its features are odd


@dataclass(frozen=True)
class Rectangle:
    """A part of the LR image, in LR pixels; below 1 pixel where features are larger than it."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        """Its middle, x and y."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True)
class TokenGrid:
    """Tokens in rows and columns, each a square of ``cell`` LR pixels a side.

    Attributes:
        rows: of tokens.
        columns: of tokens.
        cell: LR pixels per side of a token: a patch's side, 1 where tokens are single pixels,
            below 1 where the features are larger than the image.
        image: height and width of the LR image; tokens may reach beyond it where it was padded.
        left: of the first token, in LR pixels.
        top: likewise.
    """

    rows: int
    columns: int
    cell: float
    image: tuple[int, int]
    left: float = 0.0
    top: float = 0.0

    def __len__(self) -> int:
        """Number of tokens."""
        return self.rows * self.columns

    def rectangle(self, index: int) -> Rectangle:
        """What a token covers, cut at the image's border; of no size if it lies in the padding."""
        row, column = divmod(index, self.columns)
        x, y = self.left + column * self.cell, self.top + row * self.cell
        height, width = self.image
        return Rectangle(
            x=min(x, width),
            y=min(y, height),
            width=max(0.0, min(x + self.cell, width) - x),
            height=max(0.0, min(y + self.cell, height) - y),
        )

    def token_at(self, x: int, y: int) -> int | None:
        """The token that holds a pixel's middle, None if the pixel lies outside of all."""
        column = int((x + 0.5 - self.left) // self.cell)
        row = int((y + 0.5 - self.top) // self.cell)
        if not (0 <= row < self.rows and 0 <= column < self.columns):
            return None
        return row * self.columns + column

    def centres(self, indices: Tensor | None = None) -> Tensor:
        """Middles of tokens (None: all), x and y, whole tokens whatever the border: [n, 2]."""
        if indices is None:
            indices = torch.arange(len(self))
        rows, columns = indices.div(self.columns, rounding_mode="floor"), indices % self.columns
        x = self.left + (columns + 0.5) * self.cell
        y = self.top + (rows + 0.5) * self.cell
        return torch.stack([x, y], dim=-1).float()

    def grouped(self, side: int, *, whole: bool) -> TokenGrid:
        """Tokens of side × side of these, the last ones cut off where ``whole`` ones are asked."""
        rows, columns = (
            count // side if whole else -(-count // side) for count in (self.rows, self.columns)
        )
        return replace(self, rows=rows, columns=columns, cell=self.cell * side)


def grid_of(features: tuple[int, int], image: tuple[int, int]) -> TokenGrid | None:
    """How features lie on the image that they were computed from.

    Args:
        features: height and width.
        image: height and width of the LR image.

    Returns:
        A grid of a token per position, where the features are of the image's size, a whole number
        of times larger or smaller, or larger by padding on the right and below, as this package's
        networks pad; None where they fit in no such way.
    """
    (rows, columns), (height, width) = features, image
    if features == image:
        return TokenGrid(rows, columns, 1.0, image)
    for times in range(2, 17):
        if (rows, columns) == (height * times, width * times):
            return TokenGrid(rows, columns, 1 / times, image)
        if (rows, columns) == (-(-height // times), -(-width // times)):
            return TokenGrid(rows, columns, float(times), image)
    if 0 <= rows - height < _PADDED and 0 <= columns - width < _PADDED:
        return TokenGrid(rows, columns, 1.0, image)
    return None
