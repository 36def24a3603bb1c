"""Makes a small sharded set on its own Ray, in a separate process because Ray reads its settings only once.

`python -m tests.far_shards MANIFEST OUT` prints one JSON object.
"""

import json
import sys
from functools import partial
from pathlib import Path

from mer.data.shards.fill import fill
from mer.jobs.spreading import over_ray
from mer.utils.errors import StorageError
from tests.shard_helpers import make_set


def main() -> None:
    """Make the set, then try a missing folder on a second Ray."""
    manifest, out = map(Path, sys.argv[1:])
    told: list[tuple[int, int]] = []
    make_set(manifest, out, spread=over_ray, progress=lambda done, total: told.append((done, total)))
    try:
        over_ray(partial(fill, out / "nowhere"), [0])
        said = "nothing"
    except StorageError as error:
        said = str(error)
    sys.stdout.write(json.dumps({"told": told, "said": said}))


if __name__ == "__main__":
    main()
