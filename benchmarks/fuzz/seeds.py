"""Small valid files of every kind that is read, for a fuzzer to start from."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hspan.imaging import Picture, write_image
from hspan.models import create_model
from hspan.training import list_recipes, load_recipe
from hspan.weights import save_model


def make_seeds(target: str, folder: Path) -> None:
    """Fill a folder with the seeds of a target: "images", "checkpoints" or "recipes"."""
    {"images": _images, "checkpoints": _checkpoints, "recipes": _recipes}[target](folder)


def _images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "camera", 300.0
    exif.get_ifd(0x8769)[0xA002] = 5

    def keep(name: str, save: Callable[[io.BytesIO], None]) -> None:
        stream = io.BytesIO()
        save(stream)
        (folder / name).write_bytes(stream.getvalue())

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"):
        values = rng.integers(0, 256, (5, 6, 3), np.uint8)
        if mode == "I;16":
            image = Image.fromarray(values[:, :, 0].astype(np.uint16) * 257)
        elif mode == "F":
            image = Image.fromarray(values[:, :, 0].astype(np.float32) / 255)
        else:
            image = Image.fromarray(values).convert(mode)
        for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF"):
            try:
                keep(
                    f"{kind}-{mode.replace(';', '')}",
                    lambda s, k=kind, i=image: i.save(s, k, exif=exif, dpi=(300, 200)),
                )
            except (OSError, ValueError, KeyError):
                continue  # a mode that the format doesn't have
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        image = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
        keep(
            f"TIFF-{compression}",
            lambda s, c=compression, i=image: i.save(s, "TIFF", compression=c),
        )
    frames = [Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)) for _ in range(2)]
    for kind in ("PNG", "GIF", "TIFF", "WEBP"):
        keep(
            f"{kind}-frames",
            lambda s, k=kind: frames[0].save(s, k, save_all=True, append_images=frames[1:]),
        )
    for dtype in (np.uint8, np.uint16, np.float32):
        pixels = rng.random((4, 5, 3)).astype(np.float32)
        ceiling = 1 if dtype is np.float32 else np.iinfo(dtype).max
        picture = Picture((pixels * ceiling).astype(dtype), exif=b"Exif\0\0" + exif.tobytes()[6:])
        path = folder / f"ours-{np.dtype(dtype).name}.tif"
        write_image(path, picture)


def _checkpoints(folder: Path) -> None:
    torch.manual_seed(0)
    network = create_model("hspan-light", channels=4, num_blocks=1, attention_after=())
    save_model(network, folder / "ours.safetensors", name="hspan-light")
    state = network.state_dict()
    torch.save({"params": state}, folder / "zip.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    few = {key: torch.zeros(2) for key in ("module.a", "module.b")}
    torch.save({"state_dict": few, "epoch": 3}, folder / "few.pt")
    torch.save(few, folder / "few-legacy.pt", _use_new_zipfile_serialization=False)
    fsrcnn = create_model("srcnn").state_dict()
    torch.save({key: value[:1] for key, value in fsrcnn.items()}, folder / "cut.pth")
    try:
        from scipy.io import savemat
    except ImportError:
        return
    savemat(folder / "weights.mat", {"weights_conv1": np.zeros((81, 2)), "biases_conv1": [0.0]})


def _recipes(folder: Path) -> None:
    for name in list_recipes():
        text = load_recipe(name).as_toml()
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
        overrides = "training.max_steps=5e4\0optimizer.betas=0.9,0.99\0data.train=x"
        (folder / f"{name}-overrides").write_text(f"{text}\0{overrides}", encoding="utf-8")
