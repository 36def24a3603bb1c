"""Features computed once and kept on disk under a hash of (file bytes, settings).

    <root>/facts/ab/abcd....json               what decoding found out: duration, rate, or why not usable
    <root>/images/<settings>/ab/abcd....npy    float16 log-mel images (windows, size, size)

Names do not matter: a renamed or moved clip is found again; another setting makes another entry.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np

from mer.audio import decode, resample
from mer.config import AudioConfig, MelConfig
from mer.errors import AudioError
from mer.features import images
from mer.files import atomic_path, home, write_atomic
from mer.parallel import Progress, process_map

__all__ = ["Facts", "FeatureStore"]

VERSION = 1  # part of every key; raise it when decoding or features change


@dataclass(frozen=True, slots=True)
class Facts:
    """What decoding a file found out. `reason` says why the file is unusable, else it is None."""

    file_hash: str
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    content_hash: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FeatureStore:
    """The store under `root`; cheap to make and to send to a worker process."""

    root: Path

    @classmethod
    def default(cls) -> "FeatureStore":
        """The store of this MER_HOME."""
        return cls(home() / "store")

    def facts(
        self, paths: Sequence[Path], *, workers: int | None = None, progress: Progress | None = None
    ) -> list[Facts]:
        """Facts of each file, decoded in parallel unless known. One bad file never stops the rest."""
        return process_map(partial(_inspect, self), paths, workers=workers, progress=progress)

    def prepare(
        self,
        paths: Sequence[Path],
        *,
        audio: AudioConfig,
        mel: MelConfig,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> list[Facts]:
        """Make sure that every usable file has its images; decoding and features in one pass."""
        task = partial(_prepare, self, audio, mel)
        return process_map(task, paths, workers=workers, progress=progress)

    def load(self, facts: Facts, *, audio: AudioConfig, mel: MelConfig) -> np.ndarray:
        """Memory-mapped float16 images (windows, size, size) of a prepared clip."""
        return np.load(self._images_path(facts.file_hash, audio, mel), mmap_mode="r")

    def _facts_path(self, file_hash: str) -> Path:
        return self.root / "facts" / file_hash[:2] / f"{file_hash}.json"

    def _images_path(self, file_hash: str, audio: AudioConfig, mel: MelConfig) -> Path:
        settings = json.dumps([VERSION, audio.to_dict(), mel.to_dict()], sort_keys=True)
        key = blake2b(settings.encode(), digest_size=8).hexdigest()
        return self.root / "images" / key / file_hash[:2] / f"{file_hash}.npy"

    def _read_facts(self, file_hash: str) -> Facts | None:
        try:
            data = json.loads(self._facts_path(file_hash).read_text())
            return Facts(**data["facts"]) if data["version"] == VERSION else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # absent or damaged: worked out again

    def _write_facts(self, facts: Facts) -> None:
        content = json.dumps({"version": VERSION, "facts": asdict(facts)})
        write_atomic(self._facts_path(facts.file_hash), content)


def _read(path: Path) -> tuple[bytes, Facts | None]:
    """The bytes of a file and, if it cannot be read or is empty, the facts that say so."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return b"", Facts(file_hash="", reason=f"unreadable: {error.strerror}")
    if not content:
        return content, Facts(file_hash="", reason="empty file, 0 bytes")
    return content, None


def _decode(store: FeatureStore, content: bytes, file_hash: str) -> tuple[Facts, np.ndarray | None]:
    """Decode and note the facts; the waveform is at the file's own rate, None if unusable."""
    try:
        audio = decode(content, name="")
    except AudioError as error:
        facts = Facts(file_hash, reason=str(error).removeprefix(": "))
        waveform = None
    else:
        facts = Facts(file_hash, audio.seconds, audio.rate, audio.channels, audio.content_hash())
        waveform = audio.waveform
    store._write_facts(facts)
    return facts, waveform


def _hash(content: bytes) -> str:
    return blake2b(content, digest_size=20).hexdigest()


def _inspect(store: FeatureStore, path: Path) -> Facts:
    content, bad = _read(path)
    if bad:
        return bad
    file_hash = _hash(content)
    return store._read_facts(file_hash) or _decode(store, content, file_hash)[0]


def _prepare(store: FeatureStore, audio: AudioConfig, mel: MelConfig, path: Path) -> Facts:
    content, bad = _read(path)
    if bad:
        return bad
    file_hash = _hash(content)
    target = store._images_path(file_hash, audio, mel)
    known = store._read_facts(file_hash)
    if known and (known.reason or _is_whole(target)):
        return known
    facts, waveform = _decode(store, content, file_hash)
    if waveform is not None:
        wave = resample(waveform, rate=facts.rate, target=audio.sample_rate)
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            np.save(file, images(wave, audio=audio, mel=mel))
    return facts


def _is_whole(path: Path) -> bool:
    """True if the array file exists and is as long as its header says."""
    try:
        np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return True
