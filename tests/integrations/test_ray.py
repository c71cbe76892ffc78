"""Needs the extra [cluster] and moto[server]: see docs/clusters.md."""

import json
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from hspan.cli import main
from hspan.errors import InputError, UsageError

ray = pytest.importorskip("ray")
s3fs = pytest.importorskip("s3fs")
pytest.importorskip("moto")

from hspan.integrations.addresses import Store, is_address, store  # noqa: E402 (needs fsspec)

pytestmark = pytest.mark.filterwarnings("ignore:::(ray|moto|botocore|aiobotocore|s3fs|fsspec)")


@pytest.fixture(scope="module")
def bucket():
    """An S3-compatible server on this machine, with a bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("RAY_worker_niceness", "0")  # on a busy machine they would hardly start
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        s3fs.S3FileSystem().mkdir("images")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield "s3://images"
        ray.shutdown()
        server.terminate()
        server.wait()


def photos(folder):
    rng = np.random.default_rng(0)
    for i, name in enumerate(("a.png", "b.jpg", "sub/c.tif", "sub/deep/d.webp", "e.bmp")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10 + i, 12, 3), np.uint8)).save(path)
    (folder / "sub" / "text.png").write_text("no image")
    return folder


def upscale(*words):
    return main(["upscale", *map(str, words), "-m", "bicubic", "--device", "cpu", "-r"])


def contents(files, root):
    found = files.find(root)
    return {path.removeprefix(files._strip_protocol(root)): files.cat_file(path) for path in found}


def test_two_workers_and_an_object_store_equal_a_local_run(bucket, tmp_path, capsys):
    photos(tmp_path / "in")
    files = s3fs.S3FileSystem()
    files.put(str(tmp_path / "in"), "images/in", recursive=True)
    assert upscale(tmp_path / "in", "-o", tmp_path / "out") == 1
    capsys.readouterr()
    words = [f"{bucket}/in", "--out", f"{bucket}/out", "--engine", "ray", "--workers", "2"]
    words += ["--manifest", tmp_path / "m.jsonl", "--json"]
    assert upscale(*words) == 1
    report = json.loads(capsys.readouterr().out)
    assert sorted(entry["status"] for entry in report) == ["done"] * 5 + ["failed"]
    failed = next(entry for entry in report if entry["status"] == "failed")
    assert failed["error"].startswith("s3://images/in/sub/text.png isn't an image")
    local = {
        f"/{p.relative_to(tmp_path / 'out').as_posix()}": p.read_bytes()
        for p in (tmp_path / "out").rglob("*.*")
    }
    files.invalidate_cache()
    assert contents(files, "images/out") == local
    assert len(local) == 5

    # Ended before some were reported: those are done again, the others aren't touched.
    lines = (tmp_path / "m.jsonl").read_text().splitlines(keepends=True)
    done = [line for line in lines if '"done"' in line]
    assert len(done) == 5
    started = [line for line in lines if '"state": "started"' in line]
    (tmp_path / "m.jsonl").write_text("".join([lines[0], *started, *done[:2]]))
    files.rm(json.loads(done[4])["target"])
    before = {p: i["LastModified"] for p, i in files.find("images/out", detail=True).items()}
    time.sleep(1.1)  # the store counts whole seconds
    assert upscale(*words) == 1
    report = json.loads(capsys.readouterr().out)
    statuses = sorted(entry["status"] for entry in report)
    assert statuses == ["done"] * 3 + ["failed"] + ["skipped"] * 2
    files.invalidate_cache()
    assert contents(files, "images/out") == local
    after = {p: i["LastModified"] for p, i in files.find("images/out", detail=True).items()}
    kept = [json.loads(line)["target"].removeprefix("s3://") for line in done[:2]]
    assert all(after[path] == before[path] for path in kept)


def test_existing_results_and_paths(bucket, tmp_path, capsys):
    photos(tmp_path / "in")
    (tmp_path / "in/sub/text.png").unlink()
    words = [tmp_path / "in", "-o", tmp_path / "out", "--engine", "ray", "--workers", "1"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_x2.png").write_bytes(b"precious")
    assert upscale(*words) == 1
    assert "a_x2.png exists already" in capsys.readouterr().err
    assert (tmp_path / "out" / "a_x2.png").read_bytes() == b"precious"
    assert upscale(*words, "--skip-existing") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "5 skipped"
    assert len([p for p in (tmp_path / "out").rglob("*") if p.is_file()]) == 5


def test_wrong_calls(bucket, tmp_path, capsys):
    assert upscale(f"{bucket}/in", "-o", tmp_path / "out") == 2
    assert "--engine ray" in capsys.readouterr().err
    assert upscale(f"{bucket}/in", "--engine", "ray") == 2
    assert upscale(f"{bucket}/absent", "--out", f"{bucket}/out", "--engine", "ray") == 1
    assert "s3://images/absent can't be listed" in capsys.readouterr().err
    assert upscale("nosuch://x", "--out", f"{bucket}/out", "--engine", "ray") == 2
    assert upscale(f"{bucket}/in", "-o", f"{bucket}/o", "--engine", "ray", "--workers", "9") == 2


def test_addresses():
    assert is_address("s3://b/in")
    assert not is_address("C://x")
    assert not is_address("in/out")


def test_a_file_that_cannot_be_stored(tmp_path):
    (tmp_path / "a").write_text("x")
    with pytest.raises(InputError, match="can't be written"):
        store(tmp_path / "a", str(tmp_path / "a" / "b"))
    with pytest.raises(UsageError, match="can't be used"):
        Store("nosuch://x")
