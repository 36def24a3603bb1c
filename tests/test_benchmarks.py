"""The benchmark: its ratios, its page, and the algorithm of the baseline. Nothing is timed."""

import json
import subprocess
import sys
import wave
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from benchmarks import baseline, paper, report, run, sample
from benchmarks.machine import PACKAGES
from benchmarks.rows import ROWS, Bench, Measured, NotMeasuredError, Result, Row, chosen
from benchmarks.timing import Times, alternate
from mer.cli.parser import build_parser
from mer.utils.errors import ConfigError

ABOUT = {
    "machine": {"processor": "Abacus", "cores": 2, "memory_gib": 4.0, "system": "Linux"},
    "versions": {"python": "3.11", "torch": "2"},
    "commit": "abc",
    "date": "2024-02-29",
}


def row(**changes):
    settings = {
        "name": "first pass",
        "what": "w",
        "module": "preparing",
        "unit": "s",
        "target": 2,
        "margin": 1,
    }
    return Row(**settings | changes)


def result(ours, theirs=None, **changes):
    return Result(row(**changes), Measured(ours, theirs, ["a detail"]))


@pytest.mark.parametrize(
    ("found", "ratio", "ok"),
    [
        (result(2.0, 8.0), 4, True),
        (result(8.0, 8.0), 1, False),
        (result(30.0, 10.0, unit="clips/s"), 3, True),
        (result(10.0, 10.0, unit="clips/s"), 1, False),
        (result(3.0, 2.0, at_most=True), 1.5, True),
        (result(6.0, 2.0, at_most=True), 3, False),
        (result(0.03, target=0.05, at_most=True, unit="of a core"), 0.03, True),
        (result(0.06, target=0.05, at_most=True, unit="of a core"), 0.06, False),
    ],
)
def test_a_ratio_above_one_is_faster_unless_it_is_a_limit(found, ratio, ok):
    assert found.ratio == pytest.approx(ratio)
    assert found.ok is ok
    assert found.verdict == ("reached" if ok else "falls short")


def test_a_row_that_falls_short_is_marked_in_the_table_and_on_the_page():
    found = [result(8.0, 8.0), result(1.0, 8.0, name="paper run")]
    lines = report.show(found).splitlines()
    assert " ".join(lines[1].split()) == "first pass 8.00 s 8.00 s 1.00 x at least 2 x falls short"
    assert lines[2].endswith("reached")
    assert "first pass: a detail" in lines
    page = report.markdown(found, ABOUT, data="7 clips", backbones=["alexnet"])
    assert "| first pass | 8.00 s | 8.00 s | 1.00 x | at least 2 x | falls short |" in page
    for words in ("Abacus, 2 cores", "torch 2", "commit abc", "2024-02-29", "7 clips", "  - a detail"):
        assert words in page


def test_a_share_of_a_core_has_no_ratio_but_a_limit():
    found = result(0.034, target=0.05, at_most=True, unit="of a core")
    line = report.show([found]).splitlines()[1]
    assert " ".join(line.split()) == "first pass 3.4% of a core at most 5% reached"


def test_a_row_that_cannot_be_measured_gives_the_reason_and_is_no_failure(monkeypatch, tmp_path):
    def missing(bench):
        raise NotMeasuredError("no Chromium")

    monkeypatch.setattr("benchmarks.preparing.first_pass", missing)
    found = row().measure(Bench(None, tmp_path))
    assert found.verdict == "not measured: no Chromium"
    assert found.ok is None
    assert run.status([found], quick=True) == 0
    assert report.show([found]).splitlines()[1].endswith("not measured: no Chromium")


def test_a_row_that_fails_stops_no_other_and_sets_the_exit_status(monkeypatch, tmp_path, capsys):
    def broken(bench):
        raise OSError("no room")

    monkeypatch.setattr("benchmarks.preparing.first_pass", broken)
    found = row().measure(Bench(None, tmp_path))
    assert run.status([found, result(1.0, 8.0)], quick=False) == 1
    assert capsys.readouterr().err == "error: first pass: OSError: no room\n"


def test_only_a_quick_run_fails_for_a_ratio_and_only_beyond_the_margin(capsys):
    near, far = result(8.0, 8.0), result(8.0, 2.0)
    assert run.status([near, far], quick=False) == 0
    assert run.status([near], quick=True) == 0
    assert run.status([near, far], quick=True) == 1
    assert capsys.readouterr().err.startswith("error: first pass: 0.25 x")
    assert run.status([result(8.0, 2.0, at_most=True, margin=3)], quick=True) == 1


def test_the_page_keeps_what_is_written_by_hand(tmp_path):
    path = tmp_path / "docs" / "page.md"
    report.write(path, "first\n")
    assert path.read_text() == f"first\n\n{report.BY_HAND}\n"
    path.write_text(path.read_text() + "\n## Profile\n\nby hand\n")
    for text in ("second", "third"):
        report.write(path, text)
    assert path.read_text() == f"third\n\n{report.BY_HAND}\n\n## Profile\n\nby hand\n"


def test_every_row_has_its_function():
    for one in ROWS:
        function = one.name.replace(" ", "_").replace("-", "_")
        assert callable(getattr(import_module(f"benchmarks.{one.module}"), function))
        assert one.margin < one.target or one.at_most


def test_rows_are_chosen_by_name_and_a_quick_run_needs_no_browser(tmp_path):
    assert [one.name for one in chosen("predict, First pass,full-fine-tune", quick=False)] == [
        "first pass",
        "full fine-tune",
        "predict",
    ]
    assert len(chosen("", quick=False)) == len(ROWS) == 8
    assert not {"start", "dashboard"} & {one.name for one in chosen("", quick=True)}
    with pytest.raises(ConfigError, match="no row 'lunch'; there are: first-pass"):
        chosen("lunch", quick=False)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--rows lunch", "error: no row 'lunch'"),
        ("--repeats 0", "error: --repeats 0 should be at least 1"),
        ("--rows predict --data nowhere", "error: nowhere: no such"),
    ],
)
def test_a_wrong_option_is_an_error_of_one_line(words, error, capsys, monkeypatch):
    monkeypatch.setattr(run, "prepare_environment", lambda: None)
    assert run.main(words.split()) == 1
    said = capsys.readouterr().err
    assert said.startswith(error)
    assert said.count("\n") == 1


def test_ours_and_the_baseline_alternate():
    calls = []

    def side(name):
        def call(number):
            calls.append(f"{name}{number}")
            return float(number)

        return call

    times = alternate(side("a"), side("b"), times=2, first=1)
    assert calls == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert times == Times((1.0, 2.0), (1.0, 2.0))
    assert times.medians == (1.5, 1.5)


def test_a_bench_sets_its_own_home_and_restores_the_old_one(own_home, tmp_path, monkeypatch):
    import os

    bench = Bench(None, tmp_path)
    with bench.own_home() as folder:
        assert os.environ["MER_HOME"] == str(folder) != str(own_home)
    assert os.environ["MER_HOME"] == str(own_home)


def test_generated_clips_are_all_different_and_the_same_every_time(tmp_path):
    first = sample.generate(tmp_path / "a", 10)
    again = sample.generate(tmp_path / "b", 10)
    contents = [path.read_bytes() for path in first.paths]
    assert contents == [path.read_bytes() for path in again.paths]
    assert len(set(contents)) == 10
    assert sorted(first.labels) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    with wave.open(str(first.paths[0])) as file:
        assert file.getparams()[:4] == (2, 2, 44_100, 441_000)
    assert 1000 < np.abs(sample.sound(0, 0)).max() < 32_767


def test_clips_are_taken_evenly_from_the_classes():
    names = ["a"] * 2 + ["b"] * 9 + ["c"] * 9
    assert sample.spread(names, 10) == {"a": 2, "b": 4, "c": 4}
    assert sample.spread(names, 99) == {"a": 2, "b": 9, "c": 9}
    assert sample.spread(names, 2) == {"a": 1, "b": 1, "c": 0}


def test_the_first_given_clips_of_each_class_are_linked(tiny_corpus, tmp_path):
    (tiny_corpus / "Happy" / "0.wav").write_bytes(b"no audio")
    chosen = sample.choose(tiny_corpus, tmp_path / "links", 4)
    assert [path.resolve() for path in chosen.paths] == [
        tiny_corpus / name for name in ("Happy/1.wav", "Happy/2.wav", "Sad/0.wav", "Sad/1.wav")
    ]
    assert chosen.labels == (0, 0, 1, 1)
    assert chosen.words == "4 of 6 clips of corpus, 1.0 s on average"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # librosa uses modules that Python deprecates
def test_the_baseline_sees_the_first_seconds_of_a_clip_in_three_equal_channels(sound, write_audio, tmp_path):
    path = write_audio(tmp_path / "clip.wav", sound.chirp(seconds=8, rate=44_100), rate=44_100)
    image = baseline.image(path)
    assert image.shape == (3, 224, 224)
    assert image.dtype == torch.float32
    assert torch.equal(image[0], image[2])
    assert -80 <= image.min() < image.max() <= 0
    longer = write_audio(
        tmp_path / "long.wav", np.concatenate([sound.chirp(seconds=8, rate=44_100)] * 2), rate=44_100
    )
    assert baseline.load(longer).shape == baseline.load(path).shape
    short = write_audio(tmp_path / "short.wav", sound.tone(seconds=0.6))
    assert baseline.image(short).shape == (3, 224, 224)


def test_the_baseline_trains_its_head_alone_and_never_leaves_training_mode():
    torch.manual_seed(0)
    net = baseline.network("mobilenet_v3_small")
    clips = TensorDataset(torch.rand(4, 3, 32, 32), torch.arange(4))
    before = {name: value.clone() for name, value in net.named_parameters()}
    baseline.train(net, clips, size=4, epochs=1, workers=0)
    assert 0 <= baseline.score(net, clips, size=4, workers=0) <= 1
    changed = {name for name, value in net.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("classifier")}
    assert net(clips.tensors[0]).shape == (4, 1000)
    assert net.training


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "efficientnet_b0"])
def test_every_network_of_the_baseline_has_a_head_with_a_thousand_outputs(name):
    with torch.device("meta"):
        net = baseline.network(name)
    trains = [path for path, value in net.named_parameters() if value.requires_grad]
    assert trains
    assert all(path.startswith(("fc.", "classifier.")) for path in trains)
    assert dict(net.named_parameters())[trains[-1]].shape == (1000,)


def test_the_baseline_tests_on_a_fifth_by_one_shuffle():
    training, test = baseline.split(490)
    assert (len(training), len(test)) == (392, 98)
    assert sorted(training + test) == list(range(490))
    assert (training, test) == baseline.split(490) != baseline.split(489)
    assert training != sorted(training)


def test_our_side_of_the_paper_run_is_a_command_that_parses():
    words = paper.sweep_words("songs", paper.BACKBONES, paper.SIZES)
    options = build_parser().parse_args(words[2:])
    assert options.backbones.split(",") == list(paper.BACKBONES)
    assert options.set_weights == "none"
    assert "mer sweep --data DIR --preset paper --weights none" in report.METHOD


def test_the_paper_run_fails_with_the_last_line_of_a_command_that_failed(tmp_path):
    with pytest.raises(RuntimeError, match=r"mer sweep failed: .*no-such-folder"):
        paper.paper_run(Bench(sample.Sample(Path("no-such-folder"), (), (), ""), tmp_path, quick=True))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_quick_run_measures_every_row_that_needs_no_browser():
    script = Path(run.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--json"],
        capture_output=True,
        text=True,
        cwd=script.parents[1],
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert [one["name"] for one in data["rows"]] == [one.name for one in ROWS if not one.browser]
    assert all(one["ratio"] > 0 for one in data["rows"])
    assert data["machine"]["cores"] >= 1
    assert list(data["versions"]) == ["python", *PACKAGES, "mer"]
