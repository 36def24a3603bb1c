"""Download MER500 (Velankar, `makvel/mer500`) from Kaggle with kagglehub."""

import os
import shutil
from pathlib import Path

from mer.data.folders import read_tree
from mer.utils.errors import DataError, reason_of
from mer.utils.files import new_folder

__all__ = ["KAGGLE_NAMES", "fetch"]

KAGGLE_NAMES = {"mer500": "makvel/mer500"}


def fetch(name: str, out: Path) -> Path:
    """Download the data set `name` of `KAGGLE_NAMES` into the new folder `out`, and return the folder.

    Raises DataError if the name is unknown or the download fails; the message then says how to do it by hand.
    """
    if name not in KAGGLE_NAMES:
        raise DataError(f"unknown data set {name!r}; there are: {', '.join(KAGGLE_NAMES)}")
    with new_folder(out) as folder:
        read_tree(shutil.copytree(_download(KAGGLE_NAMES[name], out), folder, dirs_exist_ok=True))
    return out


def _download(handle: str, out: Path) -> str:
    """Download with kagglehub; returns the path of its copy. Any failure raises DataError with the remedy."""
    os.environ.setdefault("KAGGLEHUB_VERBOSITY", "error")
    import kagglehub  # here, because importing it reads its settings and takes a second

    try:
        return kagglehub.dataset_download(handle)
    except Exception as error:  # kagglehub raises errors of requests, urllib3 and its own
        reason = reason_of(error, 120)
        raise DataError(
            f"cannot fetch {handle} from Kaggle ({reason}); download archive.zip from "
            f"kaggle.com/datasets/{handle} by hand and give it as --data archive.zip, or unpack it to {out}"
        ) from error
