"""A run's files: its folders, and the state of an unfinished run, in the home or on a server.

In a home, a folder gets its name when it is complete. A server stores files one by one; there a tag with
the hash of the content is written last and says that a folder is complete. Downloaded folders stay under
MER_HOME/fetched, by that hash. So no content is fetched twice, but a replaced folder
is fetched again.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from filelock import FileLock

from mer.runs.moving import home_of_run, run_folder
from mer.runs.run import HOME
from mer.runs.server import delete_artifacts
from mer.utils.errors import StorageError
from mer.utils.files import atomic_path, hash_of_file, home, leftovers, new_folder, writing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

__all__ = ["Artifacts", "drop_fetched"]

KEPT, STATE = "mer.kept.", "mer.state"
SHORT = 16  # letters of a hash in a path
MARK = "mer.beat"  # runs without this tag were made by a version of mer that wrote no hashes


class Artifacts:
    """The artifacts of all runs of a store. MLflow's and requests' errors pass through.

    Parameters
    ----------
    client
        MLflow's client.
    shared
        True if a server keeps the runs.
    root
        The home that keeps the artifacts, wherever the database says that they were made; None with a server.
    """

    def __init__(self, client: "MlflowClient", *, shared: bool, root: Path | None = None) -> None:
        self.client, self.shared, self.root = client, shared, root

    def save_folder(self, run_id: str, name: str, write: Callable[[Path], None]) -> None:
        """Replace a folder of the run's artifacts, completely or not at all.

        Parameters
        ----------
        run_id
            Id of the run.
        name
            Name of the folder.
        write
            Called with an empty folder, which it fills.
        """
        run = self.client.get_run(run_id)
        if (local := self._local(run)) is None:
            self._upload(run, name, write)
            return
        target = local / name
        for old in (target, *leftovers(target)):
            _remove(old)
        with new_folder(target) as draft:
            write(draft)

    def _local(self, run: "MlflowRun") -> Path | None:
        """The run's folder on this machine; None if files are sent to and from a server.

        Raises StorageError if it is a folder of the server that this machine does not have.
        """
        uri = urlparse(run.info.artifact_uri)
        relative = not uri.scheme and not uri.path.startswith("/")
        if self.root and (relative or home_of_run(run.info.artifact_uri, run.info.run_id)):
            return run_folder(self.root, run.info.run_id)
        if uri.scheme not in ("", "file"):
            return None
        path = Path(unquote(uri.path))
        if self.shared and not path.parents[2].is_dir():  # of <root>/<experiment>/<run>/artifacts
            raise StorageError(
                f"the MLflow server keeps files in {path.parents[2]}, which is not on this machine; start it "
                "with --serve-artifacts, or mount that folder here"
            )
        return path

    def _find(self, run: "MlflowRun", local: Path, name: str) -> Path | None:
        """A folder of a run on this machine: in its home or, if it is not there, where the run was made.

        If only the database of a home was copied, the folders are read from the former home.
        """
        run_id = run.info.run_id
        before = (run.data.tags.get(HOME), home_of_run(run.info.artifact_uri, run_id)) if self.root else ()
        places = [local, *(run_folder(Path(former), run_id) for former in before if former)]
        return next((place / name for place in places if (place / name).is_dir()), None)

    def place(self, run_id: str) -> Path | None:
        """The folder for a run's artifacts, whether or not it exists; None if a server keeps them."""
        return self._local(self.client.get_run(run_id))

    def _upload(self, run: "MlflowRun", name: str, write: Callable[[Path], None]) -> None:
        run_id = run.info.run_id
        with tempfile.TemporaryDirectory(dir=_make_folder(_fetched_folder(run_id)), prefix=".") as draft:
            built = Path(draft) / "built" / name
            built.mkdir(parents=True)
            write(built)
            token = _hash_of_folder(built)
            place = _download_path(run_id, token)
            if not place.exists():
                with writing(place):
                    built.parent.replace(place)
        if self._entries(run_id, name):
            self.client.set_tag(run_id, KEPT + name, "")
            delete_artifacts(run.info.artifact_uri, name)
        self.client.log_artifacts(run_id, str(place / name), name)
        self.client.set_tag(run_id, KEPT + name, token)

    def folder(
        self, run_id: str, name: str, tags: dict[str, str] | None = None, *, only: str = ""
    ) -> Path | None:
        """A folder of a run as a local path, downloaded if needed; None if there is none.

        Parameters
        ----------
        run_id
            Id of the run.
        name
            Name of the folder.
        tags
            Tags of the run, if known; this saves a request to the server.
        only
            Download only files of this name. Default: all files.

        Raises
        ------
        StorageError
            If the folder changed during the download, or is damaged.
        """
        run = None
        if self.root and re.fullmatch("[0-9a-f]{32}", run_id):  # the usual case, which needs no request
            own = run_folder(self.root, run_id) / name
            if own.is_dir():
                return own
        if not (tags or {}).get(KEPT + name):
            run = self.client.get_run(run_id)
            if (local := self._local(run)) is not None:
                return self._find(run, local, name)
            tags = run.data.tags
        token = tags.get(KEPT + name, "")
        if not token and MARK not in tags:
            token = self._hash_of_listing(run_id, name)
        if not re.fullmatch("[0-9a-f]{64}", token):
            return None
        whole, part = _download_path(run_id, token) / name, _download_path(run_id, token, only) / name
        if not whole.is_dir() and not (only and part.is_dir()):
            with FileLock(_make_folder(_fetched_folder(run_id)) / f".{name}.lock"):
                self._download(run_id, name, token, only=only, checked=bool(tags.get(KEPT + name)))
        return whole if whole.is_dir() else part

    def _download(self, run_id: str, name: str, token: str, *, only: str, checked: bool) -> None:
        place = _download_path(run_id, token, only)
        if place.is_dir():  # another process downloaded it in the meantime
            return
        with new_folder(place) as draft:
            if only:
                for path, _ in self._entries(run_id, name):
                    if path.rpartition("/")[2] == only:
                        self.client.download_artifacts(run_id, path, str(draft))
                return
            self.client.download_artifacts(run_id, name, str(draft))
            if checked and _hash_of_folder(draft / name) != token:
                raise StorageError(
                    f"the {name} of run {run_id[:8]} changed while it was fetched, or is damaged; try again"
                )

    def size(self, run_id: str) -> int:
        """Bytes of all files of a run."""
        if (local := self._local(self.client.get_run(run_id))) is None:
            return sum(size for _, size in self._entries(run_id))
        return sum(path.stat().st_size for path in _files(local))

    def remove(self, run_id: str) -> None:
        """Remove all files of a run."""
        run = self.client.get_run(run_id)
        if (local := self._local(run)) is not None:
            _remove(local.parent if self.root else local)  # in a home, the folder of the run
            return
        for entry in self.client.list_artifacts(run_id):
            delete_artifacts(run.info.artifact_uri, entry.path)

    def _hash_of_listing(self, run_id: str, name: str) -> str:
        """A substitute for the hash of a folder that was stored without one, from names and sizes."""
        found = sorted(self._entries(run_id, name))
        return sha256(json.dumps(found).encode()).hexdigest() if found else ""

    def _entries(self, run_id: str, name: str | None = None) -> list[tuple[str, int]]:
        """Path and size in bytes of each file of a run, or of those below a folder."""
        found: list[tuple[str, int]] = []
        for entry in self.client.list_artifacts(run_id, name):
            found += (
                self._entries(run_id, entry.path) if entry.is_dir else [(entry.path, entry.file_size or 0)]
            )
        return found

    def send_state(self, run_id: str, path: Path, epoch: int) -> None:
        """Send the state of a run to the server, where other machines can read it.

        The older state stays until the new one is complete: two places are used in turn, and a tag names the
        valid one.

        Parameters
        ----------
        run_id
            Id of the run.
        path
            File with the state.
        epoch
            Number of epochs that it has finished.
        """
        before = _state(self.client.get_run(run_id).data.tags)
        slot = "state-b" if before.get("slot") == "state-a" else "state-a"
        self.client.log_artifact(run_id, str(path), slot)
        known = {"epoch": epoch, "slot": slot, "sha256": hash_of_file(path)}
        self.client.set_tag(run_id, STATE, json.dumps(known))

    def fetch_state(self, run_id: str, path: Path, epoch: int) -> bool:
        """Download a newer state of a run, if another machine sent one. Returns True if so.

        Parameters
        ----------
        run_id
            Id of the run.
        path
            File of the state, which is replaced.
        epoch
            Number of epochs that the state at `path` has finished.

        Raises
        ------
        StorageError
            If the downloaded state is damaged. The file at `path` then stays.
        """
        known = _state(self.client.get_run(run_id).data.tags)
        if not known or known["epoch"] <= epoch:
            return False
        with tempfile.TemporaryDirectory(dir=_make_folder(path.parent), prefix=".") as draft:
            found = self.client.download_artifacts(run_id, f"{known['slot']}/{path.name}", draft)
            if hash_of_file(Path(found)) != known["sha256"]:
                raise StorageError(
                    f"the state of run {run_id[:8]} was damaged on its way from the server; try again"
                )
            with atomic_path(path) as temporary:
                Path(found).replace(temporary)
        return True

    def drop_state(self, run_id: str) -> None:
        """Delete the state of a run from the server."""
        run = self.client.get_run(run_id)
        if not _state(run.data.tags):
            return
        self.client.set_tag(run_id, STATE, "")
        for slot in ("state-a", "state-b"):
            if self.client.list_artifacts(run_id, slot):
                delete_artifacts(run.info.artifact_uri, slot)


def drop_fetched(run_id: str) -> None:
    """Remove the downloaded files of a run from this machine."""
    shutil.rmtree(_fetched_folder(run_id), ignore_errors=True)


def _fetched_folder(run_id: str) -> Path:
    return home() / "fetched" / run_id


def _download_path(run_id: str, token: str, only: str = "") -> Path:
    return _fetched_folder(run_id) / (f"{token[:SHORT]}-{only}" if only else token[:SHORT])


def _make_folder(folder: Path) -> Path:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _state(tags: dict[str, str]) -> dict[str, Any]:
    """The entry for a run's state on the server: {epoch, slot, sha256}; empty if there is none."""
    try:
        found = json.loads(tags.get(STATE) or "{}")
        right = isinstance(found["epoch"], int) and found["slot"] in ("state-a", "state-b")
    except (ValueError, KeyError, TypeError):
        return {}
    return found if right and isinstance(found.get("sha256"), str) else {}


def _hash_of_folder(folder: Path) -> str:
    """SHA-256 over names and content of all files of a folder."""
    total = sha256()
    for path in sorted(_files(folder)):
        total.update(f"{path.relative_to(folder).as_posix()}\0{hash_of_file(path)}\n".encode())
    return total.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _remove(folder: Path) -> None:
    if folder.exists():
        with writing(folder):
            shutil.rmtree(folder)
