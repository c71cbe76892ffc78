"""Learning rates worked by hand."""

import pytest

from hspan.training import lr_factor
from hspan.training._recipe import ScheduleSection


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 1), (199_999, 1), (200_000, 0.5), (999_999, 1 / 16)]
)
def test_multistep(step, factor):
    assert lr_factor(ScheduleSection(halve_every=200_000), step, 1_000_000) == factor


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 0.1), (4, 0.5), (9, 1), (10, 1), (60, 0.5), (110, 0), (200, 0)]
)
def test_cosine_with_warmup(step, factor):
    schedule = ScheduleSection(name="cosine", warmup=10)
    assert lr_factor(schedule, step, 110) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 0.1), (10, 1), (80, 1), (85, 0.75), (95, 0.25), (100, 0), (110, 0)]
)
def test_trapezoid(step, factor):
    schedule = ScheduleSection(name="trapezoid", descent=20, warmup=10)
    assert lr_factor(schedule, step, 100) == pytest.approx(factor, abs=1e-12)


def test_warmup_may_be_the_whole_run():
    assert lr_factor(ScheduleSection(name="cosine", warmup=5), 5, 5) == 1
