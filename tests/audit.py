"""Looks for known vulnerabilities of installed packages with pip-audit; `python -m tests.audit`.

A missing service, or a mirror that knows no vulnerability, must not look like a clean result. So each service
is first asked for a version with a known vulnerability. If none finds that one, the audit is skipped, and
says so.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.version import Version

from tests.licences import ROOT, installed

KNOWN = "django==2.0"  # CVE-2018-6188, fixed in 2.0.2
SERVICES = (("-s", "pypi"), ("-s", "osv"))
SECONDS = 240  # for all packages together; one answer may take 5 s
UNREACHABLE = "skipped: the vulnerability database cannot be reached"

# Accepted advisories: id -> date, the reason why it does not concern mer, and when to look again.
ACCEPTED: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Audit:
    """pip-audit's result: `found` lists "package version: id, mended in ...", `unanswered` package names."""

    found: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()

    @property
    def problems(self) -> list[str]:
        """One line for each finding and each unanswered package."""
        return [*self.found, *(f"{name}: the database does not answer" for name in self.unanswered)]

    @classmethod
    def of(cls, answer: dict[str, Any], accepted: dict[str, str]) -> "Audit":
        """Read pip-audit's JSON, without advisories that are accepted by id or alias."""
        packages = answer["dependencies"]
        found = [
            f"{package['name']} {package['version']}: {one['id']}, "
            f"mended in {', '.join(one['fix_versions']) or 'no version yet'}"
            for package in packages
            for one in package.get("vulns", ())
            if not {one["id"], *one["aliases"]} & accepted.keys()
        ]
        return cls(tuple(found), tuple(one["name"] for one in packages if "skip_reason" in one))


def pinned() -> list[str]:
    """List name==version of all packages that the requirements install, without build tags.

    pip itself is left out: it is not installed by the requirements.
    """
    packages = installed(*ROOT.glob("requirements*.txt"))
    versions = {name: Version(package.version).public for name, package in packages.items()}
    return [f"{name}=={version}" for name, version in versions.items() if name != "pip"]


def ask(packages: list[str], service: tuple[str, ...]) -> dict[str, Any] | None:
    """Run pip-audit on these packages; returns its JSON, or None if the service does not answer."""
    with TemporaryDirectory() as place:
        wanted, answer = Path(place, "wanted.txt"), Path(place, "answer.json")
        wanted.write_text("\n".join(packages))
        what = ["-r", wanted, "--no-deps", "--disable-pip", "--cache-dir", place, "--timeout", "5", *service]
        how = ["--format", "json", "--output", answer, "--progress-spinner", "off"]
        try:
            command = [sys.executable, "-m", "pip_audit", *what, *how]
            subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
            return json.loads(answer.read_text())
        except (subprocess.TimeoutExpired, OSError, ValueError):
            return None


def audit(packages: list[str], services: tuple[tuple[str, ...], ...] = SERVICES) -> Audit | None:
    """Ask the first service that finds the known vulnerability; None if no service does.

    If that service then stops answering, all packages count as unanswered.
    """
    for service in services:
        control = ask([KNOWN], service)
        if control and any(one.get("vulns") for one in control["dependencies"]):
            answer = ask(packages, service)
            return Audit.of(answer, ACCEPTED) if answer else Audit(unanswered=tuple(packages))
    return None


def main() -> int:
    """Print the findings; the exit status is 1 if there are any."""
    answer = audit(pinned())
    if answer is None:
        print(UNREACHABLE)  # noqa: T201
        return 0
    print("\n".join(answer.problems) or "no known vulnerability")  # noqa: T201
    return 1 if answer.problems else 0


if __name__ == "__main__":
    sys.exit(main())
