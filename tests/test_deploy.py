"""deploy/: what can be said of the containers without building them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")


def test_there_is_a_service_for_each_part():
    assert set(SERVICES) == {"postgres", "mlflow", "dashboard", "ray-head"}
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["ray-head"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_comes_from_a_pinned_image_and_says_whether_it_is_well(name):
    service = SERVICES[name]
    if "image" in service:
        assert re.fullmatch(r"\w+:\d+\.\d+(-\w+)?", service["image"])
    else:
        build = service["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]) == DEPLOY / "../deploy/Dockerfile"
        assert f" AS {build['target']}\n" in DOCKERFILE
    assert service["healthcheck"]["test"][0] == "CMD"
    assert all(service["healthcheck"][key] for key in ("interval", "timeout", "retries"))


@pytest.mark.parametrize("name", SERVICES)
def test_no_port_is_open_to_others(name):
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:"), port
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_is_root_or_may_become_it(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    if "image" in service:
        assert service["user"] not in ("root", "0")
    else:
        stage = stages()[service["build"]["target"]]
        assert re.findall(r"^USER (\w+)$", stage, re.M)[-1] == "mer"


def stages():
    """The lines of each stage by its name."""
    parts = re.split(r"^FROM \S+ AS (\w+)\n", DOCKERFILE, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_images_begin_with_a_pinned_python_that_mer_is_for():
    first, *others = re.findall(r"^FROM (\S+) AS \w+$", DOCKERFILE, re.M)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", first)
    assert set(others) <= set(stages())


def test_packages_come_from_the_requirements_alone():
    installed = re.findall(r"pip install (.+)", DOCKERFILE)
    for words in installed:
        named = re.sub(
            r"-r requirements(-\w+)?\.txt|\"\$\(grep '\^mlflow==' requirements\.txt\)\"", "", words
        )
        assert not named.strip(), words
    assert re.search(r"^mlflow==", (ROOT / "requirements.txt").read_text(), re.M)
    assert not re.search(r"https?://|index|find-links", DOCKERFILE)


def test_what_an_image_copies_is_there_and_not_kept_from_it():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    for words in re.findall(r"^COPY (.+)$", DOCKERFILE, re.M):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists() or source == "requirements-ray.txt", source
            assert any(Path(source).match(pattern) for pattern in allowed), source
    assert "!.streamlit" not in ignored  # where secrets.toml may lie


def test_secrets_come_from_the_environment_and_the_example_has_none():
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    example = (DEPLOY / ".env.example").read_text("utf-8")
    given = dict(re.findall(r"^([A-Z_]+)=(.*)$", example, re.M))
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) == set(given)
    assert given["POSTGRES_PASSWORD"] == given["RAY_AUTH_TOKEN"] == ""
    for name in ("POSTGRES_PASSWORD", "RAY_AUTH_TOKEN"):
        assert not re.search(rf"{name}:-[^}}]", text)  # no password that all know
    ignored = subprocess.run(["git", "check-ignore", "-q", "deploy/.env"], cwd=ROOT)
    assert ignored.returncode == 0


def test_the_server_is_started_with_options_that_it_has():
    """Asked of a process of its own, since importing MLflow's commands warns."""
    program, command, *words = SERVICES["mlflow"]["command"]
    code = (
        "import json; from mlflow.cli import cli\n"
        f"known = cli.commands[{command!r}].params\n"
        "print(json.dumps([[o for p in known for o in p.opts], [p.envvar for p in known]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    options, variables = json.loads(done.stdout.splitlines()[-1])
    assert program == "mlflow"
    assert {word for word in words if word.startswith("--")} <= set(options)
    own = {name for name in SERVICES["mlflow"]["environment"] if "JOB_EXECUTION" not in name}
    assert own <= set(variables)


def test_the_dashboard_is_started_with_settings_that_streamlit_has():
    from streamlit import config

    program, command, script, *words = SERVICES["dashboard"]["command"]
    assert (program, command) == ("streamlit", "run")
    assert (ROOT / script).exists()
    known = config.get_config_options()
    assert {word[2:] for word in words if word.startswith("--")} <= set(known)


def test_ray_is_started_with_options_that_it_has():
    scripts = pytest.importorskip("ray.scripts.scripts", reason="Ray is not installed")
    program, command, *words = SERVICES["ray-head"]["command"]
    assert program == "ray"
    options = {option for parameter in scripts.cli.commands[command].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    _, program, command, *_ = SERVICES["ray-head"]["healthcheck"]["test"]
    assert command in scripts.cli.commands


def test_all_services_of_mer_share_one_store_and_music_at_one_path():
    own = [
        service for service in SERVICES.values() if service.get("build", {}).get("target") in ("mer", "ray")
    ]
    assert len(own) == 2
    for service in own:
        assert service["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
        assert service["environment"]["MER_DATA_ROOTS"] == "/data"
        assert any(volume.endswith(":/data:ro") for volume in service["volumes"])
    allowed = SERVICES["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert "mlflow:5000" in allowed
    assert "*" not in allowed
