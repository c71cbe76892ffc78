import os
import time

from hspan.web import Workspace


def test_everything_goes_at_the_end():
    with Workspace() as workspace:
        (workspace.new() / "a.png").write_bytes(b"1")
        (workspace.folder / "uploads").mkdir()
        assert workspace.folder.name.startswith("hspan-web-")
    assert not workspace.folder.exists()


def test_old_results_go_before():
    with Workspace(keep=100) as workspace:
        old, young = workspace.new(), workspace.new()
        uploads = workspace.folder / "uploads"
        uploads.mkdir()
        for folder in (old, uploads):
            os.utime(folder, (time.time() - 200,) * 2)
        workspace.new()
        assert not old.exists()
        assert young.exists()
        assert uploads.exists()  # the server keeps those itself
        workspace.sweep(time.time() + 200)
        assert not young.exists()
