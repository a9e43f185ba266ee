"""compose.yaml and the Dockerfile, read as text: they must name what really exists."""

import re
from pathlib import Path

import pytest
import typer
import yaml

from nomaflow import settings
from nomaflow.cli import main
from nomaflow.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {
    name: service
    for name, service in SERVICES.items()
    if "command" in service and "build" in service
}
KNOWN = {settings.variable(field) for field in Settings.model_fields}


def commands():
    return set(typer.main.get_command(main.gather()).commands)


def test_the_three_programs_the_migration_and_two_servers_are_there():
    assert set(SERVICES) == {"postgres", "valkey", "migrate", "api", "scheduler", "worker"}
    assert set(OURS) == {"migrate", "api", "scheduler", "worker"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_watched_restarted_and_not_root(name):
    service = SERVICES[name]
    assert "healthcheck" in service
    assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
    assert service["user"].split(":")[0] not in {"root", "0"}
    assert service["logging"]["options"]["max-size"]
    assert "container_name" not in service  # it could not be scaled


@pytest.mark.parametrize("name", OURS)
def test_our_services_can_write_nothing_and_gain_nothing(name):
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"]


@pytest.mark.parametrize("name", OURS)
def test_commands_and_settings_exist(name):
    service = OURS[name]
    assert service["command"][0] in commands()
    assert set(service["environment"]) <= KNOWN
    test = service["healthcheck"].get("test")
    assert test is None or (test[1] == "nomaflow" and test[2] in commands() and test[3] == name)


def test_everything_waits_for_the_migration_and_the_servers():
    for name in ("api", "scheduler", "worker"):
        waits = {need: how["condition"] for need, how in OURS[name]["depends_on"].items()}
        assert waits == {
            "postgres": "service_healthy",
            "valkey": "service_healthy",
            "migrate": "service_completed_successfully",
        }


def test_the_worker_is_given_longer_than_its_drain_time():
    grace = int(OURS["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["drain_seconds"].default


def test_nothing_listens_beyond_this_machine():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:${PORT:-8080}:8080"]


def test_every_variable_compose_asks_for_is_in_its_example():
    asked = set(re.findall(r"\$\{([A-Z_]+)[:}]", (ROOT / "compose.yaml").read_text()))
    offered = set(
        re.findall(r"^([A-Z_]+)=", (ROOT / "compose.env.example").read_text(), re.MULTILINE)
    )
    assert asked - {"NOMAFLOW_IMAGE_TAG"} == offered


def test_the_image_runs_without_root_and_keeps_build_tools_out():
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    last = stages[-1]
    assert "USER 10001" in last
    assert 'ENTRYPOINT ["nomaflow"]' in last
    assert "uv " not in last
    assert "apt-get" not in last
    named = set(re.findall(r"NOMAFLOW_[A-Z_]+", last))
    assert named <= KNOWN
