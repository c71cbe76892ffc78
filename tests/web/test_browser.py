"""The page in Debian's Chromium, step by step as a visitor goes through it (docs/web.md).

    apt-get install chromium && pip install 'hspan[web]' playwright
    pytest tests/web/test_browser.py

``HSPAN_SCREENSHOTS=FOLDER`` keeps pictures of the page, with the bundled photograph in it.
"""

import os
import shutil
from pathlib import Path

import pytest

from hspan.cli import main
from hspan.imaging import Picture, read_image, write_image
from hspan.metrics import psnr

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]

WAIT = 180_000  # milliseconds
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, server):
    """Open the page in a window of some size."""
    contexts = []

    def open_page(width=1280, height=900, address=server.address):
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.visited = []
        page.on("request", lambda request: page.visited.append(request.url))
        page.goto(address)
        page.wait_for_selector("#start")
        return page

    yield open_page
    for context in contexts:
        context.close()


def choose(page, path, where="source"):
    page.set_input_files(f"#{where} input[type=file]", str(path))
    page.wait_for_selector(f"#{where} >> text={path.stem}")


def choose_model(page, name):
    page.click("#model input")
    page.click(f"[role=option] >> text={name}")


def enlarge(page):
    page.click("#start")
    page.wait_for_selector("#said >> text=to download")


def complaint(page):
    """The sentence of the newest message, which is closed."""
    message = page.locator(".toast-body").last
    message.wait_for()
    text = message.inner_text()
    page.locator(".toast-close").last.click()
    message.wait_for(state="detached")
    return text


def test_from_upload_to_download(visit, server, deep, weights, tmp_path):
    page = visit()
    choose(page, deep)
    choose_model(page, "small")
    enlarge(page)
    assert "14×12 → 28×24 by small" in page.inner_text("#said")
    with page.expect_download() as waiting:
        page.click("#download")
    found = tmp_path / "downloaded.png"
    waiting.value.save_as(found)
    assert waiting.value.suggested_filename == "deep_x2.png"
    assert main(["upscale", str(deep), "-m", str(weights)]) == 0
    assert found.read_bytes() == (tmp_path / "deep_x2.png").read_bytes()
    picture = read_image(found)
    assert picture.dtype == "uint16"
    assert picture.alpha is not None
    assert all(url.startswith((server.address, "data:", "blob:")) for url in page.visited)


def test_line_between_before_and_after(visit, photo):
    page = visit()
    choose(page, photo)
    choose_model(page, "small")
    enlarge(page)
    slider = page.locator("#slider")
    slider.locator("img").nth(1).wait_for()
    sources = slider.locator("img").evaluate_all("images => images.map(i => i.currentSrc)")
    assert len(set(sources)) == 2
    handle = slider.locator(".inner")
    box = handle.bounding_box()
    before = slider.screenshot()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 80, middle[1], steps=5)
    page.mouse.up()
    moved = handle.bounding_box()
    assert moved["x"] == pytest.approx(box["x"] - 80, abs=8)
    assert slider.screenshot() != before


def test_click_on_a_pixel(visit, photo):
    page = visit()
    choose(page, photo)
    choose_model(page, "small")
    enlarge(page)
    image = page.locator("#pixels img")
    image.wait_for()
    box = image.bounding_box()
    image.click(position={"x": box["width"] * 15.5 / 22, "y": box["height"] * 4.5 / 18})
    page.wait_for_selector("#answer >> text=Pixel (15, 4)")
    assert "of 30, each a patch of 4×4 pixels" in page.inner_text("#answer")
    page.locator("#close-up img").wait_for()
    page.locator("#explanation img").wait_for()


def test_ground_truth(visit, photo, tmp_path, noise):
    page = visit()
    choose(page, photo)
    truth = tmp_path / "truth.png"
    hr = noise(36, 44, 3, seed=1)
    write_image(truth, Picture(hr))
    page.click("text=Compare with a ground truth")
    choose(page, truth, "truth")
    choose_model(page, "bicubic")
    enlarge(page)
    assert main(["upscale", str(photo), "-m", "bicubic", "-s", "2"]) == 0
    expected = psnr(read_image(tmp_path / "photo_x2.png").pixels, hr, 2)
    assert f"PSNR {expected:.2f} dB" in page.inner_text("#said")


def test_bad_uploads_get_a_sentence(visit, tmp_path, noise):
    page = visit()
    page.click("#start")
    assert "Choose an image first." in complaint(page)
    notes = tmp_path / "notes.png"
    notes.write_text("hello")
    choose(page, notes)
    page.click("#start")
    assert "notes.png isn't an image that I know" in complaint(page)
    page.click("#source button[aria-label*=lear], #source button[aria-label*=emove]")
    large = tmp_path / "large.png"
    write_image(large, Picture(noise(200, 200, 3)))
    choose(page, large)
    page.click("#start")
    assert "has 200×200 pixels" in complaint(page)
    page.click("#source button[aria-label*=lear], #source button[aria-label*=emove]")
    huge = tmp_path / "huge.png"
    huge.write_bytes(bytes(3_000_000))
    page.set_input_files("#source input[type=file]", str(huge))
    assert "size" in complaint(page).lower()
    assert page.is_enabled("#start")


def test_phone(visit, photo):
    page = visit(390, 844)
    choose(page, photo)
    choose_model(page, "small")
    enlarge(page)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
    for name in ("#slider", "#download", "#pixels"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390


@pytest.mark.skipif("HSPAN_SCREENSHOTS" not in os.environ, reason="only on demand")
@pytest.mark.parametrize(("name", "width"), [("desktop", 1280), ("phone", 390)])
def test_screenshots(visit, start_server, tmp_path, name, width):
    own = start_server(tmp_path)  # the photograph is larger than the tests' limits
    try:
        page = visit(width, 900, own.address)
        choose(page, ROOT / "examples" / "astronaut.png")
        enlarge(page)
        image = page.locator("#pixels img")
        image.wait_for()
        box = image.bounding_box()
        image.click(position={"x": box["width"] / 2 + 1, "y": box["height"] / 2 + 1})
        page.locator("#explanation img").wait_for()
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(1000)
        folder = Path(os.environ["HSPAN_SCREENSHOTS"])
        page.screenshot(path=folder / f"web_{name}.png", full_page=True)
    finally:
        own.stop()
