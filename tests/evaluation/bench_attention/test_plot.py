import sys

import pytest
from PIL import Image

from hspan.errors import InputError, UsageError
from hspan.evaluation.bench_attention import (
    METHODS,
    AttentionReport,
    Case,
    Result,
    alike,
    check_plot,
    plot_attention,
)
from hspan.evaluation.bench_attention._plot import _STYLES


def case(tokens, direction="forward", support=32.0, memory=None, skipped=None):
    results = tuple(
        Result(
            method=name,
            title=method.title,
            milliseconds=tokens / (i + 1),
            extrapolated=name == "released",
            extra_mib=memory,
        )
        for i, (name, method) in enumerate(METHODS.items())
    )
    return Case(
        tokens=tokens,
        features="photo",
        direction=direction,
        target_support=support,
        support=support,
        query_channels=96,
        value_channels=192,
        results=() if skipped else results,
        skipped=skipped,
    )


def report(*cases):
    return AttentionReport(
        date="",
        commit=None,
        machine={"processor": "Some 9000", "threads": 2},
        versions={},
        settings=(),
        protocol=(),
        cases=cases,
    )


def width(path):
    with Image.open(path) as image:
        return image.width


def test_every_method_has_a_style_of_its_own():
    assert set(_STYLES) == set(METHODS)
    assert len(set(_STYLES.values())) == len(_STYLES)


def test_cases_that_make_one_line():
    first, other, again = case(100), case(200), case(200, memory=3.0)
    backward, sparse = case(100, "forward+backward"), case(100, support=8.0)
    missing = case(300, skipped="too small")
    cases = (missing, first, backward, other, sparse, again)
    assert alike(cases) == [first, other]
    assert alike(cases, backward) == [backward]
    assert alike([missing]) == []


def test_files_of_every_kind(tmp_path):
    pytest.importorskip("matplotlib")
    paths = [tmp_path / f"plot{suffix}" for suffix in (".png", ".svg", ".pdf")]
    measured = report(case(100, memory=1.0), case(400, memory=2.0))
    plot_attention(measured, paths)
    assert width(paths[0]) > 1000
    drawing = paths[1].read_text(encoding="utf-8")
    before = [path.read_bytes() for path in paths]
    plot_attention(measured, paths)
    assert [path.read_bytes() for path in paths] == before
    plot_attention(report(case(100), case(400)), paths[:2])
    assert width(paths[0]) < 1000  # no memory, no second panel
    assert paths[1].read_text(encoding="utf-8") != drawing


def test_what_cannot_be_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match="nothing was measured"):
        plot_attention(report(case(100, skipped="too small")), [tmp_path / "plot.png"])
    with pytest.raises(UsageError, match=r"written as \.png, \.svg, \.pdf"):
        check_plot(tmp_path / "plot.jpg")
    with pytest.raises(UsageError, match="there is no folder"):
        check_plot(tmp_path / "nowhere" / "plot.png")
    folder = tmp_path / "folder.png"
    folder.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        plot_attention(report(case(100)), [folder])


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'hspan\[plot\]'"):
        check_plot(tmp_path / "plot.png")
