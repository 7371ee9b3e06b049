"""The repository itself: nothing in it belongs to one machine or one workplace."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = {".py", ".rst", ".md", ".toml", ".txt", ".json", ".cfg", ".yml", ".yaml", ""}

# Written in pieces, so that this file does not find itself.
ABSOLUTE = re.compile(r"(?<![\w.:/<])/(?:home|root|work|Users|mnt|opt|workspace)" + r"/[\w.-]+")
FORBIDDEN = re.compile(
    "|".join(
        [
            r"\bclau" + r"de\b", r"\banthro" + r"pic\b", r"\bchat" + r"gpt\b", r"\bco" + r"pilot\b",
            r"\bLL" + r"Ms?\b", r"\bsub" + r"agents?\b", r"\bAI" + r"[- ](?:generated|assistant)\b",
            r"\.\./sha" + r"red\b",
        ]
    ),
    re.IGNORECASE,
)  # fmt: skip


def tracked_text() -> list[Path]:
    """Return the text files under version control, or all if there is none (a release)."""
    done = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        pytest.skip("not a checkout")
    files = [ROOT / line for line in done.stdout.splitlines()]
    return [file for file in files if file.suffix in TEXT and file.is_file()]


def findings(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for file in tracked_text():
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {match.group()}")
    return found


def test_the_check_reads_the_repository():
    names = {file.relative_to(ROOT).as_posix() for file in tracked_text()}
    assert {"pyproject.toml", "ci/test", "xearth/__init__.py"} <= names


def test_no_absolute_path():
    assert ABSOLUTE.search("see /ho" + "me/someone/file")
    assert findings(ABSOLUTE) == []


def test_no_word_of_a_workplace():
    assert FORBIDDEN.search("written by an AI" + " assistant")
    assert findings(FORBIDDEN) == []


@pytest.mark.parametrize("script", ["ci/test", "ci/demo", "ci/pins", ".ci/run"])
def test_scripts_are_executable_bash(script):
    file = ROOT / script
    assert file.stat().st_mode & 0o111
    assert file.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    assert subprocess.run(["bash", "-n", str(file)], check=False).returncode == 0


def test_no_large_file():
    large = [
        f"{file.relative_to(ROOT)}: {file.stat().st_size / 2**20:.1f} MB"
        for file in map(
            ROOT.joinpath,
            subprocess.run(
                ["git", "ls-files"], capture_output=True, text=True, check=False, cwd=ROOT
            ).stdout.splitlines(),
        )
        if file.is_file() and file.stat().st_size > 12 * 2**20
    ]
    assert large == []
