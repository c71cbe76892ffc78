"""What the page says about results, as Markdown."""

from __future__ import annotations

from hspan.explanation import Explanation
from hspan.web._service import Upscaled

INTRODUCTION = """# hspan
Enlarge a photograph, compare, and ask any pixel where it came from. Everything happens on the
computer that runs this page. PNG, JPEG, WebP, TIFF, AVIF and BMP."""

COMPARE = "Left of the line: bicubic interpolation; right of it: the result. Move it."

ASK = """## Where did this pixel come from?
Click a pixel of your image. It is shown close up (bicubic, result, and the ground truth if you gave
one), and the attention says what it was built from."""

WAIT = "Asking the attention layers …"


def summary(done: Upscaled) -> str:
    """What was done, and the score where there is one."""
    report = done.report
    (w, h), (sr_w, sr_h) = report["lr_size"], report["sr_size"]
    lines = [
        COMPARE,
        f"**{w}×{h} → {sr_w}×{sr_h}** by {done.model} in {report['seconds']:.1f} s "
        f"({report['precision']}, {report['processed']}). The file to download, {report['name']}, "
        "keeps depth, transparency and colour profile.",
    ]
    score = report["score"]
    if score is not None:
        values = [_decibels(score[key]) for key in ("psnr", "bicubic_psnr")]
        lines.append(
            f"**PSNR {values[0]}**, bicubic {values[1]} (luma, {done.scale} pixels of border left "
            "out, as benchmarks do)."
        )
    return "\n\n".join(lines)


def _decibels(value: float | None) -> str:
    return "without end: equal" if value is None else f"{value:.2f} dB"


def found(explanation: Explanation, corner: tuple[int, int], *, whole: bool) -> str:
    """What the figure shows, in a few lines.

    Args:
        explanation: of a part of the image.
        corner: the part's first column and row.
        whole: whether the part is all of it.
    """
    x, y = explanation.at[0] + corner[0], explanation.at[1] + corner[1]
    lines = [f"**Pixel ({x}, {y})**"]
    if not whole:
        w, h = explanation.size
        lines[0] += f", asked within the {w}×{h} pixels around it"
    for layer in explanation.layers:
        line = (
            f"- `{layer.name}`: built from **{layer.support:,} of {layer.keys_total:,}**, each a "
            f"{layer.token}"
        )
        if layer.sources:
            best = layer.sources[0]
            line += (
                f"; the strongest has {100 * best.weight:.1f} %, {best.distance:.0f} pixels away"
            )
        lines.append(line)
    return "\n\n".join([lines[0], "\n".join(lines[1:])])
