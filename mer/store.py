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

Settings = tuple[AudioConfig, MelConfig]

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
        return self._fill(paths, None, workers, progress)

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
        return self._fill(paths, (audio, mel), workers, progress)

    def _fill(
        self,
        paths: Sequence[Path],
        settings: Settings | None,
        workers: int | None,
        progress: Progress | None,
    ) -> list[Facts]:
        """Look everything up here, where it costs a read and a hash; send only the rest to workers."""
        found = [_look_up(self, settings, path) for path in paths]
        missing = [path for path, facts in zip(paths, found, strict=True) if facts is None]
        made = iter(process_map(partial(_make, self, settings), missing, workers=workers, progress=progress))
        return [facts or next(made) for facts in found]

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


def _hash(content: bytes) -> str:
    return blake2b(content, digest_size=20).hexdigest()


def _look_up(store: FeatureStore, settings: Settings | None, path: Path) -> Facts | None:
    """The facts of a file if nothing is left to be made for it, else None."""
    content, bad = _read(path)
    if bad:
        return bad
    facts = store._read_facts(_hash(content))
    if facts is None or facts.reason or settings is None:
        return facts
    return facts if _is_whole(store._images_path(facts.file_hash, *settings)) else None


def _make(store: FeatureStore, settings: Settings | None, path: Path) -> Facts:
    """Decode one file, note its facts, and keep its images where `settings` ask for them."""
    content, bad = _read(path)
    if bad:
        return bad
    file_hash = _hash(content)
    try:
        clip = decode(content, name="")
    except AudioError as error:
        facts = Facts(file_hash, reason=str(error).removeprefix(": "))
        store._write_facts(facts)
        return facts
    facts = Facts(file_hash, clip.seconds, clip.rate, clip.channels, clip.content_hash())
    if settings is not None:
        audio, mel = settings
        wave = resample(clip.waveform, rate=clip.rate, target=audio.sample_rate)
        with (
            atomic_path(store._images_path(file_hash, audio, mel)) as temporary,
            temporary.open("wb") as file,
        ):
            np.save(file, images(wave, audio=audio, mel=mel))
    store._write_facts(facts)
    return facts


def _is_whole(path: Path) -> bool:
    """True if the array file exists and is as long as its header says."""
    try:
        np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return True
