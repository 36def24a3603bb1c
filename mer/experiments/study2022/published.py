"""Results of the 2022 study on MER500: six confusion matrices, and how its code differs from its report.

Needs no torch.
"""

from dataclasses import dataclass

from mer.metrics.verdict import against, exact_share

__all__ = ["CLASSES", "DEVIATIONS", "RESULTS", "SOURCE", "TEST_CLIPS", "PublishedResult", "majority"]

CLASSES = ("Sad", "Romantic", "Devotional", "Party", "Happy")
TEST_CLIPS = 98
SOURCE = (
    "D. Jagetiya, H. Singh and K. Gupta, Hindi Music Emotion Recognition (2022): Table 1 of the report "
    "(EfficientNet-B0, AlexNet, ResNet-18) and the authors' public notebook, Main.ipynb in GitHub "
    "kwanit1142/Hindi-Music-Based-Induced-Emotion-Classification (VGG-16, MobileNetV3-Small, DenseNet-121)."
)


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """Published result of one network on the 98 test clips.

    Parameters
    ----------
    name
        Name of the network in the zoo.
    confusion
        Counts of clips. One row for each true class, in the order of CLASSES. The first five columns are the
        same classes; up to three further columns are ImageNet classes, since the network kept its 1000
        outputs.

    References
    ----------
    See `SOURCE`.
    """

    name: str
    confusion: tuple[tuple[int, ...], ...]

    @property
    def accuracy(self) -> float:
        """Share of test clips that were classified correctly, 0 to 1."""
        return self.right / TEST_CLIPS

    @property
    def right(self) -> int:
        """Number of test clips that were classified correctly."""
        return sum(row[k] for k, row in enumerate(self.confusion))

    @property
    def columns(self) -> list[str]:
        """Titles of the columns of `confusion`."""
        width = len(self.confusion[0])
        return [*CLASSES, *(f"ImageNet {number}" for number in range(len(CLASSES), width))]

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95% interval of the accuracy (Clopper and Pearson, 1934), as if clips were independent.

        The study did not keep songs apart, so the true interval may be wider.
        """
        return exact_share(self.right, TEST_CLIPS)[1:]

    @property
    def above_majority(self) -> bool:
        """True if it scores above the largest class, by the exact binomial test."""
        return against(self.right, TEST_CLIPS, majority()).higher

    @property
    def outside(self) -> int:
        """Number of clips that were given none of the five classes."""
        return sum(sum(row[len(CLASSES) :]) for row in self.confusion)


# Best first.
RESULTS: tuple[PublishedResult, ...] = (
    PublishedResult(
        "mobilenet_v3_small",
        ((14, 5, 6, 1, 1), (3, 6, 5, 2, 0), (1, 5, 7, 2, 1), (2, 3, 1, 8, 1), (1, 5, 3, 12, 3)),
    ),
    PublishedResult(
        "alexnet",
        ((10, 5, 10, 0, 2), (3, 3, 6, 0, 4), (0, 1, 11, 0, 4), (1, 1, 6, 2, 5), (1, 2, 11, 0, 10)),
    ),
    PublishedResult(
        "efficientnet_b0",
        (
            (8, 10, 2, 3, 4, 0, 0, 0),
            (3, 2, 4, 2, 4, 1, 0, 0),
            (4, 0, 8, 1, 1, 0, 1, 1),
            (3, 4, 1, 4, 3, 0, 0, 0),
            (0, 3, 2, 14, 5, 0, 0, 0),
        ),
    ),
    PublishedResult(
        "vgg16",
        (
            (13, 5, 2, 1, 6, 0, 0),
            (11, 1, 2, 0, 2, 0, 0),
            (6, 4, 3, 0, 0, 2, 1),
            (7, 0, 3, 2, 3, 0, 0),
            (8, 3, 4, 3, 6, 0, 0),
        ),
    ),
    PublishedResult(
        "densenet121",
        ((9, 3, 2, 2, 11), (4, 2, 4, 2, 4), (4, 2, 5, 3, 2), (1, 5, 2, 3, 4), (4, 7, 7, 3, 3)),
    ),
    PublishedResult(
        "resnet18",
        ((5, 7, 5, 4, 6), (4, 2, 4, 1, 5), (4, 5, 1, 2, 4), (4, 3, 1, 4, 3), (6, 7, 3, 6, 2)),
    ),
)

# Topic, what the report says, what the released code did.
DEVIATIONS: tuple[tuple[str, str, str], ...] = (
    ("sample rate", "16 kHz", "22.05 kHz, as its audio loader does unless told otherwise"),
    (
        "length of a clip",
        "short clips padded, then windows that slide",
        "the first 5.2 s (224 frames of 512 samples) of 10 to 22 s; the rest was not used",
    ),
    (
        "spectrogram",
        "mel",
        "224 mel bands up to 8 kHz, FFT of 2048, hop 512, in dB below the clip's peak, as 224 x 224 pixels",
    ),
    ("normalisation", "zero mean, unit variance", "none: its statistics were set to mean 0 and deviation 1"),
    ("loss", "binary cross-entropy", "cross-entropy"),
    (
        "output layer",
        "five classes",
        "ImageNet's 1000, so some clips were given a sixth or higher output",
    ),
    ("what was trained", "the network, fine-tuned", "the linear layers at its end alone"),
    (
        "testing",
        "not described",
        "in training mode: dropout stayed on, and batch-norm used statistics of the test batch",
    ),
    ("split", "80-20", "80-20 by one shuffle: no validation part, and songs not kept apart"),
)


def majority() -> float:
    """Accuracy of always answering with the largest test class, Sad; 0 to 1."""
    return max(sum(row) for row in RESULTS[0].confusion) / TEST_CLIPS
