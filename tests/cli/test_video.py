from hspan.cli import main


def test_a_suffix_that_is_a_path_is_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    clip = tmp_path / "in" / "a.mp4"
    clip.write_text("no video")
    words = ["upscale", str(clip), "-m", "bicubic", "--device", "cpu", "--suffix"]
    assert main([*words, "/../../b"]) == 2
    assert "would lead into another folder" in capsys.readouterr().err
    assert main([*words, "-big"]) == 1  # and one that is none isn't
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.mp4"]
