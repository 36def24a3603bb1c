"""Tasks of a Ray cluster make the same shards as the cores of this machine."""

from functools import partial
from importlib.util import find_spec

import pytest

from mer.errors import StorageError
from mer.shards.fill import fill
from mer.spreading import over_ray
from tests.run_helpers import write_songs
from tests.shard_helpers import as_parquet, make_set, shard_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def corpus(tmp_path):
    if not find_spec("ray"):
        pytest.skip("Ray is not installed")
    return write_songs(tmp_path / "songs", songs=3)


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_shards_made_by_tasks_are_those_made_here(corpus, tmp_path):
    manifest, told = as_parquet(corpus), []
    make_set(
        manifest,
        tmp_path / "far",
        spread=over_ray,
        progress=lambda done, total: told.append((done, total)),
    )
    make_set(manifest, tmp_path / "near")
    assert shard_files(tmp_path / "far") == shard_files(tmp_path / "near")
    assert told == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(StorageError, match=r"nowhere is not to be seen on .*; give a folder that all share"):
        over_ray(partial(fill, tmp_path / "nowhere"), [0])
