"""Makes the weights in checkpoints/pretrained from the PyPI package musicnn 0.1.0.

    pip download --no-deps musicnn==0.1.0 -d wheel
    python -m benchmarks.musicnn_weights wheel/musicnn-0.1.0-*.whl

The package itself cannot be installed beside this project: it needs TensorFlow and numpy < 1.17. Only its
files are read; none of its code runs.
"""

import argparse
import ast
import sys
import zipfile
from collections.abc import Sequence
from hashlib import file_digest
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.tensorflow_checkpoint import read_variables
from mer.models.music_vgg import MusicVGG
from mer.models.musicnn import MusicNN
from mer.models.tensors import save_tensors
from mer.utils.errors import MerError, WeightsError
from mer.utils.files import atomic_path, write_atomic

__all__ = ["NETWORKS", "OUT", "WHEEL_SHA256", "convert", "filled", "variables"]

OUT = Path(__file__).parents[1] / "checkpoints" / "pretrained"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
MOST = 16 * 2**20  # bytes of a file in the wheel that is read; the largest has 9.5 MB
NOTICE = "musicnn-0.1.0.dist-info/LICENSE.md"
CITATION = "Pons and Serra, musicnn, 2019, arXiv:1909.06654"

# Our name -> network, corpus of its training, folder in the wheel.
NETWORKS = {
    "musicnn_msd": ("musicnn", "msd", "MSD_musicnn"),
    "musicnn_mtt": ("musicnn", "mtt", "MTT_musicnn"),
    "vgg_msd": ("vgg", "msd", "MSD_vgg"),
    "vgg_mtt": ("vgg", "mtt", "MTT_vgg"),
}
CORPORA = {"msd": "Million Song Dataset", "mtt": "MagnaTagATune"}

README = """# Networks that were trained on music

Four convolutional networks that tell which of 50 tags fit a piece of music. Their weights are those of the
PyPI package `musicnn` 0.1.0 (SHA-256 of the wheel: `{wheel}`),
with every value unchanged.

| file | network | trained on | parameters | SHA-256 |
|---|---|---|---|---|
{rows}

Each file is safetensors, float32. Its note holds the network, the corpus and the tags in the order of the
logits. The networks are in `mer/models/musicnn.py` and `mer/models/music_vgg.py`, the settings of their input
in `mer/config/inputs.py`.

Source: Jordi Pons and Xavier Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", 2019, arXiv:1909.06654.

To make them again:

    pip download --no-deps musicnn==0.1.0 -d wheel
    python -m benchmarks.musicnn_weights wheel/musicnn-0.1.0-*.whl

## Licence of the weights

ISC:

{notice}
"""


def layers_of(family: str, corpus: str) -> tuple[nn.Module, dict[str, nn.Module]]:
    """A network with random weights, and its layers by TensorFlow's names."""
    if family == "musicnn":
        net: nn.Module = MusicNN()
        branches = [*net.front.timbral, *net.front.temporal, *net.middle.layers]
        convolutions = {_numbered("conv2d", i): branch[1] for i, branch in enumerate(branches)}
        norms = [net.front.norm, *(branch[3] for branch in branches), net.back[1], net.back[5]]
        dense = [net.back[3], net.back[7]]
    else:
        net = MusicVGG(corpus)
        blocks = [net.block1, net.block2, net.block3, net.block4, net.block5]
        convolutions = {f"{i}CNN": block[0] for i, block in enumerate(blocks, 1)}
        norms, dense = [net.norm, *(block[2] for block in blocks)], [net.output[1]]
    layers = convolutions | {_numbered("batch_normalization", i): norm for i, norm in enumerate(norms)}
    return net, layers | {_numbered("dense", i): layer for i, layer in enumerate(dense)}


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def tensor_suffixes(layer: nn.Module) -> dict[str, str]:
    """TensorFlow's names of a layer's variables -> torch's."""
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        statistics = {"moving_mean": "running_mean", "moving_variance": "running_var"}
        return {"gamma": "weight", "beta": "bias"} | statistics
    return {"kernel": "weight", "bias": "bias"}


def variables(family: str, corpus: str) -> list[str]:
    """Names of TensorFlow's variables that a network needs; those of the optimizer are left out."""
    layers = layers_of(family, corpus)[1]
    return [f"{name}/{suffix}" for name, layer in layers.items() for suffix in tensor_suffixes(layer)]


def filled(family: str, corpus: str, values: dict[str, np.ndarray]) -> nn.Module:
    """A network with the values of TensorFlow's variables.

    Kernels of convolutions are (time, bands, in, out) there and (out, in, bands, time) here. Those of the
    middle of musicnn have the channels in the place of the bands.

    Raises
    ------
    WeightsError
        If a variable has another shape.
    """
    net, layers = layers_of(family, corpus)
    for name, layer in layers.items():
        for theirs, ours in tensor_suffixes(layer).items():
            target, value = getattr(layer, ours), torch.from_numpy(values[f"{name}/{theirs}"])
            if value.ndim == 4 and value.shape[1:3] == (target.shape[1], 1):
                value = value.transpose(1, 2)
            value = value.permute(*reversed(range(value.ndim)))
            if value.shape != target.shape:
                raise WeightsError(
                    f"{name}/{theirs} has the shape {tuple(value.shape)}, not {tuple(target.shape)}; "
                    "give a checkpoint of this network"
                )
            target.data.copy_(value)
    return net


def _read(wheel: zipfile.ZipFile, name: str) -> bytes:
    """A file of the wheel. Raises WeightsError if it is missing or over 16 MB."""
    try:
        if wheel.getinfo(name).file_size > MOST:
            raise WeightsError(f"{name} has over {MOST} bytes; fetch the wheel again")
        return wheel.read(name)
    except (KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"the wheel has no usable {name}; fetch it again") from error


def _tags(source: str) -> dict[str, list[str]]:
    """The tags of each corpus, from the literals in the package's configuration."""
    found = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return {corpus: found[f"{corpus.upper()}_LABELS"] for corpus in CORPORA}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def convert(wheel: Path, out: Path = OUT) -> list[Path]:
    """Write the four files of weights and their README.

    Parameters
    ----------
    wheel
        The wheel of musicnn 0.1.0.
    out
        Folder for the files.

    Returns
    -------
    list of Path
        The files of weights.

    Raises
    ------
    WeightsError
        If it is another wheel.
    """
    if not wheel.is_file() or _sha256(wheel) != WHEEL_SHA256:
        raise WeightsError(
            f"{wheel} is not the wheel of musicnn 0.1.0 (SHA-256 {WHEEL_SHA256}); "
            "run: pip download --no-deps musicnn==0.1.0"
        )
    out.mkdir(parents=True, exist_ok=True)
    paths, rows = [], []
    with zipfile.ZipFile(wheel) as files:
        tags = _tags(_read(files, "musicnn/configuration.py").decode())
        for name, (family, corpus, folder) in NETWORKS.items():
            ends = (".index", ".data-00000-of-00001")
            index, data = (_read(files, f"musicnn/{folder}/{end}") for end in ends)
            values = read_variables(index, data, variables(family, corpus), f"{folder}/.index")
            net, path = filled(family, corpus, values), out / f"{name}.safetensors"
            note = {"network": family, "corpus": CORPORA[corpus], "tags": tags[corpus], "source": CITATION}
            with atomic_path(path) as temporary:
                save_tensors(temporary, net.state_dict(), note)
            count = sum(parameter.numel() for parameter in net.parameters())
            rows.append(f"| `{path.name}` | {family} | {CORPORA[corpus]} | {count:,} | `{_sha256(path)}` |")
            paths.append(path)
        notice = _read(files, NOTICE).decode().strip()
    text = README.format(wheel=WHEEL_SHA256, rows="\n".join(rows), notice=notice)
    write_atomic(out / "README.md", text)
    return paths


def main(words: Sequence[str] | None = None) -> int:
    """Convert the wheel that the command line names; the exit status is 1 on an error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, metavar="WHEEL")
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="DIR", help="default: checkpoints/pretrained"
    )
    options = parser.parse_args(words)
    try:
        paths = convert(options.wheel, options.out)
    except MerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.writelines(f"{path}\n" for path in paths)
    return 0


if __name__ == "__main__":
    sys.exit(main())
