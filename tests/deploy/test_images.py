"""The Dockerfiles and the compose file, as far as that can be known without a container engine."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bgclient.web.settings import Settings

EXTRAS = {"cpu": ("server", "web"), "gpu": ("web", "export")}
DOCKERFILES = {"cpu": "Dockerfile.cpu", "gpu": "Dockerfile"}


@pytest.fixture(params=["cpu", "gpu"])
def kind(request):
    return request.param


@pytest.fixture
def dockerfile(deploy, kind):
    return (deploy / DOCKERFILES[kind]).read_text()


@pytest.fixture(scope="module")
def compose(deploy):
    return yaml.safe_load((deploy / "compose.yaml").read_text())


def tool(name, extra="deploy"):
    """A program of the running environment or of this machine."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"needs {name} (extra {extra})")
    return found


def instructions(dockerfile):
    joined = re.sub(r"\\\n\s*", " ", "\n".join(x for x in dockerfile.splitlines() if not x.startswith("#")))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def test_hadolint_finds_nothing(dockerfile):
    said = subprocess.run(
        [tool("hadolint"), "-"], input=dockerfile, capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout) == (0, "")


def test_hadolint_would_find_something(dockerfile):
    worse = dockerfile.replace("USER 1000:1000", "USER root") + "RUN cd /tmp && sudo apt-get install curl\n"
    assert (
        subprocess.run(
            [tool("hadolint"), "-"], input=worse, capture_output=True, text=True, check=False
        ).returncode
        == 1
    )


def test_every_yaml_file_is_tidy(deploy):
    said = subprocess.run(
        [tool("yamllint"), "--strict", "--config-file", deploy / ".yamllint.yaml", deploy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout


def test_the_shell_scripts_are_valid_posix_shell(deploy):
    scripts = [deploy / "lock", deploy / "sbom", *(deploy / "image").iterdir()]
    assert len(scripts) == 5
    for script in scripts:
        assert script.read_text().startswith("#!/bin/sh\n")
        assert script.stat().st_mode & 0o111
        assert subprocess.run(["sh", "-n", script], check=False).returncode == 0


def test_an_image_runs_as_nobody_in_particular_and_probes_itself_with_a_photo(dockerfile):
    last_stage = instructions(dockerfile[dockerfile.rindex("\nFROM ") :])
    assert ("USER", "1000:1000") in last_stage
    assert ("ENTRYPOINT", '["entrypoint"]') in last_stage
    (health,) = [rest for name, rest in last_stage if name == "HEALTHCHECK"]
    assert health.endswith('CMD ["health"]')
    timeout_s = int(re.search(r"--timeout=(\d+)s", health)[1])
    assert timeout_s > 20  # the canary's own limit must be the one that speaks


def test_an_image_copies_only_what_is_there_and_what_the_ignore_file_lets_in(dockerfile, deploy, root, kind):
    sources = [
        source
        for name, rest in instructions(dockerfile)
        if name == "COPY" and "--from" not in rest
        for source in [part for part in rest.split() if not part.startswith("--")][:-1]
    ]
    ignore = (deploy / f"{DOCKERFILES[kind]}.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignore if line.startswith("!")]
    assert ignore[1] == "*"
    for source in sources:
        assert (root / source).exists(), source
        assert any(Path(source).match(a) or Path(source).is_relative_to(a) for a in allowed), source


def test_an_image_holds_every_package_that_the_wheel_is_made_of(dockerfile, root):
    packages = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    copied = [rest.split()[0] for name, rest in instructions(dockerfile) if name == "COPY"]
    for path in [*packages["packages"], *packages["force-include"]]:
        assert any(Path(path).is_relative_to(c) for c in copied), path


def test_bases_are_named_by_an_argument_so_that_a_release_can_pin_a_digest(dockerfile):
    (argument,) = [rest for name, rest in instructions(dockerfile) if name == "ARG"]
    name, base = argument.split("=")
    assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", base), "a tag with a version in it"
    assert {rest.split()[0] for what, rest in instructions(dockerfile) if what == "FROM"} == {f"${{{name}}}"}


def test_what_is_installed_is_pinned_by_hash_and_is_what_the_product_asks_for(deploy, root, kind):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    text = (deploy / f"requirements-{kind}.txt").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", text, re.MULTILINE))
    assert len(re.findall(r"^    --hash=sha256:", text, re.MULTILINE)) >= len(pinned)
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    wanted = [
        *project["dependencies"],
        *(d for e in EXTRAS[kind] for d in project["optional-dependencies"][e]),
    ]
    for requirement in map(Requirement, wanted):
        if requirement.marker is None or requirement.marker.evaluate({"python_version": "3.12"}):
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{requirement.name} is missing; run deploy/lock"
            assert requirement.specifier.contains(version), f"{requirement} but {version}; run deploy/lock"
    assert "torch" not in pinned
    assert "://" not in text


def test_the_compose_file_follows_the_compose_specification(deploy):
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", deploy / "compose.yaml"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


def test_the_compose_file_lets_nobody_in_from_outside_and_nothing_write(compose):
    for name, service in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_no_service_of_the_compose_file_can_take_the_whole_machine_unless_it_is_triton_or_the_front(compose):
    for name, service in compose["services"].items():
        assert service["pids_limit"] <= 1024
        limits = {"triton-cpu": "${TRITON_MEMORY:-6g}", "triton-gpu": "${TRITON_MEMORY:-16g}"}
        assert service["mem_limit"] == limits.get(name, "4g" if name.startswith("web") else "1g")
        cpus = {"triton": "${TRITON_CPUS:-0}", "web": "${WEB_CPUS:-0}"}.get(name.partition("-")[0], 1)
        assert service["cpus"] == cpus


def test_each_profile_of_the_compose_file_is_whole(compose, deploy):
    for kind in ("cpu", "gpu"):
        services = {name: s for name, s in compose["services"].items() if kind in s["profiles"]}
        assert services.keys() == {f"triton-{kind}", f"web-{kind}", "prometheus", "grafana"}
        triton, web = services[f"triton-{kind}"], services[f"web-{kind}"]
        assert triton["shm_size"] == "1gb"
        assert triton["build"]["dockerfile"] == f"deploy/{DOCKERFILES[kind]}"
        assert triton["image"] == web["image"]
        assert web["depends_on"] == {f"triton-{kind}": {"condition": "service_healthy"}}
        assert (
            int(triton["stop_grace_period"].removesuffix("s")) >= 10 + 15
        )  # drain, and what Server.stop adds
        assert int(web["stop_grace_period"].removesuffix("s")) > Settings().drain_s
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (deploy / source).exists(), source


def test_prometheus_scrapes_the_names_that_the_compose_file_gives(compose, deploy):
    config = yaml.safe_load((deploy / "monitoring/prometheus.yaml").read_text())
    targets = {t for job in config["scrape_configs"] for s in job["static_configs"] for t in s["targets"]}
    names = {
        alias
        for s in compose["services"].values()
        for alias in s.get("networks", {}).get("default", {}).get("aliases", [])
    }
    assert {target.split(":")[0] for target in targets} == names == {"triton", "web"}
