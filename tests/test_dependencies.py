"""Dependencies: known vulnerabilities fail, an audit that could not be made says so, licences are listed."""

import json
import re
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from tests import audit as audit_module
from tests import licences
from tests.audit import KNOWN, UNREACHABLE, Audit, audit, pinned
from tests.licences import HEADING, PAGE, ROOT, installed, licence, page, pins, rows, terms

# The audit


def advisory(package, name):
    """One of OSV's."""
    fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}
    affected = [{"package": {"name": package, "ecosystem": "PyPI"}, "ranges": [fixed]}]
    return {"id": name, "aliases": [f"CVE of {name}"], "summary": "bad", "affected": affected}


@pytest.fixture
def database(monkeypatch):
    """A stand-in for OSV's service: `known` says which advisories there are of name==version."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    known = {KNOWN: ["PYSEC-0"]}

    class Service(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = asked["package"]["name"]
            found = [advisory(name, one) for one in known.get(f"{name}=={asked['version']}", ())]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"vulns": found} if found else {}).encode())

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
    yield SimpleNamespace(
        known=known, service=("-s", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}")
    )
    server.shutdown()
    server.server_close()


@pytest.mark.promise(
    "A known vulnerability of an installed package fails CI.", measured="175 packages; 5 s a run"
)
def test_a_known_vulnerability_is_found_and_named_with_what_mends_it(database):
    """By the next service, where one cannot be reached."""
    database.known["numpy==1.0"] = ["PYSEC-1"]
    away = ("-s", "osv", "--osv-url", "http://127.0.0.1:9")
    found = audit(["numpy==1.0", "scipy==1.0"], (away, database.service))
    assert found.problems == ["numpy 1.0: PYSEC-1, mended in 9.9"]


def test_a_service_that_knows_of_no_vulnerability_at_all_passes_nothing(database):
    """A mirror of the index answers so, and pip-audit calls that a clean bill."""
    database.known.clear()
    assert audit(["numpy==1.0"], (database.service,)) is None


def test_a_service_that_takes_too_long_is_given_up(database, monkeypatch):
    monkeypatch.setattr(audit_module, "SECONDS", 0.01)
    assert audit(["numpy==1.0"], (database.service,)) is None


def test_a_service_that_falls_silent_after_the_first_question_passes_nothing(monkeypatch):
    answers = iter([{"dependencies": [{"name": "django", "vulns": ["known"]}]}, None])
    monkeypatch.setattr(audit_module, "ask", lambda *_: next(answers))
    assert audit(["numpy==1.0"]).problems == ["numpy==1.0: the database does not answer"]


ANSWER = {
    "dependencies": [
        {"name": "clean", "version": "1", "vulns": []},
        {
            "name": "bad",
            "version": "2",
            "vulns": [
                {"id": "PYSEC-1", "aliases": ["CVE-1", "GHSA-1"], "fix_versions": ["2.1", "3"]},
                {"id": "PYSEC-2", "aliases": [], "fix_versions": []},
            ],
        },
        {"name": "ours", "skip_reason": "Dependency not found on PyPI"},
    ],
    "fixes": [],
}


def test_an_answer_is_read_finding_by_finding():
    assert Audit.of(ANSWER, {}).problems == [
        "bad 2: PYSEC-1, mended in 2.1, 3",
        "bad 2: PYSEC-2, mended in no version yet",
        "ours: the database does not answer",
    ]


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1", "GHSA-1"])
def test_an_advisory_is_accepted_by_any_of_its_names(name):
    assert [line[:14] for line in Audit.of(ANSWER, {name: "why"}).found] == ["bad 2: PYSEC-2"]


def test_an_accepted_advisory_has_a_date_and_a_reason():
    for name, reason in audit_module.ACCEPTED.items():
        assert re.match(r"20\d\d-\d\d-\d\d: .{20,}", reason), name


def test_everything_that_the_requirements_install_is_asked_for():
    asked = pinned()
    for path in ROOT.glob("requirements*.txt"):
        assert {line.lower().replace("_", "-").split("==")[0] for line in pins(path)} <= {
            line.split("==")[0] for line in asked
        }
    assert not any(line.startswith("pip==") for line in asked)
    assert any(line.startswith("markupsafe==") for line in asked)  # that of jinja2, that of torch
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.!]+", line) for line in asked)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_vulnerability_is_known_of_what_is_installed():
    found = audit(pinned())
    if found is None:
        pytest.skip(UNREACHABLE)
    assert not found.problems, "\n".join(found.problems)


def test_no_address_of_a_package_index_is_in_the_repository():
    for path in [*ROOT.glob("*.t*"), *ROOT.glob(".ci/*")]:
        assert not re.search(r"index-url|find-links|--trusted-host|\[\[?tool\.uv", path.read_text("utf-8")), (
            path
        )


# Licences


CLASSIFIER = "License :: OSI Approved ::"


@pytest.fixture(scope="module")
def packages():
    return installed(ROOT / "requirements.txt")


def package(**about):
    """A distribution with this metadata; `Classifier` may be several."""
    return SimpleNamespace(metadata=Metadata({"Name": "some"} | about))


class Metadata(dict):
    def get_all(self, name, default):
        return self.get(name, default)


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        ({"License-Expression": "MIT", "License": "Apache-2.0"}, "MIT"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"License": "All of it\nin many lines", "Classifier": [f"{CLASSIFIER} MIT License"]}, "MIT"),
        (
            {"License": "Dual", "Classifier": [f"{CLASSIFIER} {n} License" for n in ("BSD", "MIT")]},
            "BSD OR MIT",
        ),
        ({"License": "Whatever you like"}, "Whatever you like"),
        ({"License-Expression": "GPL-3.0-only", "License": "MIT"}, "GPL-3.0-only"),
        ({}, "unknown"),
        ({"Name": "huey"}, "MIT"),
    ],
)
def test_the_licence_is_read_from_wherever_the_metadata_has_it(about, wanted):
    assert licence(package(**about)) == wanted


@pytest.mark.promise("Every installed package has a licence that mer may build on.", measured="150 packages")
def test_every_licence_is_one_that_we_may_build_on(packages):
    strange = {
        name: licence(one) for name, one in packages.items() if not terms(licence(one)) <= licences.KNOWN
    }
    assert not strange


def test_proprietary_packages_are_those_of_cuda_alone(packages):
    closed = {name for name, one in packages.items() if licence(one) == licences.NVIDIA}
    assert all(name.startswith(("cuda-", "nvidia-")) for name in closed)


def test_the_list_of_licences_is_that_of_what_is_installed(packages):
    """Packages that are not pinned may have another version here; the others must be as listed."""
    text = PAGE.read_text("utf-8")
    listed = {
        name: line
        for line in text.partition(HEADING)[2].splitlines()
        for name in re.findall(r"^\| ([a-z0-9-]+) \|", line)
    }
    found = dict(zip(packages, rows(packages), strict=True))
    same = [name for name in found if listed.get(name, "").split("|")[2:3] == found[name].split("|")[2:3]]
    assert {name: listed[name] for name in same} == {name: found[name] for name in same}
    if len(same) == len(found):
        assert text == page(packages, text)


def test_every_pinned_version_is_in_the_list_of_licences():
    text = PAGE.read_text("utf-8")
    for line in pins(ROOT / "requirements.txt"):
        name, version = line.lower().replace("_", "-").split("==")
        assert f"\n| {name} | {version} | " in text, "out of date: python -m tests.licences"
