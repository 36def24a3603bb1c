"""Small sharded sets of the clips of `tests.run_helpers`, several shards each."""

from pathlib import Path

import pandas as pd
import pytest

from mer.data.shards.layout import record
from mer.data.shards.make import make
from mer.data.shards.read import ShardSet
from tests.run_helpers import tiny_config, write_songs

__all__ = ["CLIPS", "as_parquet", "make_set", "shard_files"]

CLIPS = 4  # per shard


def as_parquet(corpus: Path, **columns) -> Path:
    """The manifest of a corpus as Parquet beside its clips, with other or more columns."""
    path = corpus / "manifest.parquet"
    pd.read_csv(corpus / "manifest.csv").assign(**columns).to_parquet(path)
    return path


def make_set(manifest: Path, out: Path, *, clips: int = CLIPS, **options):
    """Make a sharded set of one-window clips, with this many per shard; returns its summary."""
    config = options.pop("config", tiny_config())
    size = clips * record(config.input_shape).itemsize
    return make(manifest, out, config, **{"shard_bytes": size, "workers": 1} | options)


def shard_files(out: Path) -> dict[str, bytes]:
    """The content of all files of a set by name, except its lock."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("[!.]*.*"))}


@pytest.fixture(scope="session")
def song_parquet(tmp_path_factory):
    """A Parquet manifest of 24 clips of 12 songs."""
    return as_parquet(write_songs(tmp_path_factory.mktemp("sharded"), songs=6))


@pytest.fixture(scope="session")
def sharded(song_parquet, tmp_path_factory):
    """A finished set of these clips in six shards; tests must not change it."""
    out = tmp_path_factory.mktemp("sets") / "set"
    make_set(song_parquet, out)
    return out


@pytest.fixture
def opened(sharded):
    return ShardSet.open(sharded)
