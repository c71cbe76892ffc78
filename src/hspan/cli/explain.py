"""``hspan explain``: where a pixel came from, as a picture, as text, and as JSON.

``--json`` writes what ``Explanation.as_dict`` gives; docs/explain.md lists its keys.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hspan._whole_files import write_text
from hspan.errors import UsageError

if TYPE_CHECKING:
    from hspan.explanation import Explanation, LayerExplanation

_LISTED = 5  # sources of a layer that are printed


def explain(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The LR image.")],
    at: Annotated[
        tuple[int, int],
        typer.Option(metavar="X Y", help="Column and row of an LR pixel, from 0."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="Figure to write: .png, .svg or .pdf.",
            show_default="IMAGE_explain_X_Y.png, unless --json is given",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option("-m", "-n", "--model", metavar="MODEL", help="A name or a file of weights."),
    ] = "hspan-light",
    scale: Annotated[
        int | None,
        typer.Option(
            "-s", "--scale", metavar="2|3|4", help="Factor.", show_default="the model's, or 2"
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Attention module, as body.7 or body.*; again for more.",
            show_default="all",
        ),
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write JSON; - is stdout.")
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="The maps too, in the JSON.")] = False,
    switch_off: Annotated[
        bool,
        typer.Option(help="Compare with the result without each layer: a pass per layer."),
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist; never the input.")
    ] = False,
) -> None:
    """Show which pixels a pixel was built from, layer by layer, as the network saw them."""
    figure = _figure(image, at, out) if out is not None or json_file is None else None
    if maps and json_file is None:
        raise UsageError("--maps puts the maps into the JSON: name its file with --json")
    targets = [figure, Path(json_file) if json_file not in (None, "-") else None]
    for target in targets:
        if target is not None:
            _check(target, image, overwrite=overwrite)

    from hspan.explanation import check_figure, draw_explanation
    from hspan.explanation import explain as explain_image

    if figure is not None:
        check_figure(figure)
    explanation = explain_image(model, image, at, layers=layer, scale=scale, switch_off=switch_off)
    if json_file is not None:
        text = json.dumps(explanation.as_dict(maps=maps), indent=None if maps else 2)
        if json_file == "-":
            print(text)
        else:
            write_text(Path(json_file), text + "\n")
    if json_file != "-":
        _print(explanation)
    if figure is not None:
        draw_explanation(explanation, figure, title=image.name)
        print(f"hspan: {figure} written", file=sys.stderr)


def _figure(image: Path, at: tuple[int, int], out: Path | None) -> Path:
    return out or image.with_name(f"{image.stem}_explain_{at[0]}_{at[1]}.png")


def _check(target: Path, image: Path, *, overwrite: bool) -> None:
    if not target.exists():
        return
    if image.exists() and target.samefile(image):
        raise UsageError(f"{target} is the input itself: name another output")
    if not overwrite:
        raise UsageError(f"{target} exists already; --overwrite replaces it")


def _print(explanation: Explanation) -> None:
    x, y = explanation.at
    print(
        f"pixel ({x}, {y}) of {explanation.size[0]}x{explanation.size[1]}, {explanation.model} "
        f"x{explanation.scale}, {explanation.seconds:.1f} s"
    )
    for layer in explanation.layers:
        _print_layer(layer)
    for path, why in explanation.left_out.items():
        print(f"{path}: not explained, {why}")


def _print_layer(layer: LayerExplanation) -> None:
    print(
        f"{layer.name} ({layer.module}, {layer.weighting}): {layer.support:,} of "
        f"{layer.keys_total:,} keys, each a {layer.token}"
    )
    for source in layer.sources[:_LISTED]:
        place = source.place
        print(
            f"  {100 * source.weight:6.2f} %  at ({place.x:g}, {place.y:g}), "
            f"{source.distance:.0f} pixels away"
        )
    if layer.support > _LISTED:
        rest = float(layer.weights.sum()) - sum(s.weight for s in layer.sources[:_LISTED])
        print(f"  {100 * rest:6.2f} %  in {layer.support - _LISTED:,} more")
    if layer.weighting == "soft-threshold":
        print(
            f"  softmax would give these {100 * layer.softmax_on_support:.2f} %, and need "
            f"{layer.softmax_for_90:,} keys for 90 %"
        )
    if layer.sparsity is not None:
        s = layer.sparsity
        print(
            f"  whole image: {s.mean:.1f} keys on average ({s.smallest:,} to {s.largest:,}), "
            f"{100 * s.zeros:.2f} % of the weights are zero, {s.mean_distance:.0f} pixels away"
        )
    if layer.switched_off is not None:
        off = layer.switched_off
        print(
            f"  without it: {off.here:.2f} levels of 255 here, {off.mean:.2f} on average, "
            f"{off.largest:.1f} at most"
        )
