"""Embeddings of a frozen body: the same as without the store, computed once, shared by all that may share."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from mer.audio.mel import Standardizer
from mer.audio.transforms import EvalTransform, TrainTransform
from mer.config.sections import AudioConfig, AugmentConfig, MelConfig
from mer.data.cache.store import FeatureStore
from mer.data.windows import WindowSet
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.inference.evaluate import evaluate_checkpoint
from mer.inference.predictor import Predictor
from mer.models.build import configured_classifier
from mer.runs.results import read_predictions, read_scores
from mer.runs.store import RunStore
from mer.training.embeddings import KeptEmbeddings, embed, trains_head_alone
from mer.training.feed import Feed
from mer.training.loop import fit
from mer.training.predict import window_probabilities
from mer.utils.errors import Stop, StorageError
from tests import run_helpers
from tests.tiny_backbone import STANDARDIZER, tiny_config, tiny_model, tiny_zoo, tones_or_beats

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def zoo():
    with tiny_zoo():
        yield


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


@pytest.fixture
def model():
    return tiny_model(tiny_config(freeze="head"))


@pytest.fixture
def windows():
    """10 clips of 1 to 3 windows, each with a hash."""
    source = tones_or_beats(windows=3)
    arrays = [source.images(source.starts[n] + np.arange(1 + n % 3)) for n in range(10)]
    return WindowSet(arrays, source.labels, classes=2, hashes=[f"{n:02}" * 20 for n in range(10)])


@pytest.fixture
def passed():
    """`passed(model)` counts from now on the windows that pass through its body, not what fills a pass up."""

    def watch(model):
        seen = []
        model.body.register_forward_hook(
            lambda module, inputs, output: seen.append(len(inputs[0].unique(dim=0)))
        )
        return seen

    return watch


def kept(store, model, *, standardizer=STANDARDIZER, **changes):
    settings = {"audio": AudioConfig(), "mel": MelConfig()} | changes
    return KeptEmbeddings.of(store, model, EvalTransform(standardizer), **settings)


def call(work, model, windows, progress=lambda done, total: None):
    return work(model, Feed(windows, EvalTransform(STANDARDIZER), CPU), progress)


# --- the same ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["avg", "attention"])
def test_embeddings_are_the_input_of_the_head(head, store, windows):
    model = tiny_model(tiny_config(freeze="head", head=head)).eval()
    images = torch.from_numpy(windows.images(np.arange(len(windows))))
    with torch.inference_mode():
        expected = model.embed(EvalTransform(STANDARDIZER)(images))
    first, again = (call(kept(store, model), model, windows) for _ in range(2))
    assert torch.allclose(call(embed, model, windows), expected, atol=1e-6)
    assert torch.allclose(first, expected, atol=1e-6)
    assert torch.equal(first, again)
    assert first.dtype == torch.float32


@pytest.mark.parametrize("head", ["avg", "attention", "gru"])
def test_training_and_predicting_from_the_store_equal_direct_computation(head, store, windows):
    """The slow way: all images through the whole network in every epoch."""
    config = tiny_config(freeze="head", head=head, epochs=5)
    fast, slow = tiny_model(config), tiny_model(config)
    transform, plain = TrainTransform(STANDARDIZER, AugmentConfig()), EvalTransform(STANDARDIZER)
    work = kept(store, fast)
    one = fit(fast, windows, windows, transform=transform, config=config, embed=work)
    every_epoch = TrainTransform(STANDARDIZER, AugmentConfig())
    every_epoch.is_random = True  # so it says
    two = fit(slow, windows, windows, transform=every_epoch, config=config)
    for name, tensor in slow.state_dict().items():
        assert torch.allclose(tensor, fast.state_dict()[name], atol=1e-5), name
    for left, right in zip(one.history, two.history, strict=True):
        assert left["train_loss"] == pytest.approx(right["train_loss"], abs=1e-5)
        assert left["validation_loss"] == pytest.approx(right["validation_loss"], abs=1e-5)
    by_store, _ = window_probabilities(fast, windows, plain, config, embed=work)
    assert by_store == pytest.approx(window_probabilities(slow, windows, plain, config)[0], abs=1e-5)


def test_only_a_frozen_body_without_random_input_trains_the_head_alone():
    def transform(**augment):
        return TrainTransform(STANDARDIZER, AugmentConfig(**augment))

    frozen, last, free = (tiny_model(tiny_config(freeze=freeze)) for freeze in ("head", "last", "none"))
    assert trains_head_alone(frozen, transform())
    assert not trains_head_alone(last, transform())
    assert not trains_head_alone(free, transform())
    for augment in ({"time_masks": 1}, {"frequency_masks": 1}, {"time_shift": 0.5}, {"mixup": 0.1}):
        assert not trains_head_alone(frozen, transform(**augment))


# --- once -------------------------------------------------------------------------------------------


def test_a_second_call_computes_nothing(store, model, windows, passed):
    seen = passed(model)
    call(kept(store, model), model, windows)
    assert sum(seen) == len(windows)
    call(kept(store, model), model, windows)
    assert sum(seen) == len(windows)


def test_another_choice_of_clips_computes_only_those_that_are_new(store, model, windows, passed):
    seen = passed(model)
    clips = [windows.images(windows.starts[n] + np.arange(windows.counts[n])) for n in range(10)]

    def some(numbers):
        hashes = [windows.hashes[n] for n in numbers]
        return WindowSet([clips[n] for n in numbers], windows.labels[numbers], classes=2, hashes=hashes)

    call(kept(store, model), model, some([0, 1, 2, 3]))
    before = sum(seen)
    found = call(kept(store, model), model, some([9, 3, 1, 5]))
    assert sum(seen) - before == windows.counts[9] + windows.counts[5]
    assert torch.allclose(found, call(embed, model, some([9, 3, 1, 5])), atol=1e-6)


def test_every_setting_of_the_embeddings_is_in_the_key(store, model):
    other = tiny_model(tiny_config(freeze="head"), seed=1)
    attention = tiny_model(tiny_config(freeze="head", head="attention"))
    shelves = [
        kept(store, model),
        kept(store, other),
        kept(store, attention),
        kept(store, model, standardizer=Standardizer(-34.0, 10.0)),
        kept(store, model, standardizer=Standardizer(per_window=True)),
        kept(store, model, mel=MelConfig(n_fft=2048)),
        kept(store, model, audio=AudioConfig(hop_seconds=2.0)),
    ]
    assert len({work.shelf.folder for work in shelves}) == len(shelves)


def without(model, kind):
    """The same network and the same tensors, without the modules of one kind."""
    changed = copy.deepcopy(model)
    for path, module in list(changed.body.named_modules()):
        if isinstance(module, kind):
            changed.body.set_submodule(path, torch.nn.Identity())
    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda model: without(model, torch.nn.ReLU),
        lambda model: without(model, torch.nn.Dropout),
        lambda model: setattr(model.body.features[4], "padding", (2, 2)),
        lambda model: setattr(model.body.features[1], "eps", 0.1),
    ],
    ids=["no activations", "no dropout", "another padding", "another epsilon"],
)
@pytest.mark.promise("Stored embeddings are never used for a network that computes something else.")
def test_a_network_with_equal_tensors_and_another_structure_has_another_key(store, model, change):
    changed = copy.deepcopy(model)
    changed = change(changed) or changed
    assert changed.body.state_dict().keys() == model.body.state_dict().keys()
    assert kept(store, changed).shelf.folder != kept(store, model).shelf.folder


def test_settings_without_effect_on_the_embeddings_share_the_key(store, model):
    another_head = tiny_model(tiny_config(freeze="head", dropout=0.9), classes=7)
    another_head.body.load_state_dict(model.body.state_dict())
    laid_out = tiny_model(tiny_config(freeze="head"), channels_last=True)
    folders = {kept(store, part).shelf.folder for part in (model, another_head, laid_out)}
    assert len(folders) == 1


def body_passes(monkeypatch):
    """Counts the windows whose embeddings are computed, and so stored, in any experiment from now on."""
    from mer.training import embeddings as frozen

    seen, plain = [], frozen.write_array

    def counting(path, rows):
        seen.append(len(rows))
        plain(path, rows)

    monkeypatch.setattr(frozen, "write_array", counting)
    return seen


def test_epochs_batch_sizes_losses_and_folds_share_them(own_home, song_corpus, monkeypatch):
    """16 clips of one window each go through the body once, whatever is trained on them."""
    seen = body_passes(monkeypatch)
    shared = {"backbone": "tiny", "freeze": "head", "standardize": "window", "dropout": 0.0}
    for changes in ({}, {"batch_size": 4}, {"loss": "bce", "epochs": 1}, {"folds": 2}, {"lr": 0.1}):
        config = run_helpers.tiny_config(**shared | {"seed": 0} | changes)
        outcome = Experiment().train(Spec(data=str(song_corpus), config=config))
        assert outcome.status == "finished"
    assert sum(seen) == 16


def test_another_training_part_has_another_key(own_home, song_corpus, monkeypatch):
    seen = body_passes(monkeypatch)
    config = run_helpers.tiny_config(backbone="tiny", freeze="head", standardize="training", folds=2)
    Experiment().train(Spec(data=str(song_corpus), config=config))
    assert sum(seen) == 2 * 16


def test_scores_from_the_store_equal_those_of_the_checkpoint(own_home, song_corpus):
    """The network that is saved, given the images, says what was noted of it."""
    config = run_helpers.tiny_config(backbone="tiny", freeze="head", standardize="window", test=0.5)
    outcome = Experiment().train(Spec(data=str(song_corpus / "manifest.csv"), config=config))
    runs = RunStore.open()
    noted = {row["clip"]: row["probabilities"] for row in read_predictions(runs, outcome.run_id)}
    folder = runs.folder(outcome.run_id, "checkpoint")
    predictor = Predictor(folder)
    for clip, probabilities in noted.items():
        found = predictor.predict(song_corpus / clip).probabilities
        assert found == pytest.approx(probabilities, abs=1e-4)
    assert read_scores(runs, outcome.run_id)["n_clips"] == len(noted)
    assert evaluate_checkpoint(folder, song_corpus / "manifest.csv")["trained_on_this_data"]


# --- damage, kills, company -------------------------------------------------------------------------


def test_a_damaged_entry_is_computed_again_and_alone(store, model, windows, passed):
    expected = call(kept(store, model), model, windows)
    path = kept(store, model).shelf.path(windows.hashes[4])
    path.write_bytes(path.read_bytes()[:-9])
    seen = passed(model)
    assert torch.allclose(call(kept(store, model), model, windows), expected, atol=1e-6)
    assert sum(seen) == windows.counts[4]


def test_an_interruption_loses_at_most_the_windows_in_progress(store, model, windows, passed, monkeypatch):
    monkeypatch.setattr("mer.training.embeddings.pass_size", lambda device: 4)

    def stop(done, total):
        if done >= 12:
            raise Stop("enough")

    with pytest.raises(Stop):
        call(kept(store, model), model, windows, stop)
    seen = passed(model)
    call(kept(store, model), model, windows)
    assert sum(seen) <= len(windows) - 12 + 2  # two of a clip that was begun


def test_progress_counts_windows_including_stored_ones(store, model, windows, monkeypatch):
    monkeypatch.setattr("mer.training.embeddings.pass_size", lambda device: 8)
    seen = []
    first = WindowSet([windows.images(np.arange(1))], [0], classes=2, hashes=windows.hashes[:1])
    call(kept(store, model), model, first)
    call(kept(store, model), model, windows, lambda *step: seen.append(step))
    assert seen == [(1 + 8, 19), (1 + 16, 19), (19, 19)]
    seen.clear()
    call(kept(store, model), model, windows, lambda *step: seen.append(step))
    assert seen == []


def test_a_run_that_waits_for_another_can_be_stopped(store, model, windows):
    work = kept(store, model)
    asked = []

    def stop(done, total):
        asked.append((done, total))
        raise Stop("on request")

    with store.lock(f"embeddings-{work.shelf.folder.name}"), pytest.raises(Stop):
        call(work, model, windows, stop)
    assert asked == [(0, 19)]


def test_embeddings_of_another_run_are_not_computed_again(store, model, windows, passed, monkeypatch):
    """The other run holds the lock, and is done by the time it is free."""
    seen, plain = passed(model), FeatureStore.alone

    def after_the_other(self, *arguments):
        monkeypatch.setattr(FeatureStore, "alone", plain)
        call(kept(store, model), model, windows)
        return plain(self, *arguments)

    monkeypatch.setattr(FeatureStore, "alone", after_the_other)
    call(kept(store, model), model, windows)
    assert sum(seen) == len(windows)


@pytest.mark.promise(
    "A clip's embedding does not depend on which other clips were computed with it.",
    measured="to the last bit",
)
def test_embeddings_of_a_clip_do_not_depend_on_other_clips(store, windows):
    """Whatever is missing, such as after a kill, is made anew to the same bits."""
    torch.manual_seed(0)
    config = run_helpers.tiny_config(freeze="head").train
    model = configured_classifier(config, classes=2).to(memory_format=torch.channels_last)
    work = kept(store, model)
    whole = call(work, model, windows)
    for missing in ([3], [0, 5, 9], [1, 2, 4, 6, 7, 8]):
        for clip in missing:
            work.shelf.path(windows.hashes[clip]).unlink()
        assert torch.equal(call(work, model, windows), whole)


def test_a_full_disk_is_a_storage_error(full_disk, model, windows):
    with pytest.raises(StorageError, match="No space left on device"):
        call(kept(FeatureStore(full_disk / "store"), model), model, windows)


# --- standardised window by window ------------------------------------------------------------------


def test_a_window_on_its_own_has_zero_mean_and_unit_variance():
    images = torch.from_numpy(np.random.default_rng(0).normal(-40, 7, (3, 16, 16)).astype(np.float16))
    found = Standardizer(per_window=True)(images)
    assert found.mean(dim=(1, 2)).abs().max() < 1e-5
    assert (found.var(dim=(1, 2), correction=0) - 1).abs().max() < 1e-5


def test_near_silence_is_not_amplified():
    images = torch.full((1, 16, 16), -80.0)
    images[0, 0, 0] = -79.9
    assert Standardizer(per_window=True)(images).abs().max() < 0.2


def test_a_card_with_standardised_windows_has_no_training_statistics():
    assert Standardizer(per_window=True).to_dict() == {"mean": 0.0, "std": 1.0}
    assert dataclasses.asdict(Standardizer(-35.0, 10.0))["per_window"] is False
