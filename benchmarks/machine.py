"""The machine and the versions of a measurement."""

import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

import mer
from mer.utils.machine import cores

__all__ = ["circumstances"]

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "torchvision", "torchaudio", "librosa", "streamlit")


def _processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git(*words: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run(  # noqa: S603 - git, with words of our own
        [git, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _commit() -> str:
    """The commit, and whether the core differs from it."""
    commit = _git("rev-parse", "--short=10", "HEAD")
    if not commit:
        return "unknown"
    return f"{commit} with changes" if _git("status", "--porcelain", "mer", "pages", "benchmarks") else commit


def circumstances() -> dict[str, object]:
    """Machine, versions, commit and date (UTC), as plain data."""
    return {
        "machine": {
            "processor": _processor(),
            "cores": cores(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in PACKAGES}
        | {"mer": mer.__version__},
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
