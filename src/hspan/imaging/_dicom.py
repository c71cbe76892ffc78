"""DICOM through pydicom: a derived image of the same body with more pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hspan.errors import InputError
from hspan.imaging._layers import (
    ROWS,
    Range,
    measure_range,
    measured_layer,
    measured_rows,
    missing,
)
from hspan.imaging._picture import ImageInfo, Picture

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


class DicomLayers:
    """The frames of a grey DICOM file, each by itself; the file is in memory."""

    def __init__(self, path: Path) -> None:
        try:
            import pydicom
            from pydicom.errors import InvalidDicomError
        except ImportError as error:
            raise missing(path, "DICOM", "science") from error
        self.path = path
        try:
            self._set: Any = pydicom.dcmread(path)
        except (InvalidDicomError, OSError, EOFError, ValueError) as error:
            raise InputError(f"{path} can't be read as DICOM: {error}") from error
        if "PixelData" not in self._set:
            raise InputError(f"{path} is DICOM without an image of whole numbers")
        if self._set.SamplesPerPixel != 1 or "PerFrameFunctionalGroupsSequence" in self._set:
            raise InputError(
                f"{path} is DICOM in colour or of the enhanced kind: convert it to grey first"
            )
        self._padding: int | None = self._set.get("PixelPaddingValue")
        self._ranges: dict[int, Range] = {}
        self._frames: np.ndarray | None = None
        self.info = ImageInfo(
            width=int(self._set.Columns),
            height=int(self._set.Rows),
            channels=1 if self._padding is None else 2,
            dtype=np.dtype(np.float32),
            pages=int(self._set.get("NumberOfFrames", 1) or 1),
            format="DICOM",
        )

    def layer(self, index: int, scratch: Path) -> Picture:
        """As in ``Layers``."""
        blocks, size = self._blocks(index), (self.info.height, self.info.width)
        span = self._ranges[index] = measure_range(self.path, blocks)
        return measured_layer(blocks, size, span, self._padding is not None, scratch)

    def write(self, path: Path, results: Sequence[Picture]) -> None:
        """As in ``Layers``."""
        from pydicom.uid import UID, generate_uid

        frames = self._pixels()
        scale = results[0].width // self.info.width
        parts: list[bytes] = []
        for index, result in enumerate(results):
            span = self._ranges.get(index) or measure_range(self.path, self._blocks(index))
            rows = measured_rows(result, span, frames.dtype, self._padding)
            parts += [values.tobytes() for _, values in rows]
        data = b"".join(parts)
        changed = self._set
        changed.PixelData = data + bytes(len(data) % 2)
        changed["PixelData"].VR = "OW" if frames.itemsize > 1 else "OB"
        changed.Rows, changed.Columns = results[0].height, results[0].width
        self._move_first_pixel(scale)
        for name in _SPACINGS:
            if name in changed:
                setattr(changed, name, [float(step) / scale for step in changed.get(name)])
        for name in ("SmallestImagePixelValue", "LargestImagePixelValue"):
            if name in changed:
                delattr(changed, name)
        for element in [e.tag for e in changed if 0x6000 <= e.tag.group <= 0x60FF]:
            del changed[element]  # overlays are drawn on the old pixels
        # A derived image is one of its own, and says so.
        kind = list(changed.get("ImageType", [])) or ["DERIVED", "SECONDARY"]
        changed.ImageType = ["DERIVED", *kind[1:]]
        changed.DerivationDescription = f"upscaled {scale} times by hspan"
        changed.SOPInstanceUID = generate_uid()
        changed.file_meta.MediaStorageSOPInstanceUID = changed.SOPInstanceUID
        changed.file_meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE_ENDIAN)
        changed.save_as(path, enforce_file_format=True)

    def close(self) -> None:
        """As in ``Layers``."""
        self._frames = None

    def _move_first_pixel(self, scale: int) -> None:
        """ImagePositionPatient names the centre of the first pixel, which is smaller now."""
        data = self._set
        needed = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        if not all(name in data for name in needed):
            return
        position = np.array(data.ImagePositionPatient, float)
        along = np.array(data.ImageOrientationPatient, float).reshape(2, 3)
        down, right = (float(step) for step in data.PixelSpacing)
        shift = (1 / scale - 1) / 2
        position += shift * (along[0] * right + along[1] * down)
        data.ImagePositionPatient = [f"{value:.10g}" for value in position]

    def _pixels(self) -> np.ndarray:
        """[frames, H, W]."""
        if self._frames is None:
            try:
                found = self._set.pixel_array
            except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"{self.path} holds pixels that can't be decoded: {error}"
                ) from error
            self._frames = np.asarray(found).reshape(-1, self.info.height, self.info.width)
        return self._frames

    def _blocks(self, index: int) -> Callable[[], Iterable[tuple[np.ndarray, np.ndarray | None]]]:
        frame = self._pixels()[index]

        def read() -> Iterable[tuple[np.ndarray, np.ndarray | None]]:
            for row in range(0, len(frame), ROWS):
                values = frame[row : row + ROWS]
                yield values, None if self._padding is None else values != self._padding

        return read
