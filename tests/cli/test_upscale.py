"""The whole way from a file to a file, and everything that can be wrong with it."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from hspan.cli import main
from hspan.models import create_model
from hspan.weights import save_model

RUN = [sys.executable, "-c", "import sys; from hspan.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small network without attention, ×2."""
    torch.manual_seed(0)
    network = create_model("hspan-light", channels=4, num_blocks=1, attention_after=())
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(network, path, name="hspan-light")
    return str(path)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The folder in which the command runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def photo(path, *shape, mode=None, **options):
    image = Image.fromarray(noise(*(shape or (6, 8, 3))))
    image = image.convert(mode) if mode else image
    image.save(path, **options)
    return path


def opened(path):
    """The image by an independent reader, loaded and closed."""
    with Image.open(path) as image:
        image.load()
    return image


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def one_sentence(text):
    """Exactly one line for a human, without what programmers read."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("hspan: ")
    assert "Traceback" not in text
    return lines[0]


def upscale(weights, *words):
    return main(["upscale", *map(str, words), "-m", weights])


def test_one_image(work, weights, capsys):
    photo("a.png")
    assert upscale(weights, "a.png") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("a.png -> a_x2.png  8x6 -> 16x12, ")
    assert files(work) == ["a.png", "a_x2.png"]
    assert opened("a_x2.png").size == (16, 12)


def test_result_resembles_the_input(work, weights):
    smooth = np.broadcast_to(np.linspace(60, 200, 32)[None, :, None], (24, 32, 3))
    Image.fromarray(smooth.astype(np.uint8)).save("a.png")
    assert upscale(weights, "a.png") == 0
    result = np.asarray(opened("a_x2.png")).astype(float)
    back = result.reshape(24, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(back - smooth)[2:-2, 2:-2].mean() < 40  # untrained detail on the enlarged input


def test_folders_options_and_json(work, weights, capsys):
    (work / "in").mkdir()
    photo("in/a.png")
    photo("in/b.jpg", quality=90)
    (work / "in" / "readme.txt").write_text("no image")
    photo("c.webp", 70, 60, 3, lossless=True)
    words = ["in", "-i", "c.webp", "-o", "out", "-s", "2", "-t", "32", "--overlap", "4", "--json"]
    assert upscale(weights, *words, "--precision", "fp32", "--device", "cpu") == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert captured.err == ""
    assert files(work / "out") == ["a_x2.png", "b_x2.jpg", "c_x2.webp"]
    assert [entry["status"] for entry in report] == ["done"] * 3
    last = report[-1]
    assert last.pop("seconds") > 0
    assert last == {
        "input": "c.webp",
        "output": os.path.join("out", "c_x2.webp"),
        "status": "done",
        "lr_size": [60, 70],
        "sr_size": [120, 140],
        "model": weights,
        "scale": 2,
        "precision": "fp32",
        "tile": 32,
        "tiles": 6,
        "processed": "in 6 tiles of 32, as asked",
        "repeated_in_fp32": 0,
        "resumed": 0,
    }


def test_ensemble_and_quality_change_the_result(work, weights):
    photo("a.png", 20, 20, 3)
    results = []
    for i, words in enumerate([[], ["--ensemble"], ["--quality", "20"], ["--quality", "21"]]):
        name = f"{i}.png" if i < 2 else f"{i}.jpg"
        assert upscale(weights, "a.png", "-o", name, *words) == 0
        results.append((work / name).read_bytes())
    assert len(set(results)) == 4


def test_progress_only_for_a_terminal(work, weights, capsys, monkeypatch):
    photo("a[b].png")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert upscale(weights, "a[b].png") == 0
    assert "a[b].png" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_png_of_any_kind(work, weights, mode):
    photo("a.png", 6, 8, 4 if "A" in mode else 3, mode=mode)
    assert upscale(weights, "a.png") == 0
    result = opened("a_x2.png")
    assert result.size == (16, 12)
    assert result.mode == {"P": "RGB", "1": "L"}.get(mode, mode)


def test_16_bits_and_metadata_stay(work, weights):
    values = (np.arange(48).reshape(6, 8) * 1300).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90°
    exif[0x010F] = "camera"
    Image.fromarray(values).save("grey.png", dpi=(300, 300))
    photo("turned.jpg", dpi=(240, 240), exif=exif)
    assert upscale(weights, "grey.png", "turned.jpg") == 0
    grey = opened("grey_x2.png")
    assert grey.mode == "I;16"
    assert grey.info["dpi"] == pytest.approx((600, 600), abs=0.02)
    assert len(np.unique(np.asarray(grey))) > 100  # more levels than 8 bits of these could hold
    turned = opened("turned_x2.jpg")
    assert turned.size == (12, 16)
    assert turned.getexif()[0x010F] == "camera"
    assert turned.getexif().get(0x0112, 1) == 1
    assert turned.info["dpi"] == (480, 480)


def make_bad(kind):
    """Create an input that can't be done; return its name and a word of the reason."""
    if kind == "missing":
        return "missing.png", "doesn't exist"
    if kind == "no images":
        os.mkdir("empty")
        return "empty", "no images"
    if kind == "text":
        with open("text.png", "w") as file:
            file.write("This is no image.\n")
        return "text.png", "isn't an image"
    if kind == "zero bytes":
        open("zero.png", "w").close()
        return "zero.png", "empty"
    if kind == "truncated":
        content = io.BytesIO()
        Image.fromarray(noise(64, 64, 3)).save(content, "JPEG")
        with open("cut.jpg", "wb") as file:
            file.write(content.getvalue()[: len(content.getvalue()) // 2])
        return "cut.jpg", "damaged"
    frames = [Image.fromarray(noise(6, 8, 3, seed=i)).convert("P") for i in range(3)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    return "moving.gif", "3 frames"


BAD = ["missing", "no images", "text", "zero bytes", "truncated", "animated"]


@pytest.mark.parametrize("kind", BAD)
def test_bad_inputs_are_named_and_the_others_done(work, weights, kind, capsys):
    photo("a.png")
    photo("b.png")
    bad, reason = make_bad(kind)
    before = files(work)
    assert upscale(weights, "a.png", bad, "b.png", "--json") == 1
    captured = capsys.readouterr()
    sentence = one_sentence(captured.err)
    assert bad in sentence
    assert reason in sentence
    assert files(work) == sorted([*before, "a_x2.png", "b_x2.png"])
    failed, *done = sorted(json.loads(captured.out), key=lambda e: e["status"], reverse=True)
    assert sorted(failed) == ["error", "input", "output", "status"]
    assert failed["input"] == bad
    assert f"hspan: {failed['error']}" == sentence
    assert [entry["status"] for entry in done] == ["done", "done"]


def test_errors_that_nobody_foresaw_end_no_batch(work, weights, monkeypatch, capsys):
    from hspan.inference import Upscaler

    photo("a.png")
    photo("b.png", 3, 3, 3)
    whole = Upscaler.upscale_picture

    def fail_on_large(self, picture, **options):
        if picture.width > 3:
            raise RuntimeError("something\nstrange")
        return whole(self, picture, **options)

    monkeypatch.setattr(Upscaler, "upscale_picture", fail_on_large)
    assert upscale(weights, "a.png", "b.png") == 1
    assert "unexpected RuntimeError (something strange)" in one_sentence(capsys.readouterr().err)
    assert files(work) == ["a.png", "b.png", "b_x2.png"]


def test_all_bad_inputs_at_once(work, weights, capsys):
    for kind in BAD:
        make_bad(kind)
    assert upscale(weights, work, "missing.png", "empty") == 1
    assert len(capsys.readouterr().err.splitlines()) == len(BAD)
    assert not [name for name in files(work) if "_x2" in name or name.endswith(".part")]


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "RGB"])
def test_unusual_but_good_inputs(work, weights, mode):
    suffix = "jpg" if mode == "CMYK" else "gif" if mode == "P" else "bmp"
    photo(f"a.{suffix}", mode=mode)
    Image.fromarray(noise(1, 1, 3)).save("pixel.png")
    assert upscale(weights, f"a.{suffix}", "pixel.png") == 0
    result = opened("a_x2.jpg" if mode == "CMYK" else "a_x2.png")
    assert result.mode == {"CMYK": "RGB", "P": "RGB"}.get(mode, mode)
    assert opened("pixel_x2.png").size == (2, 2)


def test_transparency_does_not_go_into_jpeg(work, weights, capsys):
    photo("a.png", 6, 8, 4)
    photo("b.png")
    assert upscale(weights, "a.png", "-o", "a.jpg") == 1
    assert "can't hold" in one_sentence(capsys.readouterr().err)
    assert files(work) == ["a.png", "b.png"]


def test_existing_outputs_are_kept(work, weights, capsys):
    photo("a.png")
    photo("b.png")
    (work / "a_x2.png").write_bytes(b"precious")
    assert upscale(weights, "a.png", "b.png") == 1
    assert "a_x2.png exists already" in one_sentence(capsys.readouterr().err)
    assert (work / "a_x2.png").read_bytes() == b"precious"
    assert (work / "b_x2.png").exists()
    assert upscale(weights, "a.png", "--overwrite") == 0
    assert opened("a_x2.png").size == (16, 12)


def test_output_equal_to_input(work, weights, capsys):
    photo("a.png")
    before = (work / "a.png").read_bytes()
    assert upscale(weights, "a.png", "-o", "a.png", "--overwrite") == 2
    assert "is the input itself" in one_sentence(capsys.readouterr().err)
    assert upscale(weights, "a.png", "--suffix", "", "--overwrite") == 1
    assert "would replace" in one_sentence(capsys.readouterr().err)
    assert files(work) == ["a.png"]
    assert (work / "a.png").read_bytes() == before


def test_two_inputs_for_one_output(work, weights, capsys):
    (work / "sub").mkdir()
    photo("a.png")
    photo("sub/a.png")
    assert upscale(weights, "a.png", "sub/a.png", "-o", "out") == 2
    assert "would both become" in one_sentence(capsys.readouterr().err)
    assert files(work) == ["a.png", "sub"]


def test_unwritable_output(work, weights, capsys):
    photo("a.png")
    (work / "blocker").write_text("a file, not a folder")
    assert upscale(weights, "a.png", "-o", "blocker/out") == 1
    assert "can't write into blocker" in one_sentence(capsys.readouterr().err)
    photo("b.png")
    assert upscale(weights, "a.png", "b.png", "-o", "blocker") == 2
    assert "blocker is a file" in one_sentence(capsys.readouterr().err)
    assert files(work) == ["a.png", "b.png", "blocker"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-m", "hspan-ligth"], "did you mean hspan-light"),
        (["-s", "5"], "scale must be 2, 3 or 4"),
        (["-s", "3"], "scale"),
        (["-t", "many"], "tile must be auto"),
        (["-t", "-5"], "tile must be auto"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--precision", "fp8"], "unknown precision"),
        (["--suffix", "/x"], "suffix"),
        (["-o", "a.docx"], "must end in one of"),
    ],
)
def test_wrong_calls_touch_nothing(work, weights, words, sentence, capsys):
    photo("a.png")
    words = words if "-m" in words else [*words, "-m", weights]
    assert main(["upscale", "a.png", *words]) == 2
    assert sentence in one_sentence(capsys.readouterr().err)
    assert files(work) == ["a.png"]


def test_a_call_without_input(capsys):
    assert main(["upscale"]) == 2
    assert "name at least one image" in one_sentence(capsys.readouterr().err)


@pytest.mark.parametrize("words", [["--quality", "0"], ["--overlap", "-1"], ["--ensamble"]])
def test_wrong_options(work, weights, words):
    photo("a.png")
    assert upscale(weights, "a.png", *words) == 2
    assert files(work) == ["a.png"]


def make_weights(kind, good):
    path = f"{kind}.safetensors"
    if kind == "missing":
        return path
    with open(good, "rb") as file:
        content = file.read()
    if kind == "cut":
        content = content[: len(content) // 2]
    elif kind == "flipped":
        content = content[:-8] + bytes(byte ^ 0x55 for byte in content[-8:])
    elif kind == "text":
        content = b"not weights at all"
    elif kind == "empty":
        content = b""
    if kind == "foreign":
        torch.save({"encoder.weight": torch.zeros(3)}, path)
    elif kind == "code":
        torch.save({"network": torch.nn.Linear(2, 2)}, path)
    else:
        with open(path, "wb") as file:
            file.write(content)
    return path


@pytest.mark.parametrize("kind", ["missing", "cut", "flipped", "text", "empty", "foreign", "code"])
def test_bad_weights_are_one_sentence(work, weights, kind, capsys):
    photo("a.png")
    path = make_weights(kind, weights)
    before = files(work)
    assert upscale(path, "a.png") == 1
    assert path in one_sentence(capsys.readouterr().err)
    assert files(work) == before


def test_weights_that_compute_no_numbers(work, weights, capsys):
    """Not finite even in fp32: named, and nothing is written."""
    network = create_model("hspan-light", channels=4, num_blocks=1, attention_after=())
    with torch.no_grad():
        network.tail.weight.fill_(3e38)
    save_model(network, "broken.safetensors", name="hspan-light")
    photo("a.png")
    assert upscale("broken.safetensors", "a.png") == 1
    assert "isn't finite" in one_sentence(capsys.readouterr().err)
    assert files(work) == ["a.png", "broken.safetensors"]


def test_huge_image_in_little_memory(work, weights, monkeypatch, capsys):
    """What 20,000×20,000 pixels meet on a usual machine: tiles, from disk to disk."""
    from hspan.inference import upscaler

    budget = 10**6
    monkeypatch.setattr(upscaler, "available_memory", lambda device: budget)
    monkeypatch.setattr(upscaler, "available_ram", lambda: budget)
    Image.new("RGB", (750, 500), (90, 120, 150)).save("large.png")
    assert upscale(weights, "large.png", "--json") == 0
    report = json.loads(capsys.readouterr().out)[0]
    assert report["tiles"] > 10
    # Nothing of the pixels that lay beside the result is left.
    assert files(work) == ["large.png", "large_x2.png"]
    assert opened("large_x2.png").size == (1500, 1000)


def test_odd_names(work, weights):
    names = ["--x.png", "a b.png", "ünïcödé 画像.png", "a.b.c.PNG"]
    for name in names:
        photo(work / name, format="PNG")
    assert main(["upscale", "-m", weights, "--", *names]) == 0
    assert [n for n in files(work) if "_x2" in n] == sorted(
        ["--x_x2.png", "a b_x2.png", "ünïcödé 画像_x2.png", "a.b.c_x2.PNG"]
    )


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes only there")
def test_names_that_no_encoding_knows(work, weights):
    """A real process, whose output is bytes: the odd name must not end the batch."""
    photo("a.png")
    os.rename("a.png", b"a\xff.png")
    photo("b.png")
    run = subprocess.run(
        [*RUN, "upscale", b"a\xff.png", "b.png", "-m", weights], capture_output=True
    )
    assert run.returncode == 0, run.stderr
    assert sorted(os.listdir(os.fsencode(work))) == [
        b"a\xff.png", b"a\xff_x2.png", b"b.png", b"b_x2.png"
    ]  # fmt: skip


def test_a_real_process(work, weights):
    photo("a.png")
    make_bad("text")
    run = subprocess.run(
        [*RUN, "upscale", ".", "--json", "-m", weights], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert {entry["status"] for entry in json.loads(run.stdout)} == {"done", "failed"}
    one_sentence(run.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interruption_leaves_nothing(work, weights):
    Image.new("RGB", (1200, 1200)).save("a.png")
    words = ["a.png", "-o", "out", "-t", "8", "--ensemble", "-m", weights]
    process = subprocess.Popen(
        [*RUN, "upscale", *words],
        stderr=subprocess.PIPE,
        text=True,
        # Jobs in a shell's background ignore the signal, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while not (work / "out").exists():  # made right before the first tile
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode not in (0, 2)
    assert "Traceback" not in errors
    assert files(work) == ["a.png", "out"]
    assert files(work / "out") == []


def test_dry_run_says_and_writes_nothing(work, weights, capsys):
    photo("a.png")
    assert upscale(weights, "a.png", "--dry-run") == 0
    line = capsys.readouterr().out
    assert "a.png -> a_x2.png" in line
    assert "of memory" in line
    assert upscale(weights, "a.png", "--dry-run", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["status"] == "planned"
    assert row["memory_bytes"] > 5e7
    assert row["seconds"] > 0
    assert sorted(os.listdir()) == ["a.png"]


def test_limits_refuse_before_the_work(work, weights, capsys):
    photo("a.png")
    assert upscale(weights, "a.png", "--max-memory", "1M") == 1
    assert "more than the 1 MB allowed" in capsys.readouterr().err
    assert upscale(weights, "a.png", "--max-time-per-image", "0.000001s") == 1
    assert "would take about" in capsys.readouterr().err
    assert upscale(weights, "a.png", "--max-memory", "lots") == 2
    assert upscale(weights, "a.png", "--overlap", "wide") == 2
    assert sorted(os.listdir()) == ["a.png"]
