"""Learning curves: where points lie, how they are thinned, and a chart that keeps its zoom."""

import pytest
from streamlit.delta_generator import DeltaGenerator

from mer.runs.run import Run
from pages._ui.cached import runs as cached_runs
from pages._ui.cached.runs import history
from pages._ui.charts.curves import POINTS, best_and_last, read_curves, show_curves

NOTHING = {
    f"{part}_{what}": [] for part in ("train", "step", "validation") for what in ("loss", "accuracy")
}  # no points


def run_of(status="finished", *, steps="120", epochs=3, **metrics):
    spec = {"config": {"train": {"epochs": epochs}}}
    tags = {"mer.steps": steps} if steps else {}
    return Run("abcdef0123", "a run", status, 0.0, 9.0, spec, metrics, tags=tags)


@pytest.fixture
def kept(monkeypatch):
    """The metrics of a fake store; `kept.asked` lists what was read from it."""

    class Kept(dict):
        """Points by metric, and the reads."""

    found = Kept()
    found.asked = []

    class Store:
        """Replaces the run store."""

        def history(self, run_id, metric):
            found.asked.append(metric)
            return found.get(metric, [])

    monkeypatch.setattr(cached_runs.RunStore, "open", Store)
    return found


def test_validation_points_lie_at_the_last_step_of_their_epoch(kept):
    kept["validation_loss"] = [(1, 0.9), (2, 0.8), (3, 0.7)]
    assert read_curves(run_of(), "step")["validation_loss"] == [(40, 0.9), (80, 0.8), (120, 0.7)]


def test_points_by_epoch_are_not_moved(kept):
    kept["validation_loss"] = kept["train_loss"] = [(1, 0.9), (2, 0.8)]
    found = read_curves(run_of(), "epoch")
    assert found["validation_loss"] == found["train_loss"] == [(1, 0.9), (2, 0.8)]


def test_without_the_number_of_steps_the_last_step_is_used(kept):
    kept["step_loss"], kept["validation_loss"] = [(n, 1.0) for n in range(1, 31)], [(3, 0.7)]
    assert read_curves(run_of(steps=""), "step")["validation_loss"] == [(30, 0.7)]


def test_a_run_without_metrics_has_no_points(kept):
    assert not any(read_curves(run_of(steps="", epochs=0), "step").values())


def test_single_steps_are_smoothed_towards_their_mean(kept):
    kept["step_loss"] = [(n, float(n % 2)) for n in range(1, 200)]
    smoothed = [y for _, y in read_curves(run_of(), "step")["step_loss"]]
    assert smoothed[0] == 1
    assert all(0.4 < y < 0.6 for y in smoothed[-50:])


@pytest.mark.parametrize("count", [1, 2, 399, 400, 401, 799, 5000])
def test_a_long_curve_is_thinned_and_keeps_the_newest_point_and_the_order(kept, count):
    kept["step_loss"] = [(n, 0.5) for n in range(1, count + 1)]
    found = read_curves(run_of(), "step")["step_loss"]
    assert found[-1] == (count, 0.5)
    assert found == sorted(found)
    assert len(found) == count or POINTS <= len(found) < 2 * POINTS


def test_metrics_of_an_ended_run_are_read_once(kept):
    for _ in range(3):
        history(run_of("finished"), "step_loss")
    assert kept.asked == ["step_loss"]


def test_a_metric_of_an_active_run_is_read_again_when_its_newest_value_changes(kept):
    history(run_of("running", validation_loss=0.5), "validation_loss")
    history(run_of("running", validation_loss=0.4), "validation_loss")
    history(run_of("running", validation_loss=0.4), "validation_loss")
    assert kept.asked == ["validation_loss"] * 2


def test_the_newest_step_of_an_active_run_is_appended_to_the_cached_points(kept):
    kept["step_loss"] = [(10, 0.8), (20, 0.7)]
    assert history(run_of("running", progress=0.25, step_loss=0.6), "step_loss")[-1] == (30, 0.6)
    assert history(run_of("running", progress=20 / 120, step_loss=0.7), "step_loss")[-1] == (20, 0.7)


def test_the_best_epoch_is_shown_with_the_last():
    points = [(1.0, 0.5), (2.0, 0.75), (3.0, 0.25)]
    assert best_and_last(run_of(best_epoch=2.0), points) == "best epoch 2: 75%, last epoch 3: 25%"
    assert best_and_last(run_of(), points) == "last epoch 3: 25%"
    assert best_and_last(run_of(best_epoch=7.0), points) == "last epoch 3: 25%"
    assert best_and_last(run_of(best_epoch=1.0), []) == ""


@pytest.fixture
def drawn():
    """`drawn(runs, read)` shows the curves; returns the points and the chart of loss and of accuracy."""

    def draw(runs, read, by="epoch"):
        found, real = {}, DeltaGenerator.vega_lite_chart
        with pytest.MonkeyPatch.context() as patch:

            def keep(column, table, spec, **options):
                found[spec["encoding"]["y"]["title"]] = (table.to_pylist(), spec)
                return real(column, table, spec, **options)

            patch.setattr(DeltaGenerator, "vega_lite_chart", keep)
            show_curves(runs, {run.id: NOTHING | read for run in runs}, by, key="test")
        return found

    return draw


def test_the_points_are_training_validation_and_a_ring_at_the_best_epoch(drawn):
    read = {"train_loss": [(1.0, 0.9)], "validation_loss": [(1.0, 0.8), (2.0, 0.7)]}
    rows, _ = drawn([run_of(best_epoch=2.0)], read)["loss"]
    name = "a run · abcdef01"
    assert rows == [
        {"x": 1.0, "y": 0.9, "run": name, "part": "training"},
        {"x": 1.0, "y": 0.8, "run": name, "part": "validation"},
        {"x": 2.0, "y": 0.7, "run": name, "part": "validation"},
        {"x": 2.0, "y": 0.7, "run": name, "part": "best"},
    ]


def test_the_chart_stays_the_same_while_only_its_data_change(drawn):
    early = drawn([run_of("running", progress=0.1, step_loss=0.9)], {}, "step")
    read = {"step_loss": [(1.0, 0.5)], "validation_loss": [(1.0, 0.5)]}
    late = drawn([run_of("finished", progress=1.0, step_loss=0.1, best_epoch=1.0)], read, "step")
    assert [early[what][1] for what in early] == [late[what][1] for what in late]


def test_runs_of_a_chart_have_different_colours_and_shapes(drawn):
    runs = [Run(f"{n}" * 8, f"run {n}", "finished", 0, 1, {}, {}) for n in range(7)]
    _, spec = drawn(runs, {})["accuracy"]
    scale = spec["encoding"]["color"]["scale"]
    assert len(set(scale["range"])) == len(set(scale["domain"])) == 7
    assert len(set(spec["layer"][1]["encoding"]["shape"]["scale"]["range"])) == 7


def solved_run(**metrics):
    spec = {"config": {"train": {"solver": "ridge", "epochs": 5}}}
    return Run("abcdef0123", "a run", "finished", 0.0, 9.0, spec, metrics)


def test_a_solved_run_is_drawn_by_strength(kept, drawn):
    kept["strength"] = [(1, 0.01), (2, 0.1), (3, 1.0)]
    kept["inner_loss"] = [(1, 0.9), (2, 0.7), (3, 0.8)]
    found = read_curves(solved_run(), "step")
    assert found["inner_loss"] == [(0.01, 0.9), (0.1, 0.7), (1.0, 0.8)]
    rows, spec = drawn([solved_run(best_epoch=2.0)], found)["loss"]
    assert [(row["x"], row["y"]) for row in rows if row["part"] == "best"] == [(0.1, 0.7)]
    assert spec["encoding"]["x"]["scale"]["type"] == "log"


def test_a_solved_run_names_its_strength_and_no_epoch():
    assert best_and_last(solved_run(best_strength=0.1), [(11, 0.5)]) == "strength 0.1: 50%"


@pytest.mark.parametrize(
    ("runs", "captions"),
    [
        ([solved_run()], ["Solved heads: clips held out"]),
        ([run_of()], ["Dashed: training."]),
        ([run_of(), solved_run()], ["Dashed: training.", "Solved heads: clips held out"]),
    ],
)
def test_captions_explain_only_the_charts_that_are_shown(monkeypatch, runs, captions):
    said = []
    monkeypatch.setattr("streamlit.caption", said.append)
    nothing = NOTHING | dict.fromkeys(("inner_loss", "inner_accuracy"), ())
    show_curves(runs, {run.id: nothing for run in runs}, "epoch", key="test")
    assert [text[: len(start)] for text, start in zip(said, captions, strict=True)] == captions
