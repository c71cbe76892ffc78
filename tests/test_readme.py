"""The README's commands are what the continuous integration runs, and what exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    return [line for line in README.splitlines() if line.startswith("python3 -m venv")]


def test_two_commands_install_everything():
    assert len(commands()) == 2
    assert all("-c constraints.txt" in command for command in commands())


def test_continuous_integration_runs_the_second():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert commands()[1] in lines


def test_files_that_it_names_exist():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
    assert (ROOT / "examples" / "astronaut.png").exists()
