"""The row about one clip: a file in, probabilities out."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import librosa
import torch

from benchmarks import baseline, limits
from benchmarks.rows import Bench, Measured
from benchmarks.sample import generate
from benchmarks.timing import alternate, seconds
from mer.inference.predictor import Predictor

__all__ = ["predict"]

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "demo_mobilenet_v3_small"
FILES = 10
AT_A_TIME = 5  # predictions in a row; if they alternated one by one, each would wait for the other's threads


def predict(bench: Bench) -> Measured:
    """Predictions of generated files by a loaded model, a different file each time."""
    paths = generate(bench.folder("files"), FILES).paths
    predictor = Predictor(CHECKPOINT, device="cpu")
    net = limits.network(predictor.card.config.train.backbone)

    def theirs(path: Path) -> None:
        wave, _ = librosa.load(path)
        with torch.no_grad():
            net(baseline.picture(wave)[None]).softmax(1)

    def each(work: Callable[[Path], object], number: int) -> float:
        """Seconds per file, for some in a row."""
        some = [paths[(number + offset) % FILES] for offset in range(AT_A_TIME)]
        return seconds(lambda: [work(path) for path in some]) / AT_A_TIME

    times = alternate(partial(each, predictor.predict), partial(each, theirs), times=FILES, first=2)
    own = limits.steps(paths[0], predictor.card.config)
    own["forward"] = limits.forward(net)
    return Measured(*(1000 * median for median in times.medians), [limits.words("ours", own)])
