"""From a name or a file to a network in eval mode."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from hspan.errors import UsageError, WeightsError
from hspan.hardware import choose_device
from hspan.models import MODELS, create_model, network_entry, repeat_changes
from hspan.weights._bounds import bounded_by
from hspan.weights._container import Checkpoint, read_checkpoint
from hspan.weights._hash import content_hash
from hspan.weights._shipped import ShippedWeight, shipped_weights
from hspan.weights.official import recognise

_LISTED = 4  # keys named per kind of difference


def load_model(
    source: str | PathLike[str],
    *,
    name: str | None = None,
    scale: int | None = None,
    device: str = "auto",
    **config: Any,
) -> nn.Module:
    """Build a network and fill it with trained weights, all of them or none.

    Args:
        source: a shipped weight's name (``hspan-light``, for which ``scale`` chooses; or
            ``2x_hspan-light``), the name of a network without weights (``bicubic``), a
            ``.safetensors`` file written by ``save_model``, an official ``.pt``, ``.pth`` or
            ``.mat`` of a network in the paper, or any checkpoint whose keys fit the network that
            ``name`` and ``scale`` describe. Files are told apart by content. Wrappers
            (``params_ema``, ``params``, ``state_dict``, ``model``, ``net``) and prefixes
            (``module.``) are removed.
        name: the registry's name of the network, where the file doesn't say it.
        scale: where the source doesn't say it, or its weights serve every scale (VDSR); 2, or the
            only one there is, for a shipped name.
        device: "auto" (CUDA, then Apple's GPU, then the processor) or what torch calls it.
        config: settings that the file can't tell (``residual_scale`` of an official checkpoint)
            or that may be changed after training (``topk``).

    Returns:
        The network in eval mode, in float32: [B, 3, H, W] RGB in [0, 1] → [B, 3, sH, sW]. An
        official HSPAN computes what the authors' released program computes (``topk=None``).

    Raises:
        UsageError: no such network, configuration key or device, no weights of this network and
            scale are shipped, or ``name`` or ``scale`` contradicts the source.
        InputError: the file is missing or unreadable.
        WeightsError: the file is damaged, foreign or doesn't fit, with the differences.
    """
    target = choose_device(device)
    if isinstance(source, str) and not Path(source).is_file():
        if source in MODELS and not MODELS[source].trained:
            _agree(source, "network", source, name)
            options = config if scale is None else {"scale": scale, **config}
            return create_model(source, **options).eval().to(target)
        shipped = shipped_weight(source, scale)
        if shipped is not None:
            source = shipped.path
    path = Path(source)
    network = _filled(read_checkpoint(path), str(source), name, scale, config)
    return network.eval().to(target)


def shipped_weight(source: str, scale: int | None) -> ShippedWeight | None:
    """The shipped weight of that name; None if the source must be a path."""
    available = shipped_weights()
    if source in available:
        return available[source]
    scales = {w.scale: w for w in available.values() if w.model == source and w.kind == "BI"}
    if scale is None and scales:
        return scales.get(2) or next(iter(scales.values()))
    if scale in scales:
        return scales[scale]
    if source in MODELS:
        offered = ", ".join(f"{w.model} ×{w.scale} ({w.kind})" for w in available.values())
        wanted = source if scale is None else f"{source} ×{scale}"
        raise UsageError(
            f"no weights of {wanted} come with the package (there are: {offered or 'none'}); "
            "name a checkpoint file instead"
        )
    if Path(source).suffix or len(Path(source).parts) > 1 or Path(source).exists():
        return None
    network_entry(source)  # raises, with the nearest names
    return None


def _filled(
    checkpoint: Checkpoint,
    source: str,
    name: str | None,
    scale: int | None,
    config: dict[str, Any],
) -> nn.Module:
    tensors, header = checkpoint.tensors, checkpoint.metadata
    if "hspan.model" in header:
        stored_name, stored = header["hspan.model"], _stored(header, "hspan.config", source)
        if content_hash(tensors) != header.get("hspan.hash"):
            raise WeightsError(f"{source} is damaged: its weights don't have the hash it names")
    elif (layout := recognise(tensors)) is not None:
        try:
            stored, tensors = layout.config(tensors), layout.convert(tensors)
        except WeightsError as error:
            raise WeightsError(f"{source}: {error}") from error
        stored_name = name if name in layout.names else _published_name(layout.names, stored)
    elif name is not None:
        stored_name, stored = name, {} if scale is None else {"scale": scale}
    else:
        some = ", ".join(sorted(tensors)[:3])
        raise WeightsError(
            f"{source}: no known network has weights called {some}…; if it is one of ours, "
            "say which (name and scale)"
        )
    _agree(source, "network", stored_name, name)
    if scale is not None and ("scale" not in stored or network_entry(stored_name).any_scale):
        stored = {**stored, "scale": scale}
    _agree(source, "scale", stored.get("scale"), scale)
    try:
        with bounded_by(tensors, source):
            network = create_model(stored_name, **{**stored, **config})
    except UsageError as error:
        if config or scale is not None or stored_name == name:
            raise
        raise WeightsError(f"{source} was written by another version: {error}") from error
    if "hspan.changes" in header:
        try:
            repeat_changes(network, _stored(header, "hspan.changes", source))
        except UsageError as error:
            raise WeightsError(f"{source}: {error}") from error
    _fill(network, tensors, f"{source} doesn't fit {stored_name} ×{_scale_of(network)}")
    return network


def _published_name(names: tuple[str, ...], stored: Mapping[str, Any]) -> str:
    """Which of the names has these published settings; the first if none has."""
    for name in names:
        entry = network_entry(name)
        published = {f.name: f.default for f in fields(entry.config)} | entry.defaults
        if all(published[key] == value for key, value in stored.items() if key != "scale"):
            return name
    return names[0]


def _stored(header: Mapping[str, str], key: str, source: str) -> dict[str, Any]:
    try:
        content = json.loads(header.get(key, ""))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        what = "configuration" if key == "hspan.config" else "record of changes"
        raise WeightsError(f"{source}: the {what} in its metadata is unreadable")
    return cast("dict[str, Any]", content)


def _agree(source: str, what: str, found: object, asked: object) -> None:
    if asked is not None and found != asked:
        raise UsageError(f"{source} holds weights of {what} {found}, not {asked}")


def _scale_of(network: nn.Module) -> object:
    return getattr(network.config, "scale", "?")


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], title: str) -> None:
    own = network.state_dict()
    shapes = [
        f"{key}: {list(tensors[key].shape)} instead of {list(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    differences = [
        _listed("missing", [key for key in own if key not in tensors]),
        _listed("unexpected", [key for key in tensors if key not in own]),
        _listed("of another shape", shapes),
    ]
    if any(differences):
        raise WeightsError(f"{title}: {'; '.join(filter(None, differences))}")
    # A 16-bit or float64 file is computed with in float32; integer buffers stay what they are.
    values = {k: t.to(own[k].dtype) for k, t in tensors.items()}
    for key, value in values.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise WeightsError(f"{title}: {key} holds NaN or infinite values")
    network.load_state_dict(values)


def _listed(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f", and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return f"{len(keys)} {what} ({', '.join(keys[:_LISTED])}{more})"
