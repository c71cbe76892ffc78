"""Smaller numbers in an exported network: its convolutions in float16 or in 8-bit integers.

Only convolutions change, where nearly all weights and most of the work are. What lies between them
(attention, whose thresholds need float32, and the sum with the enlarged image) stays as it is, and
so do the first and the last convolution under int8: they touch the image itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hspan.errors import UsageError
from hspan.export._packages import OnnxModel, package
from hspan.imaging import images_in, read_image

_CALIBRATION_SIDE = 128  # LR pixels that are cut out of the middle of each image
_CALIBRATION_IMAGES = 32


def to_float16(proto: OnnxModel) -> None:
    """Store and run the convolutions of a model in float16, in place.

    Each gets its input converted before and its output after; runtimes merge the conversions with
    their neighbours where they compute in float16, and on processors without it they compute in
    float32 from the rounded weights.
    """
    onnx = package("onnx")
    helper, numpy_helper, types = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes: list[Any] = []
    for node in proto.graph.node:
        if node.op_type != "Conv":
            nodes.append(node)
            continue
        for name in node.input[1:]:
            tensor = initializers[name]
            if tensor.data_type == types.FLOAT:
                rounded = numpy_helper.to_array(tensor).astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(rounded, name))
        source, result = node.input[0], node.output[0]
        half_in, half_out = f"{result}_half_in", f"{result}_half_out"
        nodes.append(helper.make_node("Cast", [source], [half_in], to=types.FLOAT16))
        node.input[0], node.output[0] = half_in, half_out
        nodes.append(node)
        nodes.append(helper.make_node("Cast", [half_out], [result], to=types.FLOAT))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def to_int8(proto: OnnxModel, calibration: Path) -> OnnxModel:
    """Quantise the inner convolutions: weights per channel, activations per tensor, both 8 bits.

    Args:
        proto: a model in float32.
        calibration: folder of LR images, from which the ranges of the activations are taken.

    Raises:
        UsageError: the folder holds no images, or ONNX Runtime is missing.
        InputError: an image can't be read.
    """
    quantization = package("onnxruntime.quantization")
    images = _calibration_images(calibration)
    convolutions = [node.name for node in proto.graph.node if node.op_type == "Conv"]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(proto.SerializeToString())
        quantization.quantize_static(
            source,
            target,
            _Reader(images, proto.graph.input[0].name),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[convolutions[0], convolutions[-1]],
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )
        return package("onnx").load_from_string(target.read_bytes())


class _Reader:
    """What ONNX Runtime's calibration calls for one input after the other."""

    def __init__(self, images: Sequence[np.ndarray], name: str) -> None:
        self._left: Iterator[np.ndarray] = iter(images)
        self._name = name

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input by name; None at the end."""
        image = next(self._left, None)
        return None if image is None else {self._name: image}


def _calibration_images(folder: Path) -> list[np.ndarray]:
    """Middles of a folder's images, [1, 3, H, W] float32 in [0, 1]."""
    paths = images_in(folder) if folder.is_dir() else []
    if not paths:
        raise UsageError(f"{folder} holds no images to calibrate int8 with; name another folder")
    found: list[np.ndarray] = []
    for path in paths[:_CALIBRATION_IMAGES]:
        pixels = read_image(path).pixels
        top, left = (max(0, (side - _CALIBRATION_SIDE) // 2) for side in pixels.shape[:2])
        part = pixels[top : top + _CALIBRATION_SIDE, left : left + _CALIBRATION_SIDE]
        part = part[..., :3] if part.shape[2] >= 3 else np.repeat(part[..., :1], 3, axis=2)
        scaled = part.astype(np.float32) / np.float32(np.iinfo(part.dtype).max)
        found.append(np.ascontiguousarray(scaled.transpose(2, 0, 1)[None]))
    return found
