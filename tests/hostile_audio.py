"""Generates damaged and misleading audio files, and predicts them.

The same seed gives the same files, except for times and serial numbers that libsndfile writes.

`python -m tests.hostile_audio 10000 --seed 0` predicts each in this process and prints one JSON object.
"""

import argparse
import io
import json
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from mer.audio.decode import load
from mer.utils.errors import MerError
from tests import media
from tests.memory import peak

SHIPPED = Path(__file__).parents[1] / "checkpoints"
CONTAINERS = (
    *(("WAV", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM")),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
)
LIES = (0, 1, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 4_000_000_000, 768_000, 44_100)
WAYS = ("soxr", "sinc")
RATES = (999, 1000, 1001, 8001, 15_999, 16_001, 22_051, 44_101, 48_001, 96_001, 767_999, 768_000, 768_001)
HEADER = 256  # bytes that hold most of a file's header


def write(samples: np.ndarray, rate: int, container: str, subtype: str) -> bytes:
    """An intact file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def whole_files(rng: np.random.Generator) -> list[bytes]:
    """One file of each container: 0.8 s of a tone and noise in two channels, or in one for AMR."""
    time_axis = np.arange(12_800) / 16_000
    wave = 0.3 * np.sin(2 * np.pi * 440 * time_axis)[:, None] + rng.normal(0, 0.05, (12_800, 2))
    files = [write(wave.astype(np.float32), 16_000, *kind) for kind in CONTAINERS]
    return files + [
        media.encode(wave[:, : 1 if kind.suffix == "amr" else 2], 16_000, kind) for kind in media.CONTAINERS
    ]


def of_samples(rng: np.random.Generator) -> bytes:
    """A sound file with samples that are NaN, infinite, huge or subnormal."""
    wave = rng.normal(0, 0.1, (9600, 1))
    strange = rng.choice([np.nan, np.inf, -np.inf, 1e300, 1e30, 1e-310])
    wave[rng.integers(0, len(wave), rng.integers(1, 50))] = strange
    with np.errstate(over="ignore"):
        return write(wave, 16_000, "WAV", str(rng.choice(["FLOAT", "DOUBLE"])))


def of_header(rng: np.random.Generator) -> bytes:
    """A WAV file with random channels, rate, bits and size in its header."""
    channels, rate = int(rng.choice([0, 1, 2, 8, 9, 255, 65535])), int(rng.choice(LIES))
    bits = int(rng.choice([0, 1, 8, 16, 24, 32, 64, 255]))
    align = int(rng.choice([0, 1, 2, 4, 65535]))
    form = struct.pack("<HHIIHH", int(rng.choice([0, 1, 3, 17, 85])), channels, rate, rate, align, bits)
    body = rng.bytes(int(rng.integers(0, 40_000)))
    data = b"data" + struct.pack("<I", int(rng.choice([len(body), *LIES]))) + body
    inner = b"WAVEfmt " + struct.pack("<I", len(form)) + form + data
    return b"RIFF" + struct.pack("<I", int(rng.choice([len(inner), *LIES]))) + inner


def of_rate(rng: np.random.Generator) -> bytes:
    """A short, intact file at a random sample rate, which mostly has no common divisor with others."""
    if rng.random() < 0.2:
        rate = int(rng.choice(RATES))
    else:  # log-uniform: as many low rates as high ones
        rate = int(np.exp(rng.uniform(np.log(1000), np.log(768_000))))
    wave = rng.normal(0, 0.1, (int(rate * rng.uniform(0.4, 1.5)), int(rng.choice([1, 2]))))
    return write(wave.astype(np.float32), rate, str(rng.choice(["WAV", "AIFF", "AU"])), "PCM_16")


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with one to three kinds of damage."""
    made = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        size = len(made)
        if size < 8:
            break
        reach = min(size, HEADER) if rng.random() < 0.6 else size
        place = int(rng.integers(0, max(1, reach - 4)))
        match rng.integers(0, 6):
            case 0:
                del made[int(rng.integers(0, size)) :]
            case 1:
                made[place] ^= 1 << int(rng.integers(0, 8))
            case 2:
                made[place : place + 4] = bytes(4)
            case 3:
                made[place : place + 4] = struct.pack(str(rng.choice(["<I", ">I"])), int(rng.choice(LIES)))
            case 4:
                length = int(rng.integers(1, 64))
                made[place : place + length] = rng.bytes(len(made[place : place + length]))
            case _:
                made[place:place] = rng.bytes(int(rng.integers(1, 64)))
    return bytes(made)


def hostile(count: int, *, seed: int) -> Iterator[bytes]:
    """Yield this many files, all different."""
    rng = np.random.default_rng(seed)
    whole = whole_files(rng)
    for number in range(count):
        if number % 20 == 0:
            yield of_samples(rng)
        elif number % 10 == 5:
            yield of_header(rng)
        elif number % 10 == 7:
            yield of_rate(rng)
        else:
            yield damaged(whole[number % len(whole)], rng)


def try_all(count: int, *, seed: int) -> dict:
    """Predict each file; returns {files, predicted, refused, other, slowest (s), peak (MB), reasons}."""
    from mer.inference.ensemble import open_predictor

    predictor = open_predictor(SHIPPED / "demo_mobilenet_v3_small")
    found, slowest, other = Counter(), 0.0, []
    for number, content in enumerate(hostile(count, seed=seed)):
        began = time.perf_counter()
        heard = predictor.card.config.audio.replace(resampler=WAYS[number // 10 % 2])
        try:
            shares = predictor.predict_waveform(load(content, heard, name="clip")).probabilities
            found["predicted" if abs(sum(shares.values()) - 1) < 1e-3 else "nonsense"] += 1
        except MerError as error:
            found["refused" if "\n" not in str(error) else "nonsense"] += 1
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            other.append(f"{number}: {error!r:.200}")
        slowest = max(slowest, time.perf_counter() - began)
    figures = {name: found[name] for name in ("predicted", "refused", "nonsense")}
    return {"files": count, **figures, "other": other, "slowest": slowest, "peak": peak()}


def main() -> None:
    """Predict the files and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.stdout.write(json.dumps(try_all(options.count, seed=options.seed)) + "\n")


if __name__ == "__main__":
    main()
