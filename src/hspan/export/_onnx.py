"""A network as one ONNX file for any height and width, with everything that a reader must know."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hspan._version import __version__
from hspan._whole_files import write_bytes
from hspan.errors import HspanError, UsageError
from hspan.export._onnx_functions import DOMAIN, OPSET, attention_functions
from hspan.export._packages import OnnxModel, package
from hspan.export._program import decomposed, trace
from hspan.models import config_dict, registry_name

INPUT, OUTPUT = "image", "upscaled"

_IR_VERSION = 9  # of opset 20: what ONNX Runtime 1.17 and newer reads


def onnx_model(
    model: nn.Module, *, memory_linear: bool = False, metadata: Mapping[str, str] | None = None
) -> OnnxModel:
    """Turn a network into an ONNX model of opset 20.

    Input ``image`` [1, 3, height, width], output ``upscaled`` [1, 3, s·height, s·width], both RGB
    in [0, 1] (the output isn't clipped), float32.

    Args:
        model: a network of the registry in eval mode, its attention exact (``topk=None``).
        memory_linear: attention as a loop over groups of queries that ends by itself, instead of
            a fixed number of steps on the N×N matrix: needs a runtime with Loop and Scan.
        metadata: further entries of the file's metadata, such as ``licence``; each replaces an
            entry of its name.

    Returns:
        The model, whose metadata holds ``hspan.model``, ``hspan.config`` (JSON), ``scale`` and
        ``hspan.version``.

    Raises:
        UsageError: the attention is truncated, or a package of the extra is missing.
        HspanError: the network depends on the size's value, or on what ONNX doesn't have.
    """
    package("onnx")
    package("onnxscript")
    name = registry_name(model)
    program = trace(model)
    try:
        proto = _translated(decomposed(program, _as_functions()))
    except Exception as error:  # of torch and onnxscript: they can't express an operator
        reason = str(error).split("\x1b")[0].strip().splitlines() or ["no reason given"]
        raise HspanError(f"{name} can't be written as ONNX: {reason[0][:200]}") from error
    if any(node.domain == DOMAIN for node in proto.graph.node):
        proto.functions.extend(attention_functions(memory_linear=memory_linear))
    _clean(proto, scale := int(model.config.scale))  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue] (every network has one)
    proto.producer_name, proto.producer_version = "hspan", __version__
    proto.graph.name = name
    entries = {
        "hspan.model": name,
        "hspan.config": json.dumps(config_dict(model), sort_keys=True),
        "hspan.version": __version__,
        "scale": str(scale),
        "attention": "loop over groups of queries" if memory_linear else "fixed steps",
        **(metadata or {}),
    }
    set_metadata(proto, entries)
    return proto


def write_onnx(proto: OnnxModel, path: Path) -> None:
    """Write a checked model under its name only when it is complete.

    Raises:
        UsageError: the path doesn't end in ``.onnx``.
        InputError: it can't be written.
    """
    if path.suffix != ".onnx":
        raise UsageError(f"{path}: ONNX files end in .onnx")
    package("onnx").checker.check_model(proto)
    write_bytes(path, proto.SerializeToString())


def set_metadata(proto: OnnxModel, entries: Mapping[str, str]) -> None:
    """Add entries to the file's metadata, in the place of those of the same names."""
    kept = {entry.key: entry.value for entry in proto.metadata_props}
    del proto.metadata_props[:]
    for key, value in {**kept, **entries}.items():
        proto.metadata_props.add(key=key, value=value)


def _as_functions() -> dict[Any, Any]:
    """Attention and soft thresholding as nodes that refer to functions in the file."""

    def call(name: str, inputs: tuple[Tensor, ...], like: Tensor, *shape: Any) -> Tensor:
        return torch.onnx.ops.symbolic(
            f"{DOMAIN}::{name}", inputs, dtype=like.dtype, shape=shape, version=1
        )

    def soft_threshold(scores: Tensor, dim: int, topk: int | None) -> Tensor:
        rows = scores.movedim(dim, -1)
        return call("SoftThreshold", (rows,), scores, *rows.shape).movedim(-1, dim)

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        topk: int | None,
        width: int,
        keep: bool,
        backend: str,
    ) -> tuple[Tensor, Tensor, Tensor]:
        shape = query.shape[0], query.shape[1], value.shape[2]
        mixed = call("Attention", (query, key, value), value, *shape)
        # Only the backward pass reads the other two.
        return mixed, query[..., :2], query.new_zeros(0, dtype=torch.uint8)

    return {
        torch.ops.hspan.soft_threshold.default: soft_threshold,
        torch.ops.hspan.attention.default: attention,
    }


def _translated(program: torch.export.ExportedProgram) -> OnnxModel:
    # The exporter warns of its own code, and of torchvision, which nothing here needs.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert exported is not None  # only the old exporter returns None
    return exported.model_proto


def _clean(proto: OnnxModel, scale: int) -> None:
    """Leave out what the exporter notes for itself (paths of source files among it), name sizes."""
    proto.ir_version = _IR_VERSION
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    for part in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
    for value, names in (
        (proto.graph.input[0], ("height", "width")),
        (proto.graph.output[0], (f"{scale}*height", f"{scale}*width")),
    ):
        for dim, name in zip(value.type.tensor_type.shape.dim[2:], names, strict=True):
            dim.dim_param = name
