"""One call for all formats: network in, checked file out."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hspan._version import __version__
from hspan._whole_files import new_file
from hspan.errors import HspanError, InputError, UsageError
from hspan.export._check import (
    SIZES,
    TOLERANCE,
    Deviation,
    Run,
    deviations,
    onnx_runner,
    require_within,
)
from hspan.export._onnx import onnx_model, set_metadata, write_onnx
from hspan.export._program import opened, trace
from hspan.export._quantize import to_float16, to_int8
from hspan.models import config_dict, registry_name

FORMATS = {"onnx": ".onnx", "torch-export": ".pt2", "aoti": ".pt2"}
"""Formats and the suffixes of their files."""

PRECISIONS = ("fp32", "fp16", "int8")
"""In which the convolutions of an ONNX file compute."""

# float16 keeps 11 bits: of a detail that is a fraction of the range, less than a grey level goes.
# What int8 costs depends on the network; its deviations are only reported.
_TOLERANCES = {"fp32": TOLERANCE, "fp16": 1e-2, "int8": float("inf")}


@dataclass(frozen=True)
class Exported:
    """What was written, and how it compares with the network."""

    path: Path
    bytes: int
    deviations: list[Deviation]  # empty without a check


def export_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    format: str = "onnx",
    memory_linear: bool = False,
    precision: str = "fp32",
    calibration: str | os.PathLike[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    check: bool = True,
) -> Exported:
    """Write a network as a program for any height and width, and compare the two.

    Args:
        model: a network of the registry in eval mode on the processor, its attention exact
            (``topk=None``).
        path: ends in the format's suffix (``FORMATS``); an existing file is replaced.
        format: "onnx" (opset 20); "torch-export", a program of PyTorch's own operators, loaded by
            ``torch.export.load``; or "aoti", compiled for this machine's processor, loaded by
            ``torch._inductor.aoti_load_package`` and from C++.
        memory_linear: attention group by group instead of on the N×N matrix: in ONNX as a loop, in
            a torch-export program as hspan's own operator, for which ``import hspan.ops`` must
            come before loading. AOTInductor has no such form.
        precision: "fp32", or for ONNX "fp16" or "int8" convolutions.
        calibration: folder of LR images, needed for int8.
        metadata: further entries of the file, such as ``licence``.
        check: compare the program with the network at ``SIZES``; in float32 they may differ by
            ``TOLERANCE`` of the range.

    Returns:
        The path, its size and the deviations.

    Raises:
        UsageError: unknown format or precision, a combination that there isn't, a missing
            package, or a network that can't be exported as it is.
        InputError: the file can't be written, or a calibration image can't be read.
        HspanError: the network can't be traced, or the program isn't equal to it.
    """
    path = Path(path)
    _check_call(model, path, format, memory_linear, precision, calibration)
    if format == "onnx":
        proto = onnx_model(model, memory_linear=memory_linear, metadata=metadata)
        if precision == "fp16":
            to_float16(proto)
        elif precision == "int8":
            assert calibration is not None  # checked above
            proto = to_int8(proto, Path(calibration))
        set_metadata(proto, {"precision": precision})
        run = onnx_runner(proto.SerializeToString()) if check else None
        found = _compared(run, model, precision)
        write_onnx(proto, path)
    elif format == "torch-export":
        found = _export_program(model, path, memory_linear, metadata or {}, check)
    else:
        found = _compile_package(model, path, check)
    return Exported(path, path.stat().st_size, found)


def _compared(run: Run | None, model: nn.Module, precision: str) -> list[Deviation]:
    if run is None:
        return []
    found = deviations(run, model, SIZES)
    require_within(found, _TOLERANCES[precision])
    return found


def _export_program(
    model: nn.Module, path: Path, memory_linear: bool, metadata: Mapping[str, str], check: bool
) -> list[Deviation]:
    program = trace(model)
    if not memory_linear:
        program = opened(program)
    run = program.module() if check else None
    found = _compared(_from_module(run), model, "fp32") if run else []
    entries = {
        "hspan.model": registry_name(model),
        "hspan.config": json.dumps(config_dict(model), sort_keys=True),
        "hspan.version": __version__,
        **metadata,
    }
    with new_file(path, suffix=path.suffix) as temporary:
        torch.export.save(program, temporary, extra_files={"metadata.json": json.dumps(entries)})
    return found


def _compile_package(model: nn.Module, path: Path, check: bool) -> list[Deviation]:
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    program = opened(trace(model))
    try:
        with new_file(path, suffix=path.suffix) as temporary:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                aoti_compile_and_package(program, package_path=str(temporary))
            if not check:
                return []
            return _compared(_from_module(aoti_load_package(str(temporary))), model, "fp32")
    except HspanError:
        raise
    except Exception as error:  # the compiler's, of a dozen kinds
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
        raise HspanError(
            f"AOTInductor can't compile {registry_name(model)}: {reason} (it needs a C++ compiler)"
        ) from error


def _from_module(module: object) -> Run:
    def run(image: np.ndarray) -> np.ndarray:
        try:
            with torch.no_grad():
                return module(torch.from_numpy(image)).numpy()  # pyright: ignore
        except (AssertionError, RuntimeError) as error:  # a condition on sizes that doesn't hold
            reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
            size = f"{image.shape[2]}×{image.shape[3]}"
            raise HspanError(
                f"the exported program can't take an image of {size} pixels: {reason}"
            ) from error

    return run


def _check_call(
    model: nn.Module,
    path: Path,
    format: str,
    memory_linear: bool,
    precision: str,
    calibration: str | os.PathLike[str] | None,
) -> None:
    if format not in FORMATS:
        raise UsageError(f"format must be {', '.join(FORMATS)}, got {format!r}")
    if precision not in PRECISIONS:
        raise UsageError(f"precision must be {', '.join(PRECISIONS)}, got {precision!r}")
    if path.suffix != FORMATS[format]:
        raise UsageError(f"{path}: files of the format {format} end in {FORMATS[format]}")
    if precision != "fp32" and format != "onnx":
        raise UsageError(f"{precision} is only for ONNX: leave the precision out for {format}")
    if precision == "int8" and calibration is None:
        raise UsageError(
            "int8 takes its ranges from images: name a folder of LR images to calibrate with"
        )
    if memory_linear and format == "aoti":
        raise UsageError("AOTInductor has no memory-linear form: export to onnx or torch-export")
    if memory_linear and precision == "int8":
        raise UsageError("int8 can't be had with the memory-linear form: choose fp16 or fp32")
    if not path.parent.is_dir():
        raise InputError(f"can't write {path}: there is no folder {path.parent}")
    if any(p.device.type != "cpu" for p in model.parameters()):
        raise UsageError("export takes a network on the processor: call model.cpu() first")
