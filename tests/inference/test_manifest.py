import json
import os
import subprocess
import sys

import pytest

from hspan.errors import InputError, UsageError
from hspan.inference import Entry, Manifest, ManifestError

SETTINGS = {"scale": 2, "weights": "abc"}
DONE = Entry("/in/a.png", "/out/a.png", "done", "00", 5, 6, 7)


def write(path, *entries):
    with Manifest(path, SETTINGS) as manifest:
        for entry in entries:
            manifest.record(entry)
    return path.read_bytes()


def test_what_is_recorded_is_known_later(tmp_path):
    path = tmp_path / "new" / "m.jsonl"
    failed = Entry("/in/\udcff.png", "/out/b.png", "failed", error="it\nfailed")
    content = write(path, Entry("/in/a.png", "/out/a.png", "writing"), DONE, failed)
    assert [json.loads(line).get("state") for line in content.splitlines()] == [
        None, "writing", "done", "failed"
    ]  # fmt: skip
    with Manifest(path, SETTINGS) as manifest:
        assert manifest.continued
        assert manifest.entry("/in/a.png") == DONE
        assert manifest.entry("/in/\udcff.png") == failed
        assert manifest.entry("/in/c.png") is None
        assert manifest.run == json.loads(content.splitlines()[0])["run"]
    assert path.read_bytes() == content


def test_cut_at_any_byte_it_is_still_a_manifest(tmp_path):
    path = tmp_path / "m.jsonl"
    content = write(path, DONE, Entry("/in/b.png", "/out/b.png", "done"))
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        with Manifest(path, SETTINGS) as manifest:
            known = [manifest.entry(f"/in/{n}.png") is not None for n in "ab"]
        assert known == [cut >= ends[1], cut >= ends[2]]
        assert path.read_bytes().endswith(b"\n")  # the half line is gone


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"my precious notes, without a line feed", "isn't a manifest"),
        (b"my precious\nnotes\n", "isn't a manifest"),
        (b'{"manifest": 99, "run": "0", "settings": {}}\n', "isn't a manifest"),
        (b'{"manifest": 1, "run": "../x", "settings": {}}\n', "isn't a manifest"),
        (b'{"manifest": 1, "run": "0", "settings": {}}\nnonsense\n', r"damaged \(line 2\)"),
        (b'{"manifest": 1, "run": "0", "settings": {}}\n{"state": "x"}\n', r"damaged \(line 2\)"),
    ],
)
def test_other_files_are_left_alone(tmp_path, content, message):
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Manifest(path, SETTINGS)
    assert path.read_bytes() == content


def test_other_settings_are_refused(tmp_path):
    path = tmp_path / "m.jsonl"
    write(path)
    with pytest.raises(UsageError, match="a batch with scale 2, not 3: repeat that call"):
        Manifest(path, {**SETTINGS, "scale": 3})


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_one_process_at_a_time(tmp_path):
    path = tmp_path / "m.jsonl"
    code = f"from hspan.inference import Manifest; Manifest({str(path)!r}, {SETTINGS})"
    with Manifest(path, SETTINGS):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is in use by another process" in run.stderr
    write(path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is always full")
def test_a_full_disk_ends_the_batch(tmp_path):
    with Manifest(tmp_path / "m.jsonl", SETTINGS) as manifest:
        os.dup2(os.open("/dev/full", os.O_WRONLY), manifest._file.fileno())
        with pytest.raises(ManifestError, match="No space left on device; nothing further"):
            manifest.record(DONE)
    with pytest.raises(InputError, match="can't open"):
        Manifest(tmp_path, SETTINGS)
