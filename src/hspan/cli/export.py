"""``hspan export``: a network as a file that other programs run.

``--json`` prints one object on standard output:

    output, bytes     path of the file and its size
    format            "onnx", "torch-export" or "aoti"
    model, scale      the network
    memory_linear     whether attention is a loop, without the N×N matrix
    precision         "fp32", "fp16" or "int8"
    deviations        how it compares with PyTorch on random images: height, width, largest
                      |difference| of the range [0, 1]; empty with --no-check
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from hspan.cli._settings import read_settings


class Format(str, Enum):
    """What runs the file."""

    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"
    AOTI = "aoti"


class Precision(str, Enum):
    """In which the convolutions of an ONNX file compute."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name or a file of weights.")],
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer evaluates it on Python 3.10)
        typer.Argument(help="Settings such as topk=none, where the file's must change."),
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="ONNX, or PyTorch's own formats.")
    ] = Format.ONNX,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", metavar="OUT", show_default="2x_MODEL.onnx, by scale and name"),
    ] = None,
    memory_linear: Annotated[
        bool,
        typer.Option("--memory-linear", help="Attention in a loop, without the N×N matrix."),
    ] = False,
    precision: Annotated[
        Precision, typer.Option(help="Of the convolutions (ONNX only).")
    ] = Precision.FP32,
    calibrate: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="LR images that int8 takes its ranges from."),
    ] = None,
    licence: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="TEXT", help="Licence of the weights, noted in the file."),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The network, where the weights don't say it."),
    ] = None,
    scale: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--scale", "-s", help="Where the weights don't say it."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare with PyTorch at five sizes.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = (
        False
    ),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON.")
    ] = False,
) -> None:
    """Write a network for ONNX Runtime or PyTorch's runtimes, for any height and width.

    Attention is exact: soft thresholding by Newton's iteration, without TopK or sorting.
    """
    import json
    from dataclasses import asdict

    from hspan.errors import UsageError
    from hspan.export import FORMATS, export_model
    from hspan.models import registry_name
    from hspan.weights import licence_of, load_model

    network = load_model(
        model, name=name, scale=scale, device="cpu", **read_settings(settings or [])
    )
    own_name = registry_name(network)
    own_scale = network.config.scale  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType] (every network has one)
    form = "_linear" if memory_linear else ""
    kind = "" if precision is Precision.FP32 else f"_{precision.value}"
    path = out or Path(f"{own_scale}x_{own_name}{form}{kind}{FORMATS[format.value]}")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; name another file with -o, or add --overwrite")
    result = export_model(
        network,
        path,
        format=format.value,
        memory_linear=memory_linear,
        precision=precision.value,
        calibration=calibrate,
        metadata={"licence": licence or licence_of(model, scale) or "not stated by the weights"},
        check=check,
    )
    if as_json:
        facts = {
            "output": str(result.path),
            "bytes": result.bytes,
            "format": format.value,
            "model": own_name,
            "scale": own_scale,
            "memory_linear": memory_linear,
            "precision": precision.value,
            "deviations": [asdict(deviation) for deviation in result.deviations],
        }
        print(json.dumps(facts, indent=2))
        return
    print(f"{result.path}: {own_name} ×{own_scale}, {format.value}, {result.bytes / 1e6:.1f} MB")
    for found in result.deviations:
        print(f"  {found.height}×{found.width}: differs from PyTorch by {found.largest:.1e}")
