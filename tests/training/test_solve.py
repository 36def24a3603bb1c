"""A head that is solved for: right by other libraries' solutions, song by song, and the same every time."""

import numpy as np
import pytest
import torch

from mer.audio.transforms import TrainTransform
from mer.config.sections import AugmentConfig
from mer.data.splits import inner_folds
from mer.inference.export import convert
from mer.metrics.probabilities import softmax
from mer.models.checkpoint import load_checkpoint, save_checkpoint
from mer.models.gradcam import grad_cam
from mer.models.solved import MOST_CENTRES
from mer.training import fitting
from mer.training import solve as solve_module
from mer.training import solved as solved_module
from mer.training.fitting import STRENGTHS, Fitted, fitted
from mer.training.loop import Callback
from mer.training.predict import window_probabilities
from mer.training.solve import USUAL, solve
from mer.training.solved import fit_solved
from mer.training.state import load_state, save_state
from mer.utils.errors import CheckpointError, RunError, Stop
from tests.tiny_backbone import STANDARDIZER, tiny_card, tiny_config, tiny_model, tiny_zoo, tones_or_beats

SOLVERS = ("ridge", "logistic", "kernel")
NARROW, WIDE = 6, 60  # features, of 40 windows


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


def problem(features=NARROW, clips=20, *, signal=1.0, classes=3, seed=0):
    """Windows, two a clip; hard labels; clips of every two are of one song."""
    rng = np.random.default_rng(seed)
    labels = np.arange(clips) // 2 % classes
    means = signal * rng.normal(size=(classes, features))
    clip = np.repeat(np.arange(clips), 2)
    rows = means[labels][clip] + rng.normal(size=(2 * clips, features))
    return rows, np.eye(classes)[labels], clip, [f"song {n // 2}" for n in range(clips)]


def weights_of(clip):
    return 1 / np.bincount(clip)[clip]


def standard(rows):
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


# The formulas


@pytest.mark.parametrize("features", [NARROW, WIDE])
def test_ridge_is_that_of_scikit_learn(features):
    from sklearn.linear_model import Ridge

    rows, targets, clip, _ = problem(features)
    found = fitted(rows, targets, clip, solver="ridge")
    for strength, scores in zip(STRENGTHS, found.scores(rows), strict=True):
        inputs = standard(rows) / np.sqrt(features)
        other = Ridge(alpha=strength * len(targets)).fit(
            inputs, targets[clip], sample_weight=weights_of(clip)
        )
        assert scores + targets.mean(axis=0) == pytest.approx(other.predict(inputs), abs=1e-6)


@pytest.mark.parametrize("features", [NARROW, WIDE])
def test_logistic_is_that_of_scikit_learn(features):
    from sklearn.linear_model import LogisticRegression

    rows, targets, clip, _ = problem(features)
    found = fitted(rows, targets, clip, solver="logistic", strengths=[0.001, 0.1])
    for number, strength in enumerate((0.001, 0.1)):
        inputs = standard(rows) / np.sqrt(features)
        other = LogisticRegression(C=1 / strength / len(targets), tol=1e-9, max_iter=5000)
        other.fit(inputs, targets[clip].argmax(axis=1), sample_weight=weights_of(clip))
        own = softmax(found.scores(rows)[number] + found.biases[number])
        assert own == pytest.approx(other.predict_proba(inputs), abs=1e-4)


def test_the_kernel_is_that_of_scikit_learn():
    from sklearn.kernel_ridge import KernelRidge

    rows, targets, clip, _ = problem()
    found = fitted(rows, targets, clip, solver="kernel", gamma=0.3)
    mean = targets.mean(axis=0)
    for strength, scores in zip(STRENGTHS, found.scores(rows), strict=True):
        other = KernelRidge(alpha=strength * len(targets), kernel="rbf", gamma=0.3 / NARROW)
        other.fit(standard(rows), targets[clip] - mean, sample_weight=weights_of(clip))
        assert scores == pytest.approx(other.predict(standard(rows)), abs=1e-6)


def test_landmarks_come_close_to_the_whole_kernel(monkeypatch):
    rows, targets, clip, _ = problem(3, 60)
    whole = fitted(rows, targets, clip, solver="kernel", gamma=0.3, strengths=[0.1])
    monkeypatch.setattr(fitting, "MOST_CENTRES", 100)
    monkeypatch.setattr(fitting, "LANDMARKS", 80)
    few = fitted(rows, targets, clip, solver="kernel", gamma=0.3, strengths=[0.1])
    assert len(few.centres) == 80
    assert few.scores(rows)[0] == pytest.approx(whole.scores(rows)[0], abs=0.01)


@pytest.mark.parametrize("solver", SOLVERS)
def test_clips_count_equally_however_many_windows_they_have(solver):
    rows, targets, clip, _ = problem()
    twice = np.concatenate([rows, rows[clip == 0]]), np.append(clip, [0, 0])
    order = np.argsort(twice[1], kind="stable")
    gamma = 0.3 if solver == "kernel" else None
    one = fitted(rows, targets, clip, solver=solver, gamma=gamma)
    other = fitted(twice[0][order], targets, twice[1][order], solver=solver, gamma=gamma)
    for own, more in zip(one.scores(rows), other.scores(rows), strict=True):
        assert more == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_feature_that_never_changes_is_ignored(solver):
    rows, targets, clip, songs = problem()
    rows[:, 2] = 5.0
    found = solve(rows, targets, clip, songs, solver=solver).tensors
    assert found["scale"][2] == 0
    assert all(np.isfinite(value).all() for value in found.values())


def test_features_that_are_not_finite_are_refused():
    rows, targets, clip, songs = problem()
    rows[3, 2] = np.nan
    with pytest.raises(RunError, match="not finite"):
        solve(rows, targets, clip, songs, solver="ridge")


# The choice


@pytest.mark.parametrize("solver", SOLVERS)
def test_separable_classes_are_learned_and_noise_is_not(solver):
    good = solve(*problem(clips=40, signal=2.0), solver=solver)
    assert good.rows[good.best]["inner_accuracy"] > 0.9
    assert good.rows[good.best]["inner_loss"] < 0.4
    noise = solve(*problem(clips=40, signal=0.0), solver=solver)
    assert noise.rows[noise.best]["inner_loss"] == pytest.approx(np.log(3), abs=0.06)
    assert noise.rows[noise.best]["inner_accuracy"] < 0.6


@pytest.mark.parametrize("solver", SOLVERS)
def test_there_is_a_row_for_each_strength(solver):
    found = solve(*problem(), solver=solver)
    assert [row["strength"] for row in found.rows] == list(STRENGTHS)
    assert all(("gamma" in row) == (solver == "kernel") for row in found.rows)


def test_a_faint_signal_is_learned_with_a_stronger_regularisation_than_usual():
    found = solve(*problem(clips=40, signal=0.3), solver="logistic")
    assert found.rows[found.best]["strength"] > USUAL["logistic"]


def test_a_clear_signal_is_learned_with_a_weaker_regularisation_than_usual():
    found = solve(*problem(clips=120, signal=8.0), solver="logistic")
    assert found.rows[found.best]["strength"] < USUAL["logistic"]


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_usual_strength_is_kept_if_the_best_one_is_better_by_chance_alone(solver):
    found = solve(*problem(WIDE, clips=300, signal=0.1), solver=solver)
    losses = {row["strength"]: row["inner_loss"] for row in found.rows}
    assert min(losses.values()) < losses[USUAL[solver]]
    assert found.rows[found.best]["strength"] == USUAL[solver]


def test_no_song_is_on_both_sides_of_an_inner_fold(monkeypatch):
    rows, targets, clip, songs = problem(clips=40)
    seen = []

    def watched(labels, groups, count):
        seen.extend(inner_folds(labels, groups, count))
        return seen

    monkeypatch.setattr(solve_module, "inner_folds", watched)
    solve(rows, targets, clip, songs, solver="ridge")
    assert len(seen) == 5
    for learned, tested in seen:
        assert not {songs[i] for i in learned} & {songs[i] for i in tested}


@pytest.mark.parametrize("solver", SOLVERS)
def test_with_too_few_songs_the_usual_strength_is_taken(solver):
    rows, targets, clip, songs = problem()
    found = solve(rows, targets, clip, ["one"] * len(songs), solver=solver)
    assert [row["strength"] for row in found.rows] == [USUAL[solver]]
    assert "inner_loss" not in found.rows[0]


@pytest.mark.parametrize("solver", SOLVERS)
def test_shares_of_votes_are_learned(solver):
    rows, targets, clip, songs = problem(signal=0.0)
    shares = np.tile([0.6, 0.3, 0.1], (len(targets), 1))
    bias = solve(rows, shares, clip, songs, solver=solver).tensors["bias"]
    assert softmax(bias) == pytest.approx([0.6, 0.3, 0.1], abs=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_input_gives_the_same_bits(solver):
    one, other = (solve(*problem(), solver=solver) for _ in range(2))
    assert one.rows == other.rows
    assert all(np.array_equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_order_of_the_clips_does_not_matter(solver, monkeypatch):
    monkeypatch.setattr(fitting, "MOST_CENTRES", 30)
    monkeypatch.setattr(fitting, "LANDMARKS", 10)
    rows, targets, clip, songs = problem()
    order = np.random.default_rng(1).permutation(len(targets))
    windows = np.concatenate([np.flatnonzero(clip == i) for i in order])
    mixed = rows[windows], targets[order], np.repeat(np.arange(len(order)), 2), [songs[i] for i in order]
    one, other = solve(rows, targets, clip, songs, solver=solver), solve(*mixed, solver=solver)
    assert one.best == other.best
    for name in ("mean", "scale", "bias"):
        assert one.tensors[name] == pytest.approx(other.tensors[name], abs=1e-6)
    rows_of = [Fitted(
        found.tensors["mean"], found.tensors["scale"], [found.tensors["weights"]], [],
        found.tensors.get("centres"), found.tensors.get("gamma"),
    ).scores(rows)[0] for found in (one, other)]  # fmt: skip
    assert rows_of[0] == pytest.approx(rows_of[1], abs=1e-4)


# The head in its network


def trained(solver, head="avg", **options):
    """A tiny network with a solved head, its settings and the state."""
    config = tiny_config(solver=solver, freeze="head", head=head)
    model = tiny_model(config)
    songs = [f"song {n // 2}" for n in range(12)]
    state = fit_solved(
        model, tones_or_beats(12), tones_or_beats(8, seed=1), transform=transform(), config=config,
        songs=songs, **options,
    )  # fmt: skip
    return model, config, state


def transform():
    return TrainTransform(STANDARDIZER, AugmentConfig())


@pytest.mark.parametrize("head", ["avg", "bands"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solved_network_is_saved_loaded_and_explained(solver, head, tmp_path):
    model, config, state = trained(solver, head)
    last = state.history[-1]
    assert last["validation_accuracy"] > 0.7
    assert last["best_strength"] == state.history[state.best_epoch - 1]["strength"]
    folder = save_checkpoint(tmp_path / "checkpoint", model, tiny_card(config))
    back, _, _ = load_checkpoint(folder)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(back(images), model.eval()(images))
    assert grad_cam(back, images, 0).max() > 0 or grad_cam(back, images, 1).max() > 0


@pytest.mark.parametrize(
    ("solver", "head", "ending"),
    [("ridge", "avg", ".pt2"), ("kernel", "bands", ".onnx")],
)
def test_a_solved_network_converts(solver, head, ending, tmp_path):
    model, config, _ = trained(solver, head)
    folder = save_checkpoint(tmp_path / "checkpoint", model, tiny_card(config))
    assert convert(folder, tmp_path / f"model{ending}")["difference"] < 1e-4


def test_the_head_gives_the_scores_of_the_solution():
    rows, targets, clip, songs = problem(8)
    for solver in SOLVERS:
        found = solve(rows, targets, clip, songs, solver=solver)
        head = tiny_model(tiny_config(solver=solver, freeze="head"), classes=3).head
        head.fill(**found.tensors)
        own = found.tensors
        scores = Fitted(
            own["mean"], own["scale"], [own["weights"]], [], own.get("centres"), own.get("gamma")
        ).scores(rows)[0]
        with torch.inference_mode():
            logits = head(torch.tensor(rows, dtype=torch.float32)).numpy()
        assert logits == pytest.approx(scores + own["bias"], abs=1e-4)


@pytest.mark.parametrize("count", [0, MOST_CENTRES + 1])
def test_a_checkpoint_with_no_or_too_many_centres_is_refused(count, tmp_path):
    model, config, _ = trained("kernel")
    model.head.centres = torch.zeros(count, 8)
    model.head.linear.weight = torch.nn.Parameter(torch.zeros(2, count))
    folder = save_checkpoint(tmp_path / "checkpoint", model, tiny_card(config))
    with pytest.raises(CheckpointError, match="centres"):
        load_checkpoint(folder)


def test_a_row_for_each_strength_is_told_and_the_last_state_is_whole(tmp_path):
    class Keep(Callback):
        def __init__(self):
            self.epochs, self.solved = [], []

        def on_solve(self, done, total):
            self.solved.append((done, total))

        def on_epoch(self, state):
            self.epochs.append(state.epoch)
            save_state(tmp_path / "state", state)

    keep = Keep()
    model, config, state = trained("ridge", callbacks=[keep])
    assert keep.epochs == list(range(1, len(STRENGTHS) + 1))
    assert keep.solved[-1][0] == keep.solved[-1][1]
    fresh = tiny_model(config)
    again = fit_solved(
        fresh, tones_or_beats(12), None, transform=transform(), config=config, songs=(),
        resume=load_state(tmp_path / "state"),
    )  # fmt: skip
    assert again.history == state.history
    own, other = (
        window_probabilities(each, tones_or_beats(4), transform(), config)[0] for each in (model, fresh)
    )
    assert np.array_equal(own, other)


def test_a_stop_while_solving_ends_it():
    class Enough(Callback):
        def on_solve(self, done, total):
            raise Stop("enough")

    with pytest.raises(Stop, match="enough"):
        trained("ridge", callbacks=[Enough()])


def test_more_features_than_fit_are_refused(monkeypatch):
    monkeypatch.setattr(solved_module, "MOST_VALUES", 100)
    with pytest.raises(RunError, match=r"24 windows of 8 features .* use solver='steps'"):
        trained("ridge")
