"""The tables of formats in docs/data.md: which suffixes are accepted, and what was heard where.

`python -m tests.heard` encodes a clip by the command `ffmpeg` as every container and codec below, gives each
file to everything that takes sound, and writes the tables. A file is heard if it gets the clip's emotion and
length; in folders and zips, if it gets its length.
"""

import io
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

from mer.audio.formats import FORMATS

PAGE = Path(__file__).parents[1] / "docs" / "data.md"
BEGIN, END = "<!-- formats: written by python -m tests.heard -->", "<!-- end of formats -->"
SHIPPED = Path(__file__).parents[1] / "checkpoints" / "demo_mobilenet_v3_small"
LABEL, SECONDS = "Romantic", 10.0
MEANS = ("command", "folder", "zip", "upload", "recording", "HTTP")


class Row(NamedTuple):
    """A container, a codec, the suffix, and ffmpeg's options."""

    container: str
    codec: str
    suffix: str
    options: str


PICTURE = "-f lavfi -i testsrc=duration=10:size=64x64:rate=5"
ROWS = (
    Row("WAV", "PCM 16 bit", "wav", "-c:a pcm_s16le"),
    Row("WAV", "PCM 24 bit", "wav", "-c:a pcm_s24le"),
    Row("WAV", "IMA ADPCM", "wav", "-c:a adpcm_ima_wav"),
    Row("WAV", "GSM", "wav", "-ar 8000 -ac 1 -c:a gsm_ms"),
    Row("FLAC", "FLAC", "flac", "-c:a flac"),
    Row("MP3", "MP3", "mp3", "-c:a libmp3lame -b:a 128k"),
    Row("MP3", "MP2", "mp2", "-c:a mp2"),
    Row("M4A", "AAC", "m4a", "-c:a aac"),
    Row("M4A", "ALAC", "m4a", "-c:a alac"),
    Row("AAC", "AAC", "aac", "-c:a aac"),
    Row("Ogg", "Vorbis", "ogg", "-c:a libvorbis"),
    Row("Ogg", "FLAC", "oga", "-c:a flac"),
    Row("Ogg", "Speex", "spx", "-ar 16000 -ac 1 -c:a libspeex -f ogg"),
    Row("Ogg", "Opus", "opus", "-ar 48000 -c:a libopus"),
    Row("WebM", "Opus", "webm", "-ar 48000 -c:a libopus"),
    Row("WebM", "Vorbis", "webm", "-c:a libvorbis"),
    Row("MP4 with a picture", "AAC", "mp4", "-c:v mpeg4 -c:a aac"),
    Row("MOV with a picture", "PCM 16 bit", "mov", "-c:v mpeg4 -c:a pcm_s16le"),
    Row("3GP", "AAC", "3gp", "-c:a aac"),
    Row("MKV", "FLAC", "mkv", "-c:a flac"),
    Row("MKV with a picture", "MP3", "mkv", "-c:v mpeg4 -c:a libmp3lame"),
    Row("WMA", "WMA 2", "wma", "-c:a wmav2"),
    Row("AVI with a picture", "MP3", "avi", "-c:v mpeg4 -c:a libmp3lame"),
    Row("MPEG with a picture", "MP2", "mpg", "-c:v mpeg2video -r 25 -c:a mp2"),
    Row("AC-3", "AC-3", "ac3", "-c:a ac3"),
    Row("WavPack", "WavPack", "wv", "-c:a wavpack"),
    Row("CAF", "ALAC", "caf", "-c:a alac"),
    Row("CAF", "PCM 16 bit", "caf", "-c:a pcm_s16le"),
    Row("AIFF", "PCM 16 bit", "aiff", "-c:a pcm_s16be"),
    Row("AU", "PCM 16 bit", "au", "-c:a pcm_s16be"),
)


def encoded(rows: tuple[Row, ...], folder: Path) -> list[Path]:
    """The example clip as each row says, in a folder; raises CalledProcessError if ffmpeg cannot."""
    from mer.data.demo.example import example_clip

    clip = folder / "clip.wav"
    clip.write_bytes(example_clip(LABEL))
    files = []
    for number, row in enumerate(rows):
        files.append(folder / f"{number:02}.{row.suffix}")
        inputs = ["-i", str(clip), *(PICTURE.split() if "-c:v" in row.options else [])]
        made = ["-ar", "44100", "-ac", "2", *row.options.split(), "-t", str(SECONDS), str(files[-1])]
        words = ["ffmpeg", "-nostdin", "-loglevel", "error", *inputs, *made]
        subprocess.run(words, check=True, capture_output=True)
    clip.unlink()
    return files


def heard(files: list[Path], work: Path) -> dict[str, list[bool]]:
    """Whether each file was heard, for each of MEANS."""
    from mer.audio.decode import beginning
    from mer.inference.ensemble import open_predictor

    network = open_predictor(SHIPPED)
    trees = [_tree(files, work / "tree"), _zipped(files, work / "clips.zip")]

    def by_network(content: bytes) -> bool:
        return _right(network.predict(content).to_dict())

    return {
        "command": by_command(files),
        "folder": in_data(files, trees[0]),
        "zip": in_data(files, trees[1]),
        "upload": by_upload(files, by_network),
        "recording": [by_network(beginning(file.read_bytes(), 60.0)) for file in files],
        "HTTP": over_http(files, network),
    }


def _right(answer: dict) -> bool:
    end = answer["windows"][-1]["end"]
    return answer["emotion"] == LABEL and abs(end - SECONDS) < 0.2


def by_command(files: list[Path]) -> list[bool]:
    """`mer predict` on the folder of the files."""
    import json

    from mer.cli import main

    out = io.StringIO()
    with redirect_stdout(out):
        main(["predict", str(SHIPPED), str(files[0].parent), "--json"])
    answers = {Path(one["file"]): one for one in json.loads(out.getvalue())}
    return [file in answers and _right(answers[file]) for file in files]


def _tree(files: list[Path], root: Path) -> Path:
    (root / LABEL).mkdir(parents=True)
    for file in files:
        shutil.copy(file, root / LABEL)
    return root


def _zipped(files: list[Path], path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, f"{LABEL}/{file.name}")
    return path


def in_data(files: list[Path], source: Path) -> list[bool]:
    """The facts that the check of a data set finds for each file."""
    from mer.data.cache.store import FeatureStore
    from mer.data.load import load_dataset

    clips = {clip.path.name: clip.path for clip in load_dataset(source).clips}
    facts = FeatureStore.default().facts([clips[file.name] for file in files if file.name in clips])
    lengths = dict(zip((file.name for file in files if file.name in clips), facts, strict=True))
    return [file.name in lengths and abs(lengths[file.name].seconds - SECONDS) < 0.2 for file in files]


def by_upload(files: list[Path], answer: Callable[[bytes], bool]) -> list[bool]:
    """The uploader of the page Predict."""
    from streamlit.testing.v1 import AppTest

    page = AppTest.from_file(str(PAGE.parents[1] / "pages" / "predict.py"), default_timeout=60)
    page.query_params["source"] = "Upload"
    page.run()
    accepted = page.file_uploader[0].proto.type
    return [file.suffix in accepted and answer(file.read_bytes()) for file in files]


def over_http(files: list[Path], network: object) -> list[bool]:
    """`POST /predict` of `mer serve`."""
    from tests.serve_helpers import serving

    with serving(network) as server:
        answers = [server.predict(file.read_bytes(), name=file.name) for file in files]
    return [status == 200 and _right(found) for status, _, found in answers]


def suffixes_table() -> list[str]:
    """The list of accepted suffixes."""
    rows = [f"| {name} | {' '.join(f'`{one}`' for one in suffixes)} |" for name, suffixes in FORMATS.items()]
    return ["| format | suffixes |", "|---|---|", *rows]


def heard_table(found: dict[str, list[bool]]) -> list[str]:
    """What was heard where."""
    lines = [f"| container | codec | {' | '.join(MEANS)} |", "|---|---|" + "---|" * len(MEANS)]
    for number, row in enumerate(ROWS):
        cells = ["yes" if found[way][number] else "no" for way in MEANS]
        lines.append(f"| {row.container} | {row.codec} | {' | '.join(cells)} |")
    return lines


def page(tables: list[str]) -> str:
    """The page with these lines between the marks."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return "\n".join([before + BEGIN, "", *tables, "", END]) + rest.partition(END)[2]


def main() -> None:
    """Encode, listen, and write the tables."""
    with tempfile.TemporaryDirectory() as folder:
        (clips := Path(folder) / "clips").mkdir()
        found = heard(encoded(ROWS, clips), Path(folder))
    PAGE.write_text(page([*suffixes_table(), "", *heard_table(found)]), "utf-8")


if __name__ == "__main__":
    main()
