"""The published weights of the networks that were trained on AudioSet: Zenodo record 3987831, CC BY 4.0.

A file holds the state of training beside the network's tensors: numpy arrays, which are not read, and the
constants of the spectrogram, which is computed by `mer.audio.mel`.
"""

from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from threading import Lock
from urllib.parse import quote

import torch
from torch import nn

from mer.models.panns import own_tensors
from mer.models.weights import StateDict, device_of, downloading, fill, load_weights_file
from mer.utils.errors import WeightsError
from mer.utils.files import atomic_path

__all__ = ["AudioSetWeights", "panns_tensors"]

RECORD = "https://zenodo.org/records/3987831/files/"
FRONT_END = (
    "spectrogram_extractor.stft.conv_real.weight",
    "spectrogram_extractor.stft.conv_imag.weight",
    "logmel_extractor.melW",
)


class _Ignored:
    """Takes the place of numpy's arrays, types and numbers in a file, and keeps nothing of them."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# No function of numpy is called: these names stand for the class above. numpy renamed core to _core.
IGNORED = [
    (_Ignored, name)
    for name in (
        "numpy.ndarray",
        "numpy.dtype",
        *(
            f"numpy.{core}.multiarray.{function}"
            for core in ("core", "_core")
            for function in ("_reconstruct", "scalar")
        ),
    )
]

_ONE_AT_A_TIME = Lock()  # torch has one list of allowed names for all threads


@dataclass(frozen=True, slots=True)
class AudioSetWeights:
    """The weights of one network, in torch's cache.

    Parameters
    ----------
    model
        Name in the zoo.
    file
        Name of the file, on Zenodo and in the cache.
    parameters
        Number of parameters of the network.
    sums
        Checksums of the file, in hexadecimal digits, by algorithm: (("md5", digits),).
    title
        Where the weights come from.
    """

    model: str
    file: str
    parameters: int
    sums: tuple[tuple[str, str], ...]
    title: str = "Zenodo"

    @property
    def url(self) -> str:
        """Address of the file."""
        return f"{RECORD}{quote(self.file)}?download=1"

    def path(self) -> Path:
        """The file in torch's cache."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.file

    def available(self) -> bool:
        """True if the file is in the cache, so that loading it needs no network."""
        return self.path().is_file()

    def state_dict(self, device: torch.device | str = "cpu") -> StateDict:
        """Tensors by the names of `PANN`, downloaded if they are not in the cache.

        Raises
        ------
        WeightsError
            If they cannot be downloaded, or the file is damaged.
        """
        if self.available():
            self.verify()
        else:
            self._download()
        return panns_tensors(self.path(), device)

    def into(self, model: nn.Module) -> None:
        """Copy the weights into the network."""
        fill(model, self.state_dict(device_of(model)), str(self.path()))

    def verify(self) -> None:
        """Raise WeightsError unless the file has the published checksums."""
        self._require_sums(self.path(), str(self.path()), "delete it and fetch it again")

    def _require_sums(self, path: Path, name: str, remedy: str) -> None:
        for algorithm, wanted in self.sums:
            with path.open("rb") as file:
                found = file_digest(file, algorithm).hexdigest()
            if found != wanted:
                raise WeightsError(
                    f"{name}: {algorithm.upper()} is {found}, not {wanted}; the file is damaged: {remedy}"
                )

    def _download(self) -> None:
        """Download the file. It gets its name after its checksum was compared."""
        with atomic_path(self.path()) as temporary:
            with downloading(f"AudioSet weights of {self.model}", self.model, self.url, self.path()):
                torch.hub.download_url_to_file(self.url, str(temporary))
            self._require_sums(temporary, f"the download of {self.file}", "fetch it again")


def panns_tensors(path: Path, device: torch.device | str = "cpu") -> StateDict:
    """Tensors by the names of `PANN`, from a published file or a plain state dict.

    Raises
    ------
    WeightsError
        If the file cannot be read without unpickling objects, or holds no named tensors.
    """
    with _ONE_AT_A_TIME, torch.serialization.safe_globals(IGNORED):
        tensors = load_weights_file(path, device, inside="model")
    return own_tensors({name: tensor for name, tensor in tensors.items() if name not in FRONT_END})
