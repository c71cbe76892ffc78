import base64

from hspan.reproduce._blocks import (
    Cell,
    Picture,
    Table,
    Text,
    as_json,
    cells,
    count,
    number,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
)

TABLE = Table(
    "scores",
    "Scores ×2",
    ("a_b", "PSNR"),
    (cells("x & y", number(31.4567, 2, strong=True)), cells("none", number(None, 2))),
)


def test_numbers():
    assert number(0.001, 2, sign=True).text == "+0.00"
    assert number(-0.001, 2, sign=True).text == "+0.00"
    assert number(None, 2) == Cell("–")
    assert count(12644) == Cell("12,644", 12644)
    assert count(None) == Cell("–")


def test_markdown():
    text = to_markdown([Text("One."), TABLE, Picture("fig", "A picture")])
    assert "| x & y | **31.46** |" in text
    assert "![A picture](fig.png)" in text


def test_csv_keeps_all_digits():
    assert to_csv(TABLE) == "a_b,PSNR\nx & y,31.4567\nnone,–\n"


def test_latex_is_escaped():
    text = to_latex(TABLE)
    assert r"a\_b & PSNR \\" in text
    assert r"x \& y & \textbf{31.46} \\" in text
    assert r"none & -- \\" in text
    assert text.startswith("% Scores ×2\n\\begin{tabular}{lr}\n\\toprule\n")


def test_html_holds_its_pictures(tmp_path):
    (tmp_path / "fig.png").write_bytes(b"picture")
    blocks = [Text("**Strong** <tag> `code`"), TABLE, Picture("fig", "A picture")]
    page = to_html([as_json(block) for block in blocks], tmp_path)
    assert "<b>Strong</b> &lt;tag&gt; <code>code</code>" in page
    assert base64.b64encode(b"picture").decode() in page
    assert '<td class="number"><b>31.46</b></td>' in page
