"""The files that install the service: what they promise, checked as far as this machine can."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from knowledge_system import settings

ROOT = Path(__file__).resolve().parent.parent.parent
UNIT = ROOT / "deploy" / "systemd" / "knowledge-system.service"
COMPOSE = ROOT / "deploy" / "compose"
FILES = ("-f", str(COMPOSE / "compose.yaml"), "-f", str(COMPOSE / "compose.qdrant.yaml"))
MOST_EXPOSED = 1.5


class Repeated(dict[str, Any]):
    """Keeps every value of a key that stands more than once, as units have them."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and isinstance(self.get(key), list):
            value = [*self[key], *value]
        super().__setitem__(key, value)


def unit() -> dict[str, dict[str, list[str]]]:
    parser = configparser.ConfigParser(
        dict_type=Repeated, strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",)
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return {name: {key: value.split("\n") for key, value in parser[name].items()} for name in parser.sections()}


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return document


def test_the_unit_is_barely_exposed() -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("NOT CHECKED: the exposure of the unit needs systemd-analyze, which is not installed here")
    done = subprocess.run(
        [tool, "security", "--offline=true", str(UNIT)], capture_output=True, text=True, check=False, timeout=60
    )
    found = re.search(r"Overall exposure level for knowledge-system.service: ([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip(f"NOT CHECKED: this systemd-analyze cannot look at a file alone: {done.stderr[:200]}")
    assert float(found[1]) <= MOST_EXPOSED


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("NOT CHECKED: the unit's lines need systemd-analyze, which is not installed here")
    executable = tmp_path / "knowledge"
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/knowledge-system/bin/knowledge", str(executable)))
    done = subprocess.run([tool, "verify", str(copy)], capture_output=True, text=True, check=False, timeout=60)
    assert UNIT.name not in done.stderr, done.stderr


def test_the_unit_says_who_where_and_how_it_ends() -> None:
    service = unit()["Service"]
    assert service["User"] == service["Group"] == ["knowledge"]
    assert service["Type"] == ["notify"], "the service tells READY=1: see application/notifying.py"
    assert {"KNOWLEDGE_HOME=/var/lib/knowledge", "KNOWLEDGE_CONFIG=/etc/knowledge-system/config.json"} <= set(
        service["Environment"]
    )
    assert service["StateDirectory"] == ["knowledge"]
    assert service["Restart"] == ["on-failure"]
    assert service["KillSignal"] == ["SIGTERM"]
    assert not re.search(r"(KEY|TOKEN|PASSWORD)=", UNIT.read_text()), "keys are credentials, never variables"


SERVICES = sorted(compose()["services"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_pinned_watched_restarted_limited_and_confined(name: str) -> None:
    service = compose()["services"][name]
    image, _, tag = service["image"].rpartition(":")
    assert image
    assert tag not in {"", "latest"}
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["healthcheck"].keys() >= {"test", "interval", "timeout", "retries"}
    assert service["restart"] == "unless-stopped"
    resources = service["deploy"]["resources"]
    assert resources["limits"].keys() >= {"cpus", "memory"}
    assert resources["reservations"].keys() >= {"cpus", "memory"}
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_no_secret_stands_in_the_file_and_every_one_is_declared() -> None:
    document = compose()
    for name, service in document["services"].items():
        assert set(service.get("secrets", [])) <= document["secrets"].keys(), name
        for key, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|TOKEN|KEY|SECRET", key)
            assert not secret or str(value).startswith("/run/secrets/"), f"{name}: {key}"
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), f"{name}: {key}"
    assert all(one["file"].startswith("./secrets/") for one in document["secrets"].values())
    assert "secrets/" in (ROOT / ".gitignore").read_text()


def test_every_file_that_is_mounted_exists() -> None:
    document = compose()
    for service in document["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./secrets"):
                continue
            known = (COMPOSE / source).exists() if source.startswith(".") else source in document["volumes"]
            assert known, volume
        for network in service["networks"]:
            assert network in document["networks"]
        assert set(service.get("depends_on", {})) <= document["services"].keys()


def test_the_vector_store_has_the_guides_resources() -> None:
    service = compose()["services"]["qdrant"]
    assert service["deploy"]["resources"] == {
        "limits": {"cpus": "8", "memory": "16G"},
        "reservations": {"cpus": "4", "memory": "8G"},
    }
    assert service["volumes"] == ["qdrant_data:/qdrant/storage"]
    assert "/readyz" in service["healthcheck"]["test"][-1]


def test_the_service_uses_the_vector_store_only_with_the_second_file() -> None:
    document, added = compose(), yaml.safe_load((COMPOSE / "compose.qdrant.yaml").read_text())["services"]
    qdrant = document["services"]["qdrant"]
    assert qdrant["profiles"] == ["qdrant"]
    assert "ports" not in qdrant, "nobody but the other containers reaches it"
    assert qdrant["networks"] == ["data"]
    assert document["networks"]["data"]["internal"]
    assert "VECTORS" not in str(document["services"]["knowledge"]["environment"])
    assert added["knowledge"]["environment"] == {
        "KNOWLEDGE__VECTORS__BACKEND": "qdrant",
        "KNOWLEDGE__VECTORS__URL": "http://qdrant:6333",
        "QDRANT_API_KEY_FILE": "/run/secrets/qdrant_api_key",
    }
    for name, service in added.items():
        assert set(service["secrets"]) == {*document["services"][name]["secrets"], "qdrant_api_key"}
        for volume in service.get("volumes", []):
            assert (COMPOSE / volume.split(":")[0]).exists()


def test_what_the_second_file_says_is_a_configuration(tmp_path: Path) -> None:
    added = yaml.safe_load((COMPOSE / "compose.qdrant.yaml").read_text())["services"]["knowledge"]["environment"]
    tree = settings.load(tmp_path, environ=added).tree
    assert (tree.vectors.backend, tree.vectors.url) == ("qdrant", "http://qdrant:6333")


def test_compose_accepts_the_file(tmp_path: Path) -> None:
    tool = shutil.which("docker")
    known = tool and subprocess.run([tool, "compose", "version"], capture_output=True, check=False, timeout=60)
    if not tool or not known or known.returncode:
        pytest.skip("NOT CHECKED: `docker compose config` needs the compose plugin, which is not installed here")
    done = subprocess.run(
        [tool, "compose", *FILES, "--profile", "qdrant", "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr


def test_prometheus_accepts_its_file(tmp_path: Path) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("NOT CHECKED: needs promtool, which is not installed here")
    text = re.sub("/run/secrets/[a-z_]+", "token", (COMPOSE / "prometheus.yml").read_text())
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "targets").mkdir()
    shutil.copy(COMPOSE / "prometheus.qdrant.yml", tmp_path / "targets" / "qdrant.yml")
    (tmp_path / "token").write_text("token")
    shutil.copy(ROOT / "deploy" / "prometheus" / "alerts.yml", tmp_path)
    done = subprocess.run(
        [tool, "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr + done.stdout


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", (COMPOSE / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_is_pinned_unprivileged_watched_and_installed_with_hashes() -> None:
    """The image cannot be built where these tests run; this is what can be read in its file."""
    found = instructions()
    words = [word for word, _ in found]
    images = [rest.split()[0] for word, rest in found if word == "FROM"]
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", image) for image in images)
    assert set(words) <= {
        *("FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE"),
        *("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
    }
    last = len(words) - 1 - words[::-1].index("FROM")
    user = next(rest for word, rest in found[last:] if word == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number: the kernel must see that it is not root"
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert "/health/ready" in dict(found)["HEALTHCHECK"]
    installed = [rest for word, rest in found if word == "RUN" and "pip install" in rest]
    assert any("--require-hashes" in rest and "requirements.lock" in rest for rest in installed)
    assert all("--no-deps" in rest for rest in installed)
    copied = [source for word, rest in found if word == "COPY" and "--from" not in rest for source in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    allowed = (COMPOSE / "Dockerfile.dockerignore").read_text()
    assert all(f"!{source}" in allowed for source in copied)
