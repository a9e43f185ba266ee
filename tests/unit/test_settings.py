"""The settings: what the environment may say, and the sentence when it says it wrongly."""

import pytest

from nomaflow import settings
from nomaflow.errors import Code, NomaflowError
from nomaflow.settings import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for field in Settings.model_fields:
        monkeypatch.delenv(settings.variable(field), raising=False)


def test_nothing_set_gives_an_installation_for_this_machine_only():
    read = Settings.read()
    assert (read.host, read.port, read.timezone, read.history_days) == (
        "127.0.0.1",
        8080,
        "UTC",
        90,
    )
    assert read.scheduler_enabled
    assert read.worker_tags == ("default",)


def test_words_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("NOMAFLOW_WORKER_TAGS", "default, gpu,,big ")
    assert Settings.read().worker_tags == ("default", "gpu", "big")


def test_an_empty_variable_counts_as_absent(monkeypatch):
    monkeypatch.setenv("NOMAFLOW_ADMIN_TOKEN", "")
    monkeypatch.setenv("NOMAFLOW_PORT", "")
    assert Settings.read().admin_token is None
    assert Settings.read().port == 8080


@pytest.mark.parametrize("spelling", ["false", "off", "0", "no"])
def test_switches_take_the_usual_words(monkeypatch, spelling):
    monkeypatch.setenv("NOMAFLOW_SCHEDULER_ENABLED", spelling)
    assert not Settings.read().scheduler_enabled


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("NOMAFLOW_PORT", "eighty", "valid integer"),
        ("NOMAFLOW_PORT", "70000", "65535"),
        ("NOMAFLOW_TIMEZONE", "Europe/Pari", "Europe/Paris"),
        ("NOMAFLOW_DATABASE_URL", "mysql://u:pass-word@h/d", "postgresql://"),
        ("NOMAFLOW_REDIS_URL", "http://u:pass-word@h", "redis://"),
        ("NOMAFLOW_ADMIN_TOKEN", "short-token", "16"),
        ("NOMAFLOW_LOG_FORMAT", "xml", "console"),
        ("NOMAFLOW_LEASE_SECONDS", "1", "3"),
    ],
)
def test_a_wrong_value_is_named_and_never_repeated_when_secret(monkeypatch, name, value, part):
    monkeypatch.setenv(name, value)
    with pytest.raises(NomaflowError) as caught:
        Settings.read()
    assert caught.value.code is Code.INVALID
    assert caught.value.message.startswith(f"{name}: ")
    assert part in caught.value.message
    assert "pass-word" not in caught.value.message
    assert "short-token" not in caught.value.message


def test_all_wrong_values_are_told_at_once(monkeypatch):
    monkeypatch.setenv("NOMAFLOW_PORT", "x")
    monkeypatch.setenv("NOMAFLOW_HISTORY_DAYS", "0")
    with pytest.raises(NomaflowError) as caught:
        Settings.read()
    assert len(caught.value.message.splitlines()) == 2


def test_secrets_show_as_stars(monkeypatch):
    monkeypatch.setenv("NOMAFLOW_DATABASE_URL", "postgresql://nomaflow:pass-word@host/db")
    monkeypatch.setenv("NOMAFLOW_ADMIN_TOKEN", "nf_admin_pass-word-pass-word")
    read = Settings.read()
    assert "pass-word" not in f"{read!r} {read}"
    assert read.database == "postgresql://nomaflow:pass-word@host/db"


def test_a_program_without_a_database_is_told_what_to_do():
    with pytest.raises(NomaflowError, match=r"NOMAFLOW_DATABASE_URL is not set.*--home"):
        _ = Settings.read().database


def test_a_slip_of_the_pen_is_found():
    environment = {"NOMAFLOW_PROT": "1", "NOMAFLOW_PORT": "1", "NOMAFLOW_TOKEN": "t", "PATH": ""}
    assert settings.unknown_variables(environment) == ["NOMAFLOW_PROT"]


def test_every_setting_says_what_it_is_for():
    assert all(field.description for field in Settings.model_fields.values())
