"""Every code block of the README and the documentation runs, and prints what stands below it.

``python`` blocks of a page run in one namespace, in order; ``bash`` blocks run their ``hspan``
commands through the command line's own function; both in a folder of stand-ins for the user's
files. A comment before a block says what is special about it:

    <!-- skip: REASON -->   it isn't run
    <!-- output -->         it holds what the block before it prints
    <!-- setup              Python that runs first, up to the closing arrow
"""

import contextlib
import io
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from hspan.cli import main
from hspan.imaging import Picture, read_image, write_image

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]

# A comment or a fenced block, with its place in the page.
PART = re.compile(
    r"^<!-- (?P<kind>skip|output|setup)(?P<words>.*?)-->\n"
    r"|^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^(?P=indent)```\s*?$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    line: int
    kind: str  # python, bash, setup, output, skip
    text: str


def blocks_of(page: str) -> list[Block]:
    found: list[Block] = []
    mark = None
    for match in PART.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        if match["kind"] == "setup":
            found.append(Block(line, "setup", match["words"]))
        elif match["kind"]:
            mark = match
        else:
            kind = mark["kind"] if mark else match["language"]
            if kind == "skip":
                reason = mark["words"].strip(" :")
                assert len(reason) > 5, f"line {line}: a skipped block needs a reason"
            found.append(Block(line, kind, match["code"]))
            mark = None
    assert mark is None, "a comment that no block follows"
    return found


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    """A folder with the files that the pages speak of, all cut from the bundled photograph."""
    picture = read_image(ROOT / "examples" / "astronaut.png").pixels
    (tmp_path / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "astronaut.png", tmp_path / "examples")

    def cut(name, top, left):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        write_image(target, Picture(pixels=picture[top : top + 48, left : left + 64]))

    names = [
        "photo.jpg",
        "scan.tif",
        "county.tif",
        "holiday/beach.png",
        "holiday/hut.jpg",
        "frames/1.png",
    ]
    for i, name in enumerate(names):
        cut(name, 40 * i, 60)
    for folder in ("Set5", "Urban100", "DIV2K_train_HR", "lr"):
        for i in range(2):
            cut(f"{folder}/{i + 1}.png", 60 * i, 90)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_commands(text: str) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "hspan", f"only hspan's own commands can be run, not {words[0]}"
            assert main(words[1:]) == 0, line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_blocks_run(page, user_folder):
    space: dict[str, object] = {"__name__": "page"}
    printed = ""
    for block in blocks_of(page.read_text(encoding="utf-8")):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.kind == "output":
            assert printed.strip() == block.text.strip(), where
        elif block.kind in ("python", "setup", "bash"):
            stream = io.StringIO()
            with contextlib.redirect_stdout(stream):
                if block.kind == "bash":
                    run_commands(block.text)
                else:
                    # Line numbers in tracebacks are those of the page.
                    code = "\n" * block.line + block.text
                    exec(compile(code, str(page), "exec", dont_inherit=True), space)
            printed = stream.getvalue()
        else:
            assert block.kind in ("skip", "text", "toml", "json", "console"), where


def test_commands_stand_in_blocks():
    """An indented command would not be run by the test above."""
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            assert not re.match(r"    (hspan|python) ", line), f"{page.name}: {line}"


def test_runner_sees_a_wrong_output_and_a_failing_command(user_folder, capsys):
    blocks = blocks_of("```python\nprint(1)\n```\n\n<!-- output -->\n```text\n2\n```\n")
    assert [(b.kind, b.text) for b in blocks] == [("python", "print(1)\n"), ("output", "2\n")]
    with pytest.raises(AssertionError, match="only hspan"):
        run_commands("rm -r folder")
    with pytest.raises(AssertionError, match="upscale missing"):
        run_commands("hspan upscale missing.png  # comment")
    with pytest.raises(AssertionError, match="needs a reason"):
        blocks_of("<!-- skip: -->\n```bash\nx\n```\n")
