import dataclasses
import os
import sys
import threading

import numpy as np
import pytest

from hspan.errors import InputError
from hspan.imaging import Picture, read_image, write_image
from hspan.inference import (
    Entry,
    Manifest,
    ManifestError,
    Upscaler,
    batch_settings,
    plan_files,
    upscale_batch,
)
from hspan.inference import batch as module


def save(path, seed=0, shape=(6, 8, 3)):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Picture(pixels))
    return path


@pytest.fixture
def folder(tmp_path):
    """Five images in two folders."""
    for i, name in enumerate(("a.png", "b.png", "sub/a.png", "sub/c.png", "z.png")):
        save(tmp_path / "in" / name, i)
    return tmp_path / "in"


@pytest.fixture
def upscaler(nearest):
    return Upscaler(nearest(), device="cpu")


def jobs_for(folder, **options):
    out = folder.parent / "out"
    jobs, failures = plan_files([folder], 2, out=out, recursive=True, **options)
    assert failures == []
    return jobs


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def manifest_for(folder, upscaler):
    return Manifest(folder.parent / "m.jsonl", batch_settings(upscaler, 95))


def resumed(folder, upscaler, **options):
    """The statuses of a run that continues a manifest."""
    with manifest_for(folder, upscaler) as manifest:
        jobs = jobs_for(folder, allow_existing=True)
        return [o.status for o in upscale_batch(upscaler, jobs, manifest=manifest, **options)]


def test_a_tree_is_mirrored_in_order(folder, upscaler):
    outcomes = list(upscale_batch(upscaler, jobs_for(folder)))
    assert [o.status for o in outcomes] == ["done"] * 5
    assert sorted(contents(folder.parent / "out")) == [
        "a_x2.png", "b_x2.png", "sub/a_x2.png", "sub/c_x2.png", "z_x2.png"
    ]  # fmt: skip
    assert [o.job.source.name for o in outcomes] == ["a.png", "b.png", "z.png", "a.png", "c.png"]
    result = read_image(folder.parent / "out" / "sub" / "c_x2.png").pixels
    assert np.array_equal(result[::2, ::2], read_image(folder / "sub" / "c.png").pixels)


def test_the_network_stays_in_its_thread_and_codecs_outside(folder, upscaler, monkeypatch):
    threads = {"read": set(), "write": set(), "network": set()}

    def spy(name, function):
        def called(*words, **options):
            threads[name].add(threading.current_thread())
            return function(*words, **options)

        return called

    monkeypatch.setattr(module, "read_source", spy("read", module.read_source))
    monkeypatch.setattr(module, "write_image", spy("write", module.write_image))
    monkeypatch.setattr(upscaler, "upscale_picture", spy("network", upscaler.upscale_picture))
    list(upscale_batch(upscaler, jobs_for(folder)))
    assert threads["network"] == {threading.current_thread()}
    assert threads["read"].isdisjoint(threads["write"] | threads["network"])
    assert threads["write"].isdisjoint(threads["network"])


def test_failures_are_named_and_the_others_done(folder, upscaler, monkeypatch):
    jobs = jobs_for(folder)
    (folder / "b.png").unlink()
    (folder / "z.png").write_bytes((folder / "z.png").read_bytes()[:60])
    whole = upscaler.upscale_picture

    def strange(picture, **options):
        if np.array_equal(picture.pixels, read_image(folder / "a.png").pixels):
            raise RuntimeError("something\nstrange")
        return whole(picture, **options)

    monkeypatch.setattr(upscaler, "upscale_picture", strange)
    outcomes = list(upscale_batch(upscaler, jobs))
    errors = {o.job.source.name: o.error for o in outcomes if o.status == "failed"}
    assert "unexpected RuntimeError (something strange)" in errors["a.png"]
    assert "doesn't exist" in errors["b.png"]
    assert "damaged" in errors["z.png"]
    assert all(str(folder / name) in error for name, error in errors.items())
    assert sorted(contents(folder.parent / "out")) == ["sub/a_x2.png", "sub/c_x2.png"]


@pytest.mark.parametrize("lines", range(1, 12))
def test_ended_after_any_line_of_the_manifest(folder, upscaler, lines):
    """What a kill leaves: some lines, perhaps one output more, and half a result hidden away."""
    with manifest_for(folder, upscaler) as manifest:
        list(upscale_batch(upscaler, jobs_for(folder), manifest=manifest, threads=1))
    whole, out = contents(folder.parent / "out"), folder.parent / "out"
    path = folder.parent / "m.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)[:lines]
    path.write_bytes(b"".join(kept))
    with manifest_for(folder, upscaler) as manifest:
        states = {j: manifest.entry(str(j.source)) for j in jobs_for(folder, allow_existing=True)}
        run = manifest.run
    for number, (job, entry) in enumerate(states.items()):
        # "writing": with the name or without; one each.
        if entry is None or (entry.state == "writing" and number % 2):
            job.target.unlink()
    (out / f".hspan-{run}").mkdir()
    (out / f".hspan-{run}" / ".hspan-12.part").write_bytes(b"half")
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*_x2.png")}
    statuses = resumed(folder, upscaler)
    assert statuses.count("skipped") == len(before)
    assert contents(out) == whole
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert not list(out.rglob(".hspan-*"))


def test_a_name_that_somebody_else_took_is_respected(folder, upscaler):
    with manifest_for(folder, upscaler) as manifest:
        job = jobs_for(folder)[0]
        manifest.record(Entry(str(job.source), str(job.target), "writing", "0" * 64, 8))
    job.target.parent.mkdir()
    job.target.write_bytes(b"precious")
    assert resumed(folder, upscaler) == ["failed", *["done"] * 4]
    assert job.target.read_bytes() == b"precious"


def test_changed_inputs_and_lost_results_are_done_again(folder, upscaler):
    assert resumed(folder, upscaler) == ["done"] * 5
    out = folder.parent / "out"
    (out / "b_x2.png").unlink()
    save(folder / "a.png", seed=9)
    assert resumed(folder, upscaler) == ["done", "done", "skipped", "skipped", "skipped"]
    changed = read_image(out / "a_x2.png").pixels[::2, ::2]
    assert np.array_equal(changed, read_image(folder / "a.png").pixels)
    # A result that somebody edited since isn't replaced, though its input changed.
    (out / "a_x2.png").write_bytes(b"edited")
    assert resumed(folder, upscaler)[0] == "failed"
    assert (out / "a_x2.png").read_bytes() == b"edited"


def test_failed_files_are_tried_again(folder, upscaler):
    content = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(content[:-30])
    with manifest_for(folder, upscaler) as manifest:
        jobs = jobs_for(folder, allow_existing=True)
        outcomes = list(upscale_batch(upscaler, jobs, manifest=manifest))
        assert [o.status for o in outcomes].count("failed") == 1
        assert "damaged" in manifest.entry(str(folder / "b.png")).error
    (folder / "b.png").write_bytes(content)
    assert resumed(folder, upscaler).count("done") == 1


@pytest.mark.parametrize("tile", [0, 4])
def test_stopping_writes_what_is_computed_and_goes_on_later(folder, upscaler, tile):
    list(upscale_batch(upscaler, jobs_for(folder)))
    whole = contents(folder.parent / "out")
    for path in (folder.parent / "out").rglob("*.png"):
        path.unlink()
    upscaler.tile, upscaler.overlap = tile, 0
    finished = []
    statuses = resumed(
        folder,
        upscaler,
        stop=lambda: sum(finished) == 2,
        progress=lambda job, done, tiles: finished.append(done == tiles),
    )
    assert statuses == ["done"] * 2
    assert resumed(folder, upscaler) == ["skipped"] * 2 + ["done"] * 3
    assert contents(folder.parent / "out") == whole


def test_a_stop_within_a_file_ends_after_the_tile(folder, nearest):
    network = nearest()
    upscaler = Upscaler(network, device="cpu", tile=4, overlap=0)
    seen = []
    stop = upscale_batch(
        upscaler, jobs_for(folder), stop=lambda: bool(seen), progress=lambda *w: seen.append(w)
    )
    assert list(stop) == []
    assert [w[1:] for w in seen] == [(1, 4)]
    assert len([size for size in network.seen if size[-1] <= 4]) == 1  # others count its costs
    assert contents(folder.parent / "out") == {}


def test_existing_outputs(folder, upscaler):
    jobs = jobs_for(folder)
    list(upscale_batch(upscaler, jobs[:2]))
    jobs[0].target.write_bytes(b"precious")
    again = jobs_for(folder, allow_existing=True)
    statuses = [o.status for o in upscale_batch(upscaler, again, skip_existing=True)]
    assert statuses == ["skipped", "skipped", "done", "done", "done"]
    assert jobs[0].target.read_bytes() == b"precious"
    outcome = next(upscale_batch(upscaler, again[:1]))
    assert "exists already; --overwrite" in outcome.error
    replaced = [dataclasses.replace(again[0], overwrite=True)]
    assert next(upscale_batch(upscaler, replaced)).status == "done"


@pytest.mark.parametrize("links", [True, False])
def test_outputs_that_appear_meanwhile_are_kept(folder, upscaler, monkeypatch, links):
    job = jobs_for(folder)[0]

    def write_and_lose(path, picture, **options):
        write_image(path, picture, **options)
        job.target.write_bytes(b"precious")

    def refuse(*paths):
        raise OSError("links don't exist here")

    monkeypatch.setattr(module, "write_image", write_and_lose)
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    outcome = next(upscale_batch(upscaler, [job]))
    assert "appeared meanwhile" in outcome.error
    assert contents(folder.parent / "out") == {"a_x2.png": b"precious"}


def test_without_links_names_are_given_by_renaming(folder, upscaler, monkeypatch):
    def refuse(*paths):
        raise OSError("links don't exist here")

    monkeypatch.setattr(os, "link", refuse)
    assert [o.status for o in upscale_batch(upscaler, jobs_for(folder))] == ["done"] * 5


def test_large_images_go_alone_and_resume(folder, upscaler, monkeypatch):
    list(upscale_batch(upscaler, jobs_for(folder)))
    whole = contents(folder.parent / "out")
    monkeypatch.setattr(module, "LARGE_BYTES", 1)
    for path in (folder.parent / "out").rglob("*.png"):
        path.unlink()
    assert resumed(folder, upscaler) == ["done"] * 5
    assert contents(folder.parent / "out") == whole
    # Ended between the last step and its line in the manifest:
    path = folder.parent / "m.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert resumed(folder, upscaler) == ["skipped"] * 5
    assert resumed(folder, upscaler) == ["skipped"] * 5


def test_a_manifest_that_cannot_be_written_ends_the_batch(folder, upscaler, monkeypatch):
    def refuse(entry):
        raise ManifestError("can't write")

    with manifest_for(folder, upscaler) as manifest:
        monkeypatch.setattr(manifest, "record", refuse)
        with pytest.raises(ManifestError):
            list(upscale_batch(upscaler, jobs_for(folder), manifest=manifest))
    assert contents(folder.parent / "out") == {}


def test_inputs_that_change_while_they_are_read(folder, upscaler, monkeypatch):
    from hspan.inference import files

    def read_slowly(path):
        picture = read_image(path)
        save(path, seed=7, shape=(3, 3, 3))
        return picture

    monkeypatch.setattr(files, "read_image", read_slowly)
    outcome = next(upscale_batch(upscaler, jobs_for(folder)[:1]))
    assert "was changed while it was read" in outcome.error


def test_images_larger_than_the_free_memory_are_refused(folder, upscaler, monkeypatch):
    from hspan.inference import files

    monkeypatch.setattr(files, "available_ram", lambda: 100)
    outcome = next(upscale_batch(upscaler, jobs_for(folder)[:1]))
    assert "takes 0.0 GB when decoded, and 0.0 GB are free" in outcome.error


def test_not_enough_memory_for_one_file(folder, upscaler, monkeypatch):
    def exhausted(path):
        raise MemoryError

    monkeypatch.setattr(module, "read_source", exhausted)
    outcome = next(upscale_batch(upscaler, jobs_for(folder)[:1]))
    assert outcome.error == f"{outcome.job.source}: there isn't enough memory for it"


@pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")
def test_a_full_disk_leaves_nothing_half(folder, upscaler):
    import resource
    import signal

    jobs = jobs_for(folder)
    list(upscale_batch(upscaler, jobs[:1]))
    small = jobs[0].target.stat().st_size
    save(folder / "b.png", seed=5, shape=(40, 40, 3))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (small + 100, hard))
        outcomes = list(upscale_batch(upscaler, jobs[1:]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [o.status for o in outcomes] == ["failed", "done", "done", "done"]
    assert "b_x2.png" in outcomes[0].error
    assert sorted(contents(folder.parent / "out")) == [
        "a_x2.png", "sub/a_x2.png", "sub/c_x2.png", "z_x2.png"
    ]  # fmt: skip
    assert not list((folder.parent / "out").rglob(".hspan-*"))


def test_settings_tell_batches_apart(nearest, upscaler):
    assert batch_settings(upscaler, 95) != batch_settings(upscaler, 90)
    other = Upscaler(nearest(), device="cpu", tile=64)
    assert batch_settings(upscaler, 95) != batch_settings(other, 95)


def test_bombs_are_refused_by_their_header(folder):
    jobs, failures = plan_files([folder / "a.png", folder / "z.png"], 2, max_pixels=47)
    assert jobs == []
    assert "promises 8×6 pixels, more than the limit of 47" in failures[0].reason
    assert "--max-pixels 48" in failures[1].reason
    assert len(plan_files([folder / "a.png"], 2, max_pixels=48)[0]) == 1


def test_names_at_the_limit_of_the_file_system(tmp_path):
    path = save(tmp_path / f"{'n' * 250}.png")
    jobs, failures = plan_files([path, save(tmp_path / "a.png")], 2)
    assert [job.source.name for job in jobs] == ["a.png"]
    assert "File name too long" in failures[0].reason


def test_reasons_name_the_input():
    assert module.failure_reason("x.png", InputError("b")) == "x.png: b"
    full = OSError(28, "No space left on device", "out")
    assert module.failure_reason("x.png", full) == "x.png: No space left on device (out)"
