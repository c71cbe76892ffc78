import pytest

from hspan.cli._amounts import parse_bytes, parse_seconds
from hspan.errors import UsageError


@pytest.mark.parametrize(
    ("text", "count"),
    [("2G", 2e9), ("1.5 GB", 1.5e9), ("800m", 8e8), ("4Gi", 2**32), ("512KiB", 2**19), ("77", 77)],
)
def test_bytes(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize(("text", "count"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2 H", 7200)])
def test_seconds(text, count):
    assert parse_seconds(text) == count


@pytest.mark.parametrize("text", ["", "G", "-1", "0", "2X", "1e9", "two"])
@pytest.mark.parametrize("parse", [parse_bytes, parse_seconds])
def test_nonsense(parse, text):
    with pytest.raises(UsageError, match="is like"):
        parse(text)
