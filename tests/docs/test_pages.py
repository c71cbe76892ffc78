"""What the documentation site is made of fits together; the site's own build checks the rest."""

import re
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("**/*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The identifiers that headings get: lower case, words joined by dashes."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", t).strip().lower()) for t in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_links_lead_somewhere_within_the_site(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(DOCS), f"{link} leads out of the site"
        assert target.is_file(), f"{link} doesn't exist"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def entries(nav) -> list[str]:
    found = []
    for item in nav:
        for value in item.values():
            found += entries(value) if isinstance(value, list) else [value]
    return found


def test_navigation_names_every_page():
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    named = entries(config["project"]["nav"])
    assert sorted(named) == sorted(str(p.relative_to(DOCS).as_posix()) for p in PAGES)


def test_reference_covers_the_public_names():
    import hspan

    pages = "\n".join(p.read_text(encoding="utf-8") for p in (DOCS / "api").glob("*.md"))
    documented = {name.rsplit(".", 1)[1] for name in re.findall(r"^::: (\S+)$", pages, re.M)}
    missing = set(hspan.__all__) - documented - {"__version__", "imaging", "metrics"}
    assert not missing
