"""Tags of a clip by the networks that were trained to tag music."""

import numpy as np
import pytest
import torch

from mer.audio.mel import log_mel
from mer.inference.tags import FRAMES, INPUT, NETWORKS, RATE, TAGS, tags_of
from mer.models.zoo import get_network
from mer.utils.errors import AudioError

pytestmark = pytest.mark.usefixtures("single_threaded")


@pytest.mark.parametrize("name", NETWORKS)
def test_there_are_fifty_different_tags(name):
    assert len(set(TAGS[name])) == 50


@pytest.mark.parametrize("name", NETWORKS)
def test_each_tag_has_a_probability_and_the_most_probable_is_first(name, sound):
    found = tags_of(sound.chord(seconds=4.0), name)
    assert set(found) == set(TAGS[name])
    assert all(0 <= value <= 1 for value in found.values())
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_the_tags_of_a_long_clip_are_the_mean_over_parts_of_three_seconds(sound):
    clip = np.concatenate([sound.chord(seconds=3.5), sound.noise(seconds=3.5)])
    level = log_mel(clip, sample_rate=RATE, config=INPUT.mel)
    entry = get_network("musicnn_mtt")
    network = entry.build()
    entry.source.into(network)
    with torch.no_grad():
        parts = [network.eval()(level[None, None, :, at : at + FRAMES]) for at in (0, FRAMES)]
    wanted = torch.stack([part[0].sigmoid() for part in parts]).mean(dim=0)
    found = tags_of(clip, "musicnn_mtt")
    assert [found[tag] for tag in TAGS["musicnn_mtt"]] == pytest.approx(wanted.tolist(), abs=1e-5)


def test_a_short_clip_is_padded_with_silence(sound):
    tone = sound.tone(seconds=1.0)
    padded = np.concatenate([tone, sound.silence(seconds=2.0)])
    found, wanted = tags_of(tone, "musicnn_msd"), tags_of(padded, "musicnn_msd")
    assert {tag: found[tag] for tag in wanted} == pytest.approx(wanted, abs=1e-6)


def test_an_empty_waveform_is_refused():
    with pytest.raises(AudioError):
        tags_of(np.zeros(0, np.float32), "musicnn_msd")
