"""Tags of a clip, from networks that were trained to tag music. They describe a clip in words of music.

The names of the tags are those of the package musicnn 0.1.0 (Pons and Serra, 2019), in the order of the
networks' outputs. The networks were trained on 3 s of music, so a clip is divided into parts of 3 s, and the
probabilities of its parts are averaged, as in that package.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import nn

from mer.audio.mel import log_mel
from mer.audio.waveforms import as_samples
from mer.config.sections import Config
from mer.models.zoo import get_network

__all__ = ["INPUT", "NETWORKS", "RATE", "TAGS", "tags_of"]

TAGS = {
    "musicnn_mtt": [
        "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano",
        "ambient", "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing",
        "vocals", "no vocals", "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal",
        "pop", "soft", "sitar", "solo", "man", "classic", "choir", "voice", "new age", "dance",
        "male voice", "female vocal", "beats", "harp", "cello", "no voice", "weird", "country", "metal",
        "female voice", "choral",
    ],
    "musicnn_msd": [
        "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s",
        "alternative rock", "jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock",
        "soul", "indie rock", "Mellow", "electronica", "80s", "folk", "90s", "chill", "instrumental",
        "punk", "oldies", "blues", "hard rock", "ambient", "acoustic", "experimental", "female vocalist",
        "guitar", "Hip-Hop", "70s", "party", "country", "easy listening", "sexy", "catchy", "funk",
        "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad", "House", "happy",
    ],
}  # fmt: skip
NETWORKS = {"musicnn_mtt": "MagnaTagATune", "musicnn_msd": "Million Song Dataset"}
SECONDS, FRAMES = 3, 187  # of a part
INPUT = Config().updated(backbone="musicnn_mtt")
RATE = INPUT.audio.sample_rate


@lru_cache(maxsize=2)
def _network(name: str) -> nn.Module:
    entry = get_network(name)
    network = entry.build()
    entry.source.into(network)
    return network.eval()


def tags_of(waveform: np.ndarray, name: str) -> dict[str, float]:
    """Probability of each tag, the most probable first.

    Tags do not exclude each other, so the probabilities do not sum to 1.

    Parameters
    ----------
    waveform
        Samples at `RATE`, 16 kHz; see `mer.audio.waveforms.as_samples`. A clip of less than 3 s is padded
        with silence. The rest after the last whole 3 s is ignored.
    name
        One of `NETWORKS`.

    Raises
    ------
    AudioError
        If the waveform cannot be used.
    WeightsError
        If the network's weights are not on this machine.
    """
    samples = as_samples(waveform)
    padded = np.pad(samples, (0, max(0, RATE * SECONDS - len(samples))))
    level = log_mel(padded, sample_rate=RATE, config=INPUT.mel, checked=True)
    parts = level.unfold(1, FRAMES, FRAMES).transpose(0, 1)[:, None]
    network = _network(name)
    with torch.inference_mode():
        found = torch.cat([network(part).sigmoid() for part in parts.split(16)]).mean(dim=0)
    tags = dict(zip(TAGS[name], found.tolist(), strict=True))
    return dict(sorted(tags.items(), key=lambda tag: -tag[1]))
