"""What the released code of 2022 did, switched on: 1000 outputs, training mode at the test, first seconds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mer.audio.decode import window_starts, windows
from mer.audio.mel import Standardizer
from mer.audio.transforms import EvalTransform, TrainTransform
from mer.config.presets import preset
from mer.config.sections import AudioConfig, AugmentConfig, Config, TrainConfig
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.experiments.study2022.published import DEVIATIONS
from mer.experiments.testing import Answers
from mer.inference.evaluate import evaluate_checkpoint
from mer.inference.predictor import Predictor
from mer.metrics.scores import OUTSIDE, columns, evaluate, with_outside
from mer.models.build import build_classifier, configured_classifier
from mer.models.outputs import within
from mer.models.zoo import ZOO
from mer.runs.results import read_predictions, read_scores
from mer.runs.store import RunStore
from mer.training.embeddings import trains_head_alone
from mer.training.feed import Feed
from mer.training.predict import predict_windows
from mer.utils.errors import ConfigError
from tests import run_helpers
from tests.tiny_backbone import STANDARDIZER, tiny_config, tiny_fit, tiny_model, tiny_zoo, tones_or_beats

CPU = torch.device("cpu")
ENDED = 10  # outputs of the tiny network, as 1000 are those of the others
RELEASED = {"outputs": "imagenet", "freeze": "classifier", "always_training": True, "standardize": "none"}


@pytest.fixture(autouse=True)
def tiny():
    with tiny_zoo():
        yield


def logits(model, config, *, clips=10):
    feed = Feed(tones_or_beats(clips), EvalTransform(STANDARDIZER), CPU)
    return predict_windows(model, feed, config)[0]


# The preset


def test_the_preset_is_what_the_released_code_did():
    config = preset("as-released")
    train = config.train
    assert (config.audio.sample_rate, config.audio.only_first) == (22050, True)
    frames = 1 + round(config.audio.window_seconds * 22050) // config.mel.hop_length
    assert (config.mel.n_mels, config.mel.n_fft, config.mel.f_max, frames) == (224, 2048, 8000.0, 224)
    assert (train.loss, train.optimizer, train.lr, train.weight_decay) == ("ce", "adam", 1e-3, 0.0)
    assert (train.batch_size, train.epochs, train.schedule, train.keep) == (64, 5, "constant", "last")
    assert {name: getattr(train, name) for name in RELEASED} == RELEASED
    split = config.split
    assert (split.test, split.validation, split.folds, split.group_by_song) == (0.2, 0.0, 0, False)
    assert config.augment == AugmentConfig()
    assert len(DEVIATIONS) == 9, "each a setting of this preset"


# The output layer that stays


def test_the_kept_output_layer_is_the_network_s_own_with_its_dropout():
    body = ZOO["tiny"].build()
    model = configured_classifier(tiny_config(outputs="imagenet"), classes=2)
    assert model.outputs == ENDED
    assert model.head.linear.weight.shape == body.classifier[1].weight.shape
    assert model.head.dropout.p == body.classifier[0].p
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, ENDED)


@pytest.mark.parametrize(("name", "dropped"), [("alexnet", 0.0), ("mobilenet_v3_small", 0.2)])
def test_it_keeps_its_1000_outputs_and_what_it_drops_before_them(name, dropped):
    with torch.device("meta"):
        model = build_classifier(name, classes=5, weights="none", outputs="imagenet", dropout=0.7)
    assert (model.outputs, model.head.dropout.p) == (1000, dropped)


@pytest.mark.parametrize(
    ("name", "layers"),
    [("alexnet", {"1", "4"}), ("vgg16", {"0", "3"}), ("mobilenet_v3_small", {"0"}), ("resnet18", set())],
)
def test_the_classifier_alone_trains_with_all_its_layers(name, layers):
    with torch.device("meta"):
        model = build_classifier(name, classes=5, weights="none", freeze="classifier")
    trained = {path.split(".")[1] for path, p in model.body.named_parameters() if p.requires_grad}
    assert trained == layers
    assert all(p.requires_grad for p in model.head.parameters())
    assert model.body_changes == bool(layers)


def test_heads_over_time_cannot_be_kept():
    with pytest.raises(
        ConfigError,
        match="outputs='imagenet' keeps the network's output layer instead of head='gru'",
    ):
        TrainConfig(outputs="imagenet", head="gru")


def test_a_network_with_more_outputs_learns_the_classes():
    config = tiny_config(outputs="imagenet", class_weights=True, epochs=12)
    model, state = tiny_fit(config)
    assert state.history[-1]["train_accuracy"] >= 0.9
    assert logits(model, config).shape == (20, ENDED)


@given(arrays(float, (4, 7), elements=st.floats(0, 1)), st.integers(1, 7))
def test_shares_of_the_classes_sum_to_1_and_keep_their_order(shares, classes):
    shares = (shares + 1e-3) / (shares + 1e-3).sum(axis=1, keepdims=True)
    found = within(shares, classes)
    assert found.shape == (4, classes)
    assert found.sum(axis=1) == pytest.approx(np.ones(4))
    assert (found.argmax(axis=1) == shares[:, :classes].argmax(axis=1)).all()


def test_classes_without_any_probability_share_it_evenly():
    assert within(np.array([[0.0, 0.0, 1.0]]), 2).tolist() == [[0.5, 0.5]]


# Answers that are none of the classes


def test_a_clip_answered_with_no_class_is_counted_and_wrong():
    found = np.zeros((20, 3))
    found[:, 0] = 0.6
    found[:, 1] = 0.4
    found[:4] = (0.2, 0.1, 0.7)  # both windows of clips 0 and 1
    answered = Answers.of(tones_or_beats(10), found, np.zeros(20))
    assert answered.outside.tolist() == [True, True] + [False] * 8
    assert answered.hits[0].tolist() == [0, 2]
    scores = answered.scores(groups=[str(n) for n in range(10)], classes=("Tone", "Beat"))
    assert scores["outside"] == 0.2
    assert scores["accuracy"] == scores["song_accuracy"] == 0.4
    assert scores["confusion"] == [[4, 0, 1], [4, 0, 1]]
    assert columns(scores) == ["Tone", "Beat", OUTSIDE]
    assert sum(row["support"] for row in scores["per_class"].values()) == 10


def test_without_more_outputs_nothing_is_said_of_them():
    answered = Answers.of(tones_or_beats(10), np.full((20, 2), 0.5), np.zeros(20))
    assert answered.outside is None
    assert "outside" not in answered.scores(groups=[str(n) for n in range(10)], classes=("Tone", "Beat"))


truths = arrays(np.int64, 12, elements=st.integers(0, 2))
shares = arrays(float, (12, 3), elements=st.floats(0.01, 1))


@given(truths, shares, arrays(bool, 12))
def test_clips_outside_never_raise_a_score_and_every_clip_is_in_the_matrix(truth, weights, outside):
    rows = weights / weights.sum(axis=1, keepdims=True)
    options = {"groups": [str(n) for n in range(12)], "classes": ("a", "b", "c")}
    with pytest.MonkeyPatch.context() as patch:  # no interval is looked at here
        patch.setattr("mer.metrics.scores.RESAMPLES", 1)
        without, found = evaluate(truth, rows, **options), evaluate(truth, rows, **options, outside=outside)
    assert found["accuracy"] <= without["accuracy"]
    assert found["kappa"] <= 1
    assert sum(map(sum, found["confusion"])) == 12
    assert found["outside"] == outside.mean()
    assert len(found["confusion"][0]) == 3 + outside.any()


def test_a_clip_outside_speaks_for_no_class_at_its_song():
    rows = with_outside(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([True, False]))
    assert rows.tolist() == [[0, 0, 1], [0.2, 0.8, 0]]
    assert with_outside(rows, np.array([False, False])) is rows
    assert with_outside(rows, None) is rows


# No evaluation mode


def test_a_network_without_evaluation_mode_is_in_training_mode_throughout():
    model = tiny_model(tiny_config(always_training=True, freeze="head"))
    for mode in (model.train(), model.eval()):
        assert all(module.training for module in mode.modules())


def test_what_it_sees_at_the_test_leaves_no_trace_in_it():
    config = tiny_config(always_training=True)
    model = tiny_model(config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    logits(model, config)
    assert torch.rand(1) == expected, "the generator of others must not move"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_its_answers_are_decided_by_the_seed():
    model = tiny_model(tiny_config(always_training=True))
    first, again, other = (logits(model, tiny_config(always_training=True, seed=n)) for n in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("always", [True, False])
def test_an_answer_depends_on_the_rest_of_the_batch_without_evaluation_mode_alone(always):
    config = tiny_config(always_training=always, batch_size=4, dropout=0.0)
    model = tiny_model(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    few, many = logits(model, config, clips=1), logits(model, config, clips=2)
    assert torch.allclose(few, many[:2], atol=1e-5) != always


def test_a_single_window_has_an_answer():
    config = tiny_config(always_training=True)
    feed = Feed(tones_or_beats(1, windows=1), EvalTransform(STANDARDIZER), CPU)
    found, _ = predict_windows(tiny_model(config), feed, config)
    assert found.shape == (1, 2)
    assert found.isfinite().all()


def test_its_body_is_never_computed_ahead():
    transform = TrainTransform(STANDARDIZER, AugmentConfig())
    assert not trains_head_alone(tiny_model(tiny_config(freeze="head", always_training=True)), transform)
    assert trains_head_alone(tiny_model(tiny_config(freeze="classifier")), transform)


# The first seconds alone, and no normalisation


@given(st.integers(1, 10**6))
def test_with_only_first_every_clip_has_one_window_from_its_start(samples):
    assert window_starts(samples, AudioConfig(only_first=True)) == [0]


def test_the_one_window_is_the_beginning(sound):
    wave = sound.chirp(seconds=3.0)
    (only,) = windows(wave, AudioConfig(window_seconds=1.0, hop_seconds=1.0, only_first=True))
    assert np.array_equal(only, wave[:16000])


def test_without_normalisation_decibels_stay_as_they_are():
    levels = torch.linspace(-80, 0, 9).view(1, 3, 3)
    assert torch.equal(Standardizer()(levels), levels)


# A whole run


@pytest.fixture(scope="module")
def released(module_home, song_corpus):
    """A finished run of the tiny network with all switches on."""
    with pytest.MonkeyPatch.context() as patch, tiny_zoo():
        patch.setenv("MER_HOME", str(module_home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        config = run_helpers.tiny_config(
            backbone="tiny", only_first=True, group_by_song=False, validation=0.0, **RELEASED
        )
        return Experiment().train(Spec(str(song_corpus), config))


def test_a_run_as_released_says_how_often_it_answered_with_no_class(released, runs_home):
    store = RunStore.open()
    scores, rows = read_scores(store, released.run_id), read_predictions(store, released.run_id)
    strange = np.mean([row["predicted"] == OUTSIDE for row in rows])
    assert scores["outside"] == pytest.approx(strange)
    assert {row["windows"][1] for row in rows} == {1}


def test_its_checkpoint_predicts_and_is_evaluated_like_any_other(released, runs_home, song_corpus):
    folder = RunStore.open().folder(released.run_id, "checkpoint")
    predictor = Predictor(folder)
    assert predictor.card.normalization == {"mean": 0.0, "std": 1.0}
    clips = sorted(song_corpus.glob("*/*.wav"))
    first, again = (predictor.predict(clips[0]) for _ in range(2))
    assert first == again
    assert len(first.windows) == 1
    assert sum(first.probabilities.values()) == pytest.approx(1)
    assert evaluate_checkpoint(folder, song_corpus)["n_clips"] == len(clips)
    alone = [found.probabilities for _, found in predictor.predict_many(clips, workers=2)]
    assert alone == [predictor.predict(clip).probabilities for clip in clips]


def test_a_prediction_that_is_no_class_is_remarked_upon(released, runs_home, song_corpus):
    predictor = Predictor(RunStore.open().folder(released.run_id, "checkpoint"))
    with torch.no_grad():
        predictor.model.head.linear.bias[ENDED - 1] = 1e3
    found = predictor.predict(next(song_corpus.glob("*/*.wav")))
    assert f"The likeliest of the network's {ENDED} outputs is none of the emotions." in found.remarks


def test_the_folds_of_such_a_run_pool_what_is_outside(runs_home, song_corpus):
    config = run_helpers.tiny_config(backbone="tiny", folds=2, epochs=1, **RELEASED)
    outcome = Experiment().train(Spec(str(song_corpus), config))
    scores = read_scores(RunStore.open(), outcome.run_id)
    assert scores["n_clips"] == 16
    assert 0 <= scores["outside"] <= 1


def test_a_config_knows_what_it_never_had():
    data = Config().to_dict()
    for section, name in (("audio", "only_first"), ("train", "outputs"), ("train", "always_training")):
        del data[section][name]
    assert Config.from_dict(data) == Config()
