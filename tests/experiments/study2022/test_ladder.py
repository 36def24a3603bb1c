"""The ladder: which settings each rung changes, and what became of its runs."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.config.presets import preset
from mer.experiments.prepared import Spec
from mer.experiments.study2022.ladder import ASIDE, END, START, SWITCHES, climbed, ladders, rungs
from mer.metrics.scores import evaluate
from mer.runs.run import Run
from mer.utils.errors import ConfigError

HELD = {
    "seed": st.integers(0, 9),
    "epochs": st.integers(1, 9),
    "batch_size": st.sampled_from([8, 16]),
    "backbone": st.sampled_from(["resnet18", "alexnet"]),
    "weights": st.just("none"),
    "test": st.sampled_from([0.25, 0.3]),
    "n_mels": st.sampled_from([32, 64]),
    "standardize": st.just("window"),
    "freeze": st.just("head"),
    "dropout": st.sampled_from([0.0, 0.5]),
}
held_settings = given(held=st.fixed_dictionaries({}, optional=HELD))


def values(config):
    """Every setting as (section, name, value)."""
    return {(part, name, value) for part, row in config.to_dict().items() for name, value in row.items()}


def differing(first, second):
    return {name for _, name, _ in values(first) ^ values(second)}


def ladder(**held):
    """The rungs that are climbed, without the two beside them."""
    return [rung for rung in rungs(**held) if rung.key not in ASIDE]


def for_images(**held):
    """The rungs for a network of images."""
    return [rung for rung in ladder(**held) if rung.key != "music"]


def test_the_ladder_leads_from_what_was_released_to_the_default():
    found = ladder()
    assert differing(found[0].config, preset(START)) == {"group_by_song"}
    assert found[-2].config == preset(END, backbone="efficientnet_lite0")
    assert found[-1].config == preset(END)
    assert [rung.preset for rung in found] == [START] * (len(found) - 2) + [END] * 2


@held_settings
def test_each_rung_changes_the_settings_of_its_switch_and_no_others(held):
    named = {switch.key: set(switch.settings) for switch in SWITCHES}
    found = for_images(**held)
    for before, now in pairwise(found):
        changed = differing(before.config, now.config)
        assert changed
        assert not named[now.key] or changed <= named[now.key]


@held_settings
def test_held_settings_are_the_same_on_every_rung(held):
    for rung in rungs(**held):
        if rung.key == "music":
            continue
        assert all(
            (name, value) in {(n, v) for _, n, v in values(rung.config)} for name, value in held.items()
        )


@held_settings
def test_all_rungs_are_tested_on_the_same_clips_with_songs_apart(held):
    splits = {dataclasses.replace(rung.config.split, validation=0.0) for rung in ladder(**held)}
    assert len(splits) == 1
    assert splits.pop().group_by_song


def test_the_two_beside_the_ladder_differ_from_its_ends_by_the_grouping_alone():
    found = rungs()
    assert [rung.key for rung in found[-2:]] == list(ASIDE)
    assert found[-2].config == preset(START)
    assert differing(found[-1].config, preset(END, backbone="efficientnet_lite0")) == {"group_by_song"}


def test_a_switch_that_changes_nothing_is_left_out():
    keys = [rung.key for rung in rungs(standardize="window", sample_rate=16000, group_by_song=True)]
    assert not {"normalised", "rate", *ASIDE} & set(keys)
    assert START in keys


def test_every_switch_counts_where_nothing_is_held():
    assert [rung.key for rung in ladder()] == [START, *(switch.key for switch in SWITCHES), "music"]


@pytest.mark.parametrize("held", [{"n_mels": 64}, {"sample_rate": 22050}, {"standardize": "window"}])
def test_the_last_rung_is_left_out_if_its_networks_cannot_have_a_setting(held):
    assert [rung.key for rung in ladder(**held)][-1] == "recipe"


def test_the_last_rung_keeps_held_settings_but_its_own_networks():
    last = ladder(backbone="resnet18", weights="none", folds=5, seed=3)[-1]
    assert last.config == preset(END).updated(folds=5, seed=3)


def test_held_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ConfigError, match="outputs='imagenet' keeps the network's output layer"):
        rungs(head="gru")
    with pytest.raises(ConfigError, match="unknown setting 'epoch'"):
        rungs(epoch=1)


# What became of the runs


def run_of(key, *, number=0, status="finished", name="one", test="clips", **changes):
    """A run of a ladder, tested on what `test` names."""
    config = next(rung.config for rung in rungs() if rung.key == key).updated(**changes)
    spec = Spec("/data", config, ladder=name, rung=key).to_dict()
    tags = {"mer.test_hash": test, "mer.data_hash": "data"}
    return Run(f"{number:032}", key, status, 100.0 + number, 200.0, spec, {}, tags=tags)


def answers(wrong):
    """Predictions on ten clips of two classes, each its own song; those numbered in `wrong` are wrong."""
    rows = []
    for number in range(10):
        label = "ab"[number % 2]
        said = "ab"[(number + (number in wrong)) % 2]
        shares = {"a": 0.8, "b": 0.2} if said == "a" else {"a": 0.2, "b": 0.8}
        clip = {"clip": f"{number}", "song": None, "label": label, "predicted": said, "probabilities": shares}
        rows.append(clip)
    return rows


def scores_of(rows):
    truth = np.array(["ab".index(row["label"]) for row in rows])
    shares = np.array([list(row["probabilities"].values()) for row in rows])
    return evaluate(truth, shares, groups=[row["clip"] for row in rows], classes=("a", "b"))


def climb(runs, rows):
    """The steps of runs whose predictions are `rows`, by run id."""
    return climbed(runs, lambda run: scores_of(rows[run.id]), lambda run: rows[run.id])


def test_a_rung_is_compared_with_the_one_before_on_the_same_clips():
    runs = [run_of(START), run_of("outputs", number=1)]
    bottom, now = climb(runs, {runs[0].id: answers(range(5)), runs[1].id: answers([0])})
    assert bottom.comparison is None
    assert bottom.note == ""
    assert now.comparison.verdict.difference.value == pytest.approx(0.4)
    assert (now.comparison.only_first, now.comparison.only_second) == (0, 4)
    assert now.against == bottom.title
    assert now.changed == {"outputs": ("imagenet", "classes"), "dropout": (0.0, 0.5)}


def test_scores_on_other_test_clips_are_not_compared_and_this_is_said():
    runs = [run_of(START), run_of("released-shuffled", number=1, test="others")]
    _, aside = climb(runs, {run.id: answers([]) for run in runs})
    assert aside.aside
    assert aside.comparison is None
    assert aside.note == "other test clips"


def test_those_beside_the_ladder_are_held_against_their_twins():
    keys = [START, "outputs", "released-shuffled", "ours-shuffled"]
    runs = [run_of(key, number=number) for number, key in enumerate(keys)]
    steps = climb(runs, {run.id: answers([]) for run in runs})
    assert steps[2].against == steps[0].title
    assert steps[3].against == steps[1].title
    assert steps[2].changed == {"group_by_song": (True, False)}


@pytest.mark.parametrize("status", ["queued", "running", "failed", "stopped"])
def test_a_rung_above_one_that_has_no_scores_says_so(status):
    runs = [run_of(START, status=status), run_of("outputs", number=1)]
    bottom, now = climb(runs, {runs[1].id: answers([])})
    assert bottom.scores is None
    assert now.scores is not None
    assert now.note == f"the rung before is {status}"


def test_a_rung_that_this_version_does_not_know_is_shown_by_its_key():
    run = dataclasses.replace(run_of(START), spec=run_of(START).spec | {"rung": "of tomorrow"})
    (step,) = climb([run], {run.id: answers([])})
    assert (step.title, step.text) == ("of tomorrow", "")


def test_ladders_are_told_apart_and_stand_on_their_lowest_rung():
    first = [run_of(START, name="one"), run_of("outputs", number=1, name="one")]
    second = [run_of(START, number=2, name="two")]
    single = dataclasses.replace(run_of(START, number=3), spec=Spec("/data", preset(END)).to_dict())
    fold = dataclasses.replace(run_of("outputs", number=4), parent=first[1].id)
    found = ladders([fold, single, *second, *reversed(first)])
    assert found == {"two": second, "one": first}


def test_what_is_no_text_is_no_ladder():
    strange = dataclasses.replace(run_of(START), spec={"ladder": ["one"]})
    assert ladders([strange, dataclasses.replace(strange, spec={})]) == {}
