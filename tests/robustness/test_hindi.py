"""Names in Devanagari, with joiners, decomposed and very long: from a zip to a prediction, by command."""

import csv
import io
import json
import unicodedata
import zipfile

import pytest

from mer.cli import main
from mer.data.library import add_zip
from mer.utils.csv import as_csv
from tests.run_helpers import TINY, write_songs

# With a joiner, a non-joiner, and a letter with a dot that can be spelt in two ways.
LABELS = ("क्\u200dषमा शांत", "खु\u200cशी \u095c")
LONG = "बहुत लंबा फ़िल्मी गीत " * 12  # 700 bytes


@pytest.fixture
def run(runs_home, capsys):
    """`run(*words)` runs a command in this process and returns its JSON."""

    def run(*words):
        status = main([*map(str, words), "--json"])
        out = capsys.readouterr()
        assert status == 0, out.err
        return json.loads(out.out)

    return run


@pytest.fixture
def corpus(tmp_path):
    """A zip as packed by macOS, with decomposed names, one too long for Linux; its CSV has composed names."""
    root = write_songs(tmp_path / "songs", labels=("A", "B"))
    path, rows = tmp_path / "हिन्दी गीत.zip", ["path,label,song"]
    with zipfile.ZipFile(path, "w") as archive:
        for folder, label in zip(("A", "B"), LABELS, strict=True):
            for number, file in enumerate(sorted((root / folder).glob("*.wav"))):
                name = f"{label}/{LONG if number == 0 else 'गीत'} {number} रा\u200dग.wav"
                archive.write(file, unicodedata.normalize("NFD", name))
                rows.append(f"{unicodedata.normalize('NFC', name)},{label},{label} धुन {number // 2}")
        archive.writestr("manifest.csv", "\n".join(rows))
    return path


def settings():
    return [word for key, value in TINY.items() for word in (f"--{key.replace('_', '-')}", str(value))]


@pytest.mark.promise("Hindi names work from a zip to a prediction.")
def test_hindi_names_work_from_a_zip_to_a_prediction(run, corpus, tmp_path):
    classes = [unicodedata.normalize("NFC", label) for label in LABELS]
    report = run("data", "check", corpus)
    assert report["classes"] == dict.fromkeys(classes, 8)
    assert report["left_out"] == []
    done = run("train", "--data", corpus, "--no-baseline", *settings(), "--epochs", "1")
    assert done["status"] == "finished"
    model = tmp_path / "नमूना"
    run("export", done["run_id"], "--out", model)
    clips = sorted(path for path in tmp_path.rglob("*.wav"))[:2]
    renamed = [clip.rename(clip.with_name(f"धुन \u200d{n}.wav")) for n, clip in enumerate(clips)]
    found = run("predict", model, *renamed)
    assert [row["file"] for row in found] == [str(path) for path in renamed]
    assert all(set(row["probabilities"]) == set(classes) for row in found)
    scores = run("evaluate", model, "--data", corpus)
    assert (scores["n_clips"], scores["classes"]) == (16, classes)
    assert (model / "card.md").read_text("utf-8").count(classes[0]) == 1
    rows = list(csv.reader(io.StringIO(as_csv([{"clip": clips[0].name, "class": classes[1]}]))))
    assert rows[1][1] == classes[1]


def test_an_uploaded_zip_with_hindi_names_is_a_data_set(own_home, corpus):
    with corpus.open("rb") as file:
        entry = add_zip(corpus.name, file)
    assert entry.name == "हिन्दी गीत"
