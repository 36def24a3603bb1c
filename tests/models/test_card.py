"""Cards of checkpoints: what is written comes back, and what is wrong is named."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mer.config.presets import PRESETS
from mer.config.sections import Config
from mer.models.card import CARD, MAX_CARD, WEIGHTS, Card, find_checkpoints, load_card, page
from mer.utils.errors import CheckpointError
from mer.utils.versions import CURRENT

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "emotify_music"
SCORES = {
    "accuracy": 0.5,
    "macro_f1": 0.4,
    "song_accuracy": 0.75,
    "intervals": {"accuracy": [0.25, 0.75], "macro_f1": [0.2, 0.6], "song_accuracy": [0.4, 0.93]},
    "majority": 0.3,
    "chance": 0.2,
    "n_clips": 20,
    "n_songs": 4,
}


@pytest.fixture
def card():
    return Card(
        classes=("Sad", "Happy", "शांत"),
        config=PRESETS["paper"],
        normalization={"mean": -41.5, "std": 12.25},
        data={"name": "MER500", "clips": 494, "songs": 90, "synthetic": False, "licence": "CC BY"},
        metrics=SCORES,
        command="mer train data",
        created="2026-01-02T03:04:05+00:00",
    )


@pytest.fixture
def write(tmp_path):
    """`write(data)` makes a folder that has a card with this in it and an empty weights file."""

    def make(data, name="checkpoint"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / WEIGHTS).touch()
        text = data if isinstance(data, str) else json.dumps(data)
        (folder / CARD).write_text(text, "utf-8")
        return folder

    return make


def test_a_card_comes_back_as_it_was(card, write):
    assert load_card(write(card.to_dict())) == card


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_comes_back(card, write, name):
    assert load_card(write(replace(card, config=PRESETS[name]).to_dict())).config == PRESETS[name]


def test_a_card_is_plain_data(card):
    data = card.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data.keys() == asdict(card).keys()


def test_only_classes_config_and_normalization_are_needed(card, write):
    data = card.to_dict()
    least = {key: data[key] for key in ("format", "classes", "config", "normalization")}
    back = load_card(write(least))
    assert back == Card(classes=card.classes, config=card.config, normalization=card.normalization)
    assert back.title == "efficientnet_lite0 · unknown data"


def test_listing_checkpoints_needs_no_torch():
    code = "import sys, mer.models.card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- what is wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, r"was made by a newer mer \(format 3; this one reads up to 2\); update mer"),
        ({"format": 10**4000}, r"was made by a newer mer \(format 10+\.\.\.0+; .*\); update mer"),
        ({"format": "1"}, r"format '1' is not valid"),
        ({"format": 0}, r"format 0 is not valid"),
        ({"format": True}, r"format True is not valid"),
        ({"classes": ["Sad"]}, r"classes=\['Sad'\] should be a list of at least 2 different names"),
        ({"classes": "Sad"}, r"classes='Sad' should be a list of at least 2 different names"),
        ({"classes": ["Sad", 1]}, r"classes=\['Sad', 1\] should be a list"),
        ({"classes": ["Sad", "Sad"]}, r"classes=\['Sad', 'Sad'\] should be a list of at least 2 different"),
        ({"normalization": None}, r"normalization=None should have"),
        ({"calibration": []}, "calibration should be an object, not list"),
        ({"calibration": {"temperature": 0.0}}, "temperature=0.0 should be a number above 0"),
        ({"calibration": {"temperature": float("nan")}}, "temperature=nan should be a number above 0"),
        ({"calibration": {"temperature": "1"}}, "temperature='1' should be a number above 0"),
        ({"calibration": {"songs": -1}}, "calibration songs=-1 should be a whole number, 0 or more"),
        ({"calibration": {"songs": 2.0}}, "calibration songs=2.0 should be a whole number, 0 or more"),
        ({"calibration": {"clips": "many"}}, "calibration clips='many' should be a whole number"),
        ({"normalization": [1.0, 2.0]}, r"normalization=\[1.0, 2.0\] should have"),
        ({"normalization": {"mean": 1.0}}, r"normalization=.* should have numbers mean and std"),
        ({"normalization": {"mean": "1", "std": 2.0}}, r"should have numbers mean and std"),
        ({"normalization": {"mean": 1.0, "std": 0.0}}, r"'std': 0.0.* should have numbers mean and std > 0"),
        (
            {"normalization": {"mean": 1.0, "std": -2.0}},
            r"'std': -2.0.* should have numbers mean and std > 0",
        ),
        ({"normalization": {"mean": float("nan"), "std": 2.0}}, r"'mean': nan.* should have numbers"),
        ({"normalization": {"mean": 1.0, "std": float("inf")}}, r"'std': inf.* should have numbers"),
        ({"normalization": {"mean": 1.0, "std": 2.0, "median": 3.0}}, r"should have numbers mean and std"),
        ({"colour": "red"}, r"unknown field 'colour'; was it made by a newer version\?"),
        ({"config": None}, r"its config cannot be used \(.*\); export it again"),
        ({"config": {"train": {"lr": -1.0}}}, r"its config cannot be used \(lr=-1.0 is out of range"),
        ({"config": {"train": {"rate": 1.0}}}, r"its config cannot be used \(unknown setting 'rate'"),
        ({"config": {"train": []}}, r"its config cannot be used \(TrainConfig: expected an object"),
        (
            {"config": {"train": {"backbone": 5}}},
            r"its config cannot be used \(backbone=5 should be of type str",
        ),
        ({"data": []}, r"data should be an object, not list"),
        ({"data": None}, r"data should be an object, not NoneType"),
        ({"split": "x"}, r"split should be an object, not str"),
        ({"metrics": 1}, r"metrics should be an object, not int"),
        ({"versions": [1]}, r"versions should be an object, not list"),
        ({"command": 1}, r"command should be text, not int"),
        ({"created": {}}, r"created should be text, not dict"),
        ({"notes": None}, r"notes should be text, not NoneType"),
        ({"dtype": "int8"}, r"dtype='int8' should be float32 or float16"),
        ({"dtype": ["float32"]}, r"dtype=\['float32'\] should be float32 or float16"),
    ],
)
def test_an_error_in_a_card_is_named(card, write, changes, message):
    folder = write(card.to_dict() | changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_card(folder)
    assert str(folder / CARD) in str(caught.value)


@pytest.mark.parametrize("field", ["classes", "config", "normalization"])
def test_a_missing_field_is_named(card, write, field):
    data = card.to_dict()
    del data[field]
    with pytest.raises(CheckpointError, match=field):
        load_card(write(data))


@pytest.mark.parametrize("text", ["", "{", "no json", "\x00", "[" * 200_000, '{"a": ' * 50_000])
def test_a_card_that_is_not_json_is_named_with_the_remedy(write, text):
    with pytest.raises(
        CheckpointError, match=r"card\.json cannot be read \(.*\); export the checkpoint again"
    ):
        load_card(write(text))


def test_a_card_that_is_not_text_is_named_with_the_remedy(write):
    folder = write("")
    (folder / CARD).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=r"cannot be read .*; export the checkpoint again"):
        load_card(folder)


@pytest.mark.parametrize("data", [[], "text", 5, None])
def test_a_card_that_holds_no_object_is_named_with_the_remedy(write, data):
    with pytest.raises(
        CheckpointError, match=r"card\.json is not a JSON object; export the checkpoint again"
    ):
        load_card(write(json.dumps(data)))


def test_a_card_that_is_too_large_is_not_read(write):
    folder = write(" " * (MAX_CARD + 1))
    with pytest.raises(CheckpointError, match=rf"has {MAX_CARD + 1} bytes; a card has at most {MAX_CARD}"):
        load_card(folder)


def test_an_endless_wrong_value_is_not_repeated_at_length(card, write):
    folder = write(card.to_dict() | {"classes": ["x" * 10_000]})
    with pytest.raises(CheckpointError) as caught:
        load_card(folder)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("missing", [CARD, WEIGHTS])
def test_a_folder_without_card_or_weights_is_not_a_checkpoint(card, write, missing):
    folder = write(card.to_dict())
    (folder / missing).unlink()
    message = r"not a checkpoint \(no card.json with model.safetensors\); give an exported folder"
    with pytest.raises(CheckpointError, match=message):
        load_card(folder)


def test_a_missing_folder_is_not_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: not a checkpoint"):
        load_card(tmp_path / "nowhere")


# --- listing ----------------------------------------------------------------------------------------


def test_checkpoints_are_found_by_name_and_other_folders_ignored(card, write, tmp_path):
    write(card.to_dict(), "b")
    write(card.to_dict(), "a")
    write(card.to_dict() | {"format": 9}, "newer")
    write("{", "damaged")
    write(card.to_dict() | {"data": []}, "strange")
    (write(card.to_dict(), "half") / WEIGHTS).unlink()
    (tmp_path / "file").touch()
    assert [(path.name, found) for path, found in find_checkpoints(tmp_path)] == [("a", card), ("b", card)]


def test_there_are_no_checkpoints_where_there_is_no_folder(tmp_path):
    assert list(find_checkpoints(tmp_path / "nowhere")) == []


# --- pages ------------------------------------------------------------------------------------------


def test_the_page_says_what_the_network_is_and_how_good(card):
    text = page(card)
    assert text.startswith("# efficientnet_lite0 · MER500\n")
    for line in (
        "- network: efficientnet_lite0, head avg, only the head trained, started from: imagenet",
        "- classes: Sad, Happy, शांत",
        "- data: MER500, 494 clips, 90 songs; licence: CC BY",
        "- input: 10 s windows at 16000 Hz (soxr), 224 mel bands",
        "- test, by song: 75% (95% interval 40% to 93%)",
        "- test, by clip: 50% (95% interval 25% to 75%)",
        "- macro-F1: 40% (95% interval 20% to 60%)",
        "- to compare: majority class 30%, chance 20%; 20 test clips of 4 songs",
        "- made: 2026-01-02 by `mer train data`",
        "- weights kept as float32",
    ):
        assert line in text.splitlines()
    assert "synthetic" not in text


def test_a_network_trained_on_synthetic_music_says_so_first(card):
    synthetic = replace(card, data=card.data | {"synthetic": True})
    assert synthetic.synthetic
    assert synthetic.title == "efficientnet_lite0 · MER500 (synthetic)"
    assert page(synthetic).splitlines()[2].startswith("**Trained on synthetic music")


@pytest.mark.parametrize("value", ["true", 1, None, False])
def test_only_true_means_synthetic(card, value):
    assert not replace(card, data={"synthetic": value}).synthetic


def test_a_missing_licence_is_not_invented(card):
    assert "licence: not stated" in page(replace(card, data=card.data | {"licence": None}))


def test_missing_scores_are_left_out(card):
    text = page(replace(card, metrics={}))
    assert "test, by" not in text
    assert "to compare" not in text


@pytest.mark.parametrize(
    ("calibration", "line"),
    [
        ({"temperature": 0.8123, "songs": 24, "clips": 72}, "0.812, fitted on 24 songs and 72 clips of the"),
        (
            {"temperature": 0.05, "clips": 20},
            "0.05, fitted on 20 clips of the validation part",
        ),  # an older card
        ({"temperature": 2.0}, "2\n"),
    ],
)
def test_the_page_says_what_a_temperature_was_fitted_on(card, calibration, line):
    assert f"- probabilities: logits divided by {line}" in page(replace(card, calibration=calibration))


@pytest.mark.parametrize("calibration", [{}, {"temperature": 1.0, "songs": 0, "clips": 0}])
def test_the_page_omits_a_temperature_of_one(card, calibration):
    assert "logits" not in page(replace(card, calibration=calibration))


def test_notes_end_the_page(card):
    assert page(replace(card, notes="Half of the songs are from the 1950s.")).endswith(
        "\n\nHalf of the songs are from the 1950s.\n"
    )


def test_the_default_card_has_the_format_that_is_read():
    assert Card(classes=("a", "b"), config=Config(), normalization={}).format == CURRENT["card"]


# --- cards that lie ---------------------------------------------------------------------------------

JUNK = [None, -1, True, "", [], {}, "x" * 100_000, 10**1000, float("nan"), 1e308, [[]], {"a": 1}, "<b>\n"]


def places(data, above=()):
    """Every place in a card's data, as keys one below another; of a list the first two."""
    inner = data.items() if isinstance(data, dict) else enumerate(data[:2]) if isinstance(data, list) else ()
    for key, value in inner:
        yield (*above, key)
        yield from places(value, (*above, key))


def changed(data, place, value):
    """A copy with another value at one place; without it for `places`."""
    copy = json.loads(json.dumps(data))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    if value is places:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return copy


def said_of(folder):
    """What comes of a card: its title and page, or the error."""
    try:
        card = load_card(folder)
    except CheckpointError as error:
        return str(error), None
    json.dumps(card.to_dict())
    return card.title, page(card)


@pytest.mark.parametrize("share", [10, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.promise(
    "A card with false content is refused in a short line, or does no harm.",
    measured="2,842 changes (slow), a tenth of them by default",
)
def test_any_value_in_a_card_is_used_or_refused_in_one_line(share, write):
    data = json.loads((SHIPPED / CARD).read_text("utf-8"))
    folder, pages = write(data), []
    cases = [(place, value) for place in places(data) for value in (*JUNK, places)]
    for place, value in cases[::share]:
        (folder / CARD).write_text(json.dumps(changed(data, place, value)), "utf-8")
        line, text = said_of(folder)
        assert len(line) < 2000
        assert "\n" not in line
        assert "<b>" not in (text or "")
        pages.append(text)
    assert 0.1 < sum(text is None for text in pages) / len(pages) < 0.9


def test_the_page_of_a_card_escapes_html_and_headings(card):
    names = ("<script>alert(1)</script>", "Sad\n# Happy")
    text = page(replace(card, classes=names, data={"name": "<img src=x>\n# hi"}, command="<b>\n- mer"))
    assert "<" not in text
    assert [line for line in text.splitlines() if line.startswith("#")] == text.splitlines()[:1]


@pytest.mark.parametrize("key", ["name", "licence"])
def test_names_that_are_too_long_or_no_text_are_refused(card, write, key):
    folder = write(card.to_dict())
    for value in ("x" * 300, 5, ["a"]):
        (folder / CARD).write_text(json.dumps(card.to_dict() | {"data": {key: value}}))
        with pytest.raises(CheckpointError, match=f"data {key}=.* should be text of at most 200 letters"):
            load_card(folder)


def test_a_setting_that_is_too_long_is_refused(card, write):
    data = card.to_dict()
    data["config"]["train"]["backbone"] = "x" * 2000
    with pytest.raises(CheckpointError, match=r"backbone='x+\.\.\.x+' is longer than 1000 letters"):
        load_card(write(data))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 5000])
def test_values_that_are_not_numbers_are_refused(card, write, number):
    text = json.dumps(card.to_dict()).replace("16000", number, 1)
    with pytest.raises(CheckpointError):
        load_card(write(text))


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [("mel", "image_size", 10**6), ("audio", "sample_rate", 10**9), ("audio", "window_seconds", 1e9),
     ("mel", "n_mels", 10**9), ("train", "batch_size", 10**9)],
)  # fmt: skip
def test_sizes_that_would_fill_the_memory_are_refused(card, write, section, name, value):
    data = card.to_dict()
    data["config"][section][name] = value
    with pytest.raises(CheckpointError, match=f"{name}={value} is out of range"):
        load_card(write(data))
