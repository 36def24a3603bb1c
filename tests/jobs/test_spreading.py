"""Tasks of a Ray cluster make the same shards as the cores of this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run_helpers import write_songs
from tests.shard_helpers import as_parquet, make_set, shard_files

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]


def test_shards_made_by_tasks_are_those_made_here(tmp_path):
    manifest = as_parquet(write_songs(tmp_path / "songs", songs=3))
    command = [sys.executable, "-m", "tests.far_shards", str(manifest), str(tmp_path / "far")]
    alone = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    make_set(manifest, tmp_path / "near")
    assert shard_files(tmp_path / "far") == shard_files(tmp_path / "near")
    assert found["told"] == [[1, 3], [2, 3], [3, 3]]
    assert "nowhere is not to be seen on " in found["said"]
    assert found["said"].endswith("; give a folder that all share")
