"""The properties of pure functions once more, on ten times as many examples, and on others."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUBJECTS = ("agreement", "arrays", "calibration", "config", "metrics", "splits", "store", "windows")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_properties_hold_for_five_hundred_random_examples():
    """As `pytest --hypothesis-profile thorough` runs them, but always the same ones: CI is no lottery."""
    files = [f"tests/test_{subject}.py" for subject in SUBJECTS]
    how = ["-q", "-m", "hypothesis", "--hypothesis-profile", "thorough", "--timeout", "600"]
    how += ["--hypothesis-seed", "0"]
    words = [sys.executable, "-m", "pytest", *how, "-p", "no:cacheprovider", *files]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
