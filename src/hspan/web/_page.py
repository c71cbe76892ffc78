"""The page and its HTTP interface in Gradio; everything it does is in ``Service``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports] (an extra)

from hspan.errors import HspanError
from hspan.explanation import Explanation
from hspan.imaging import read_image
from hspan.web import _words as words
from hspan.web._limits import worded
from hspan.web._previews import shown
from hspan.web._service import Service, Upscaled

_LOG = logging.getLogger(__name__)

# Only one request at a time has the processor, whatever it asks for.
_TURN: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "network"}
_PRIVATE: dict[str, Any] = {"api_visibility": "private"}

# Fonts of the visitor's own system: a page on this computer fetches nothing from elsewhere.
THEME = gr.themes.Soft(  # pyright: ignore[reportPrivateImportUsage] (documented so)
    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)

CSS = """
.gradio-container { max-width: 1200px !important; margin: 0 auto !important; }
#pixels img { cursor: crosshair; image-rendering: pixelated; }
#close-up img { image-rendering: pixelated; }
"""


def build(service: Service) -> gr.Blocks:
    """Lay the page out.

    Args:
        service: what it works with.

    Returns:
        The page, not launched yet.
    """
    default = next(iter(service.models))
    keep = int(service.workspace.keep)
    with gr.Blocks(title="hspan", analytics_enabled=False, delete_cache=(600, keep)) as page:
        gr.Markdown(words.INTRODUCTION)
        done = gr.State(None)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                source = gr.File(label="Image", elem_id="source")
                model = gr.Dropdown(
                    list(service.models), value=default, label="Model", elem_id="model"
                )
                scale = gr.Radio(
                    service.models[default],
                    value=service.models[default][0],
                    label="Scale",
                    elem_id="scale",
                )
                ensemble = gr.Checkbox(
                    label="Mean over 8 flips and rotations",
                    info="8 times the work, a little better",
                )
                with gr.Accordion("Compare with a ground truth", open=False):
                    truth = gr.File(label="The image at full size", elem_id="truth")
                start = gr.Button("Enlarge", variant="primary", elem_id="start")
            with gr.Column(scale=2, min_width=320):
                slider = gr.ImageSlider(
                    label="Bicubic and result",
                    show_label=False,
                    format="png",
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_id="slider",
                    max_height=640,
                )
                said = gr.Markdown(elem_id="said")
                download = gr.DownloadButton(
                    "Download", interactive=False, elem_id="download", variant="primary"
                )
        with gr.Column(visible=False, elem_id="asking") as asking:
            gr.Markdown(words.ASK)
            with gr.Row():
                pixels = gr.Image(
                    label="The image that you uploaded",
                    show_label=False,
                    format="png",
                    interactive=False,
                    buttons=[],
                    elem_id="pixels",
                )
                near = gr.Image(
                    label="Close up",
                    show_label=False,
                    format="png",
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_id="close-up",
                )
            answer = gr.Markdown(elem_id="answer")
            figure = gr.Image(
                label="Explanation",
                show_label=False,
                format="png",
                interactive=False,
                buttons=["download", "fullscreen"],
                visible=False,
                elem_id="explanation",
            )

        def scales(name: str, chosen: int | None) -> Any:
            known = service.models[name]
            return gr.Radio(known, value=chosen if chosen in known else known[0])

        def enlarge(
            source: str | None,
            model: str,
            scale: int,
            ensemble: bool,
            truth: str | None,
            progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio passes it)
        ) -> tuple[Any, ...]:
            if source is None:
                raise gr.Error("Choose an image first.", print_exception=False)
            done = _upscale(
                service, source, model, scale, ensemble, truth, _bar(progress, "Enlarging")
            )
            with _sentences(done.source):
                pair = service.before_and_after(done)
                lr = shown(read_image(done.source))
            return (
                done,
                pair,
                words.summary(done),
                gr.DownloadButton(value=str(done.target), interactive=True),
                gr.Column(visible=True),
                lr,
                None,
                "",
                gr.Image(value=None, visible=False),
            )

        def look_close(done: Upscaled | None, event: gr.SelectData) -> tuple[Any, ...]:
            if done is None:
                raise gr.Error("Enlarge an image first.", print_exception=False)
            at = (int(event.index[0]), int(event.index[1]))
            with _sentences(done.source):
                return at, service.close_up(done, at), words.WAIT

        def ask(
            done: Upscaled,
            at: tuple[int, int],
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> tuple[Any, ...]:
            with _sentences(done.source):
                explanation, corner = service.explain(
                    done.source, done.model, done.scale, at, report=_bar(progress, "Asking")
                )
                path = service.draw(explanation, done.source.name)
            text = words.found(explanation, corner, whole=_is_whole(explanation, done))
            return text, gr.Image(value=str(path), visible=True)

        model.change(scales, [model, scale], scale, **_PRIVATE)
        start.click(
            enlarge,
            [source, model, scale, ensemble, truth],
            [done, slider, said, download, asking, pixels, near, answer, figure],
            show_progress_on=[slider],
            **_TURN,
            **_PRIVATE,
        )
        place = gr.State(None)
        pixels.select(look_close, done, [place, near, answer], **_PRIVATE).success(
            ask, [done, place], [answer, figure], show_progress_on=[answer], **_TURN, **_PRIVATE
        )
        _interface(service, default)
    return page


def _interface(service: Service, default: str) -> None:
    """The HTTP interface: hidden components give its parameters their types."""
    with gr.Column(visible=False):
        source, truth = gr.File(label="image"), gr.File(label="truth")
        model = gr.Textbox(default, label="model")
        scale = gr.Number(service.models[default][0], precision=0, label="scale")
        ensemble = gr.Checkbox(False, label="ensemble")
        x, y = (gr.Number(0, precision=0, label=name) for name in "xy")
        maps = gr.Checkbox(False, label="maps")
        file, report = gr.File(label="file"), gr.JSON(label="report")
        explanation, known = gr.JSON(label="explanation"), gr.JSON(label="models")
        buttons = [gr.Button(name) for name in ("upscale", "explain", "models")]

    def upscale(
        image: str | None, model: str, scale: int, ensemble: bool, truth: str | None = None
    ) -> tuple[str, dict[str, Any]]:
        if image is None:
            raise gr.Error("image is missing", print_exception=False)
        done = _upscale(service, image, model, scale, ensemble, truth, None)
        return str(done.target), done.report

    def explain(
        image: str | None, x: int, y: int, model: str, scale: int, maps: bool
    ) -> dict[str, Any]:
        if image is None:
            raise gr.Error("image is missing", print_exception=False)
        path = Path(image)
        with _sentences(path):
            found, corner = service.explain(path, model, int(scale), (int(x), int(y)))
        return {"part": [*corner, *found.size], **found.as_dict(maps=maps)}

    def models() -> dict[str, Any]:
        limits = service.limits
        return {
            "models": service.models,
            "limits": {
                "megabytes": limits.megabytes,
                "megapixels": limits.megapixels,
                "explained": limits.explained,
            },
        }

    buttons[0].click(
        upscale,
        [source, model, scale, ensemble, truth],
        [file, report],
        api_name="upscale",
        api_description="Enlarge an image file; the same bytes as the command `hspan upscale`.",
        **_TURN,
    )
    buttons[1].click(
        explain,
        [source, x, y, model, scale, maps],
        explanation,
        api_name="explain",
        api_description="Say which pixels an LR pixel was built from.",
        **_TURN,
    )
    buttons[2].click(
        models, None, known, api_name="models", api_description="Models, scales and limits."
    )


def _upscale(
    service: Service,
    source: str,
    model: str,
    scale: int,
    ensemble: bool,
    truth: str | None,
    report: Callable[[float], None] | None,
) -> Upscaled:
    path, other = Path(source), None if truth is None else Path(truth)
    with _sentences(path, other):
        return service.upscale(
            path, model, int(scale), ensemble=bool(ensemble), truth=other, report=report
        )


def _bar(progress: gr.Progress, what: str) -> Callable[[float], None]:
    progress(0.0, desc=what)

    def report(share: float) -> None:
        progress(share, desc=what)

    return report


def _is_whole(explanation: Explanation, done: Upscaled) -> bool:
    return list(explanation.size) == done.report["lr_size"]


@contextmanager
def _sentences(*paths: Path | None) -> Generator[None]:
    """Errors as the sentence that the visitor sees; what nobody expected goes to the log too."""
    try:
        yield
    except HspanError as error:
        raise gr.Error(worded(error, *paths), print_exception=False) from error
    except Exception as error:
        _LOG.exception("while serving a request")
        sentence = (
            f"Unexpected {type(error).__name__}; the server's log has more. Please report it."
        )
        raise gr.Error(sentence, print_exception=False) from error
