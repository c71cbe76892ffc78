from itertools import combinations

import pytest

from hspan.evaluation._labels import label_points

pytest.importorskip("matplotlib")


def test_names_keep_clear_of_each_other_and_of_the_border():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    # Six of them in a heap, one in a corner.
    points = [(f"network-{i}", 0.5 + 0.004 * i, 0.5) for i in range(6)] + [("corner", 1.0, 1.0)]
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    label_points(axes, points, font_size=7)
    figure.draw_without_rendering()
    assert [text.get_text() for text in axes.texts] == [name for name, _, _ in points]
    for text in axes.texts:
        text.arrow_patch = None  # the line belongs to a name's extent otherwise
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    inside = axes.get_window_extent()
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 + 1 for box in boxes)
    assert all(inside.y0 <= box.y0 and box.y1 <= inside.y1 + 1 for box in boxes)
