"""The feature store: features are computed once and kept on disk by hash of file content and settings.

    <root>/facts/ab/abcd....json             result of decoding: duration, rate, or the reason not to use it
    <root>/images/<settings>/ab/abcd....npy  float16 log-mel images (windows, rows, columns)
    <root>/embeddings/<settings>/...         outputs of a frozen network (`mer.training.embeddings`)
    <root>/descriptors/<settings>/...        statistics of a clip's sound (`mer.data.cache.descriptors`)
    <root>/stamps.db                         hashes of files when they were last read, by path

File names do not matter, so a renamed or moved clip keeps its entries. Each combination of settings has
entries of its own. An entry never appears half-written, so a process that is killed loses at most the clips
it was working on. Damaged entries are detected and computed again. Several processes can fill the store at
once; each entry is computed by one of them.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mer.audio.decode import Audio, decode
from mer.audio.mel import images
from mer.audio.resampling import resample
from mer.audio.silence import pauses, quiet_frames
from mer.config.sections import AudioConfig, MelConfig
from mer.data.cache.arrays import ArrayFile, Shelf, is_whole, write_array
from mer.data.cache.controls import entry, stand_in
from mer.data.cache.stamps import Stamp, Stamps, stamp
from mer.utils.errors import AudioError
from mer.utils.files import home, read_kept, write_atomic, writing
from mer.utils.parallel import Progress, process_map

__all__ = ["FACTS_VERSION", "VERSION", "Facts", "FeatureStore", "hash_file", "is_content"]

Settings = tuple[AudioConfig, MelConfig, str]  # the string is the control

VERSION = 2  # part of every key of features; raise it when decoding or features change
FACTS_VERSION = 3  # of facts alone; a change of it leaves the features as they are
SHORTEST = 0.5  # s of silence that can fill a window


@dataclass(frozen=True, slots=True)
class Facts:
    """The result of decoding a file. `reason` says why the file is unusable; None if it is usable.

    `file_hash` names its entries in the store. `remarks` say why it may not be the sound that was recorded.
    """

    file_hash: str
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    content_hash: str = ""
    reason: str | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureStore:
    """The store below `root`. The object holds only the path, so it is cheap to send to worker processes."""

    root: Path

    @classmethod
    def default(cls) -> "FeatureStore":
        """The store in MER_HOME."""
        return cls(home() / "store")

    def facts(
        self, paths: Sequence[Path], *, workers: int | None = None, progress: Progress | None = None
    ) -> list[Facts]:
        """Facts of each file. Files that the store does not know are decoded in worker processes.

        Parameters
        ----------
        paths
            Audio files.
        workers
            Number of processes. Default: one per core.
        progress
            Called as `progress(done, total)`, with the files that are not in the store.

        Returns
        -------
        list of Facts
            One per path. Unusable files have a `reason`, and do not stop the others.
        """
        return self._fill(paths, None, workers, progress)

    def prepare(
        self,
        paths: Sequence[Path],
        *,
        audio: AudioConfig,
        mel: MelConfig,
        control: str = "none",
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> list[Facts]:
        """Compute the images of every usable file that has none yet, decoding each file at most once.

        Parameters
        ----------
        paths
            Audio files.
        audio, mel
            Settings of the images.
        control
            A control of `mer.data.cache.controls`: make images of silence or noise in place of the clips.
        workers
            Number of processes. Default: one per core.
        progress
            Called as `progress(done, total)`, with the files that are not in the store.

        Returns
        -------
        list of Facts
            One per path. Unusable files have a `reason` and no images.
        """
        found = self._fill(paths, (audio, mel, control), workers, progress)
        if paths:
            self.images(audio, mel).mark_used()
        return found

    def images(self, audio: AudioConfig, mel: MelConfig) -> Shelf:
        """The shelf of images with these settings."""
        settings = {"version": VERSION, "audio": audio.to_key(), "mel": mel.to_key()}
        return Shelf.of(self.root / "images", settings)

    def unprepared(
        self, hashes: Sequence[str], *, audio: AudioConfig, mel: MelConfig, control: str = "none"
    ) -> list[bool]:
        """For each file hash, true if the store has no images yet. Damaged entries are not detected.

        Parameters
        ----------
        hashes
            File hashes, as in `Facts.file_hash`.
        audio, mel, control
            Settings of the images; see `prepare`.
        """
        shelf = self.images(audio, mel)
        return [not shelf.path(entry(control, file_hash)).exists() for file_hash in hashes]

    def load(self, facts: Facts, *, audio: AudioConfig, mel: MelConfig, control: str = "none") -> ArrayFile:
        """The images of a prepared clip, which are read when indexed.

        Parameters
        ----------
        facts
            Facts of the clip.
        audio, mel, control
            Settings of the images; see `prepare`.

        Returns
        -------
        ArrayFile
            float16 (windows, rows, columns); waveforms are float32.

        Raises
        ------
        FileNotFoundError, ValueError
            If there are no such images, or the file holds no array.
        """
        return ArrayFile.open(self.images(audio, mel).path(entry(control, facts.file_hash)))

    def lock(self, name: str) -> FileLock:
        """A lock between processes that compute entries. It is released if its process dies."""
        folder = self.root / "locks"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")

    @contextmanager
    def alone(self, name: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a lock. Until it is free, `waiting` is called about once a second; it may raise to give up."""
        lock = self.lock(name)
        with writing(self.root):
            while not lock.is_locked:
                try:
                    lock.acquire(timeout=1)
                except Timeout:
                    waiting()
        try:
            yield
        finally:
            lock.release()

    @property
    def stamps(self) -> Stamps:
        """Hashes of files when they were last read, by path."""
        return Stamps(self.root / "stamps.db")

    def _fill(
        self,
        paths: Sequence[Path],
        settings: Settings | None,
        workers: int | None,
        progress: Progress | None,
    ) -> list[Facts]:
        """Facts of files. Unchanged files are looked up in this process; workers read the others."""
        known = self.stamps.known(paths)
        found = [self._look_up(file_hash, settings) if file_hash else None for file_hash in known]
        missing = [path for path, facts in zip(paths, found, strict=True) if facts is None]
        make = partial(_read_file, self, settings)
        made = process_map(make, missing, workers=workers, progress=progress)
        self.stamps.note(
            (path, seen, facts.file_hash) for path, (facts, seen) in zip(missing, made, strict=True)
        )
        rest = iter(made)
        return [facts or next(rest)[0] for facts in found]

    def _look_up(self, file_hash: str, settings: Settings | None) -> Facts | None:
        """The facts of a file; None if they or, with settings, its images are missing or damaged."""
        facts = self._read_facts(file_hash)
        if facts is None or facts.reason or settings is None:
            return facts
        return facts if is_whole(self._place(file_hash, settings)) else None

    def _look_up_any(self, names: Sequence[str], settings: Settings | None) -> Facts | None:
        """The facts of a file under the first of its names that has any; see `_look_up`."""
        return next(filter(None, (self._look_up(name, settings) for name in names)), None)

    def _forget_images(self, file_hash: str) -> None:
        """Remove images of a clip that were made when silent windows were not left out.

        Its embeddings are then not used either, since their number differs.
        """
        with writing(self.root):
            for path in (self.root / "images").glob(f"*/{file_hash[:2]}/{file_hash}.npy"):
                path.unlink(missing_ok=True)

    def _place(self, file_hash: str, settings: Settings) -> Path:
        audio, mel, control = settings
        return self.images(audio, mel).path(entry(control, file_hash))

    def _facts_path(self, file_hash: str) -> Path:
        return self.root / "facts" / file_hash[:2] / f"{file_hash}.json"

    def _read_facts(self, file_hash: str) -> Facts | None:
        """The facts of a file; None if they must be computed again."""
        return read_kept(
            self._facts_path(file_hash),
            lambda data: _facts_from(data["facts"], file_hash) if data["version"] == FACTS_VERSION else None,
        )

    def _write_facts(self, facts: Facts) -> None:
        content = json.dumps({"version": FACTS_VERSION, "facts": asdict(facts)})
        write_atomic(self._facts_path(facts.file_hash), content, durable=False)


def _facts_from(data: dict[str, Any], file_hash: str) -> Facts:
    """Facts from JSON. Raises ValueError or TypeError if they are not valid."""
    facts = Facts(**data | {"remarks": tuple(data["remarks"])})
    numbers = facts.seconds >= 0 and type(facts.rate) is int and type(facts.channels) is int
    texts = isinstance(facts.content_hash, str) and isinstance(facts.reason, str | None)
    texts = texts and all(isinstance(remark, str) for remark in facts.remarks)
    if facts.file_hash != file_hash or not (numbers and texts and (facts.reason or facts.content_hash)):
        raise ValueError(f"{facts} is not valid")
    return facts


def hash_file(content: bytes, *, fresh: bool = False) -> str:
    """The name of entries computed from a file with this content.

    What is heard anew (`fresh`; see `mer.audio.decode.Audio`) has another name than what was heard before.
    """
    found = sha256(content)
    if fresh:
        found.update(b" heard anew")
    return found.hexdigest()[:40]


def is_content(content: bytes, file_hash: str) -> bool:
    """True if `file_hash` names the entries of a file with this content."""
    return file_hash in (hash_file(content), hash_file(content, fresh=True))


def _read_file(store: FeatureStore, settings: Settings | None, path: Path) -> tuple[Facts, Stamp | None]:
    """Facts and stamp of one file. With settings, its images are in the store afterwards."""
    seen = stamp(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        return Facts(file_hash="", reason=f"unreadable: {error.strerror}"), None
    if not content:
        return Facts(file_hash="", reason="empty file, 0 bytes"), None
    names = hash_file(content), hash_file(content, fresh=True)
    found = store._look_up_any(names, settings)
    if found is None:
        with store.lock(names[0][:2]):  # if another process is making it, wait and use its entry
            found = store._look_up_any(names, settings) or _decode_and_store(store, settings, content)
    return found, seen


def _decode_and_store(store: FeatureStore, settings: Settings | None, content: bytes) -> Facts:
    """Decode a file and store its facts and, with settings, its images, unless it has them already."""
    try:
        clip = decode(content, name="")
    except AudioError as error:
        facts = Facts(hash_file(content), reason=str(error).removeprefix(": "))
        store._write_facts(facts)
        return facts
    name = hash_file(content, fresh=clip.fresh)
    facts = Facts(name, clip.seconds, clip.rate, clip.channels, clip.content_hash(), remarks=clip.remarks)
    if store._read_facts(name) is None and _has_silence(clip):
        store._forget_images(name)
    if settings and not is_whole(store._place(name, settings)):
        audio, mel, control = settings
        wave = resample(clip.waveform, rate=clip.rate, audio=audio, checked=True)
        wave = stand_in(control, wave, name)
        write_array(store._place(name, settings), images(wave, audio=audio, mel=mel, checked=True))
    store._write_facts(facts)
    return facts


def _has_silence(clip: Audio) -> bool:
    """True if a window of some settings may be silent, and so be left out."""
    quiet, _ = quiet_frames(clip.waveform, clip.rate)
    return pauses(quiet, SHORTEST) > 0
