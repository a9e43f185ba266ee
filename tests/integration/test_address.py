"""Where the command line finds its API and its token, from real folders."""

import json
import os

import pytest

from nomaflow.errors import Code, NomaflowError
from nomaflow.outside import address

STATE = {"url": "http://127.0.0.1:8123", "admin_token": "nf_of_the_running_up", "pid": 1}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(address, "ROOT_HOME", tmp_path / "root-home")
    return tmp_path


def running(home):
    home.mkdir(parents=True)
    (home / "state.json").write_text(json.dumps(STATE))
    return home


def test_without_a_word_it_is_port_8080_here_without_a_token(here):
    found = address.find(environment={})
    assert (found.url, found.token) == ("http://127.0.0.1:8080", None)


def test_a_running_up_in_this_folder_is_found(here):
    running(here / ".nomaflow")
    found = address.find(environment={})
    assert (found.url, found.token) == (STATE["url"], STATE["admin_token"])


@pytest.mark.parametrize("by", ["--home", "NOMAFLOW_HOME", "NOMAFLOW_PROJECT"])
def test_a_running_up_elsewhere_is_found_by_name(here, by):
    home = running(here / "elsewhere" / ".nomaflow")
    given = home if by == "--home" else None
    named = {"NOMAFLOW_HOME": str(home), "NOMAFLOW_PROJECT": str(home.parent)}
    environment = {by: named[by]} if by in named else {}
    assert address.find(home=given, environment=environment).url == STATE["url"]


def test_a_stopped_up_leaves_its_token(here):
    home = here / ".nomaflow"
    home.mkdir()
    (home / "admin-token").write_text("nf_kept\n")
    found = address.find(environment={})
    assert (found.token, found.token_source) == ("nf_kept", f"the home {home}")


def test_the_environment_comes_before_the_home(here):
    running(here / ".nomaflow")
    words = {"NOMAFLOW_URL": "http://localhost:9000/", "NOMAFLOW_TOKEN": " nf_mine "}
    found = address.find(environment=words)
    assert (found.url, found.token) == ("http://localhost:9000", "nf_mine")
    assert found.graphql == "http://localhost:9000/graphql"
    assert found.socket == "ws://localhost:9000/graphql"


def test_an_option_comes_before_the_environment(here):
    found = address.find("https://jobs.example/nf", environment={"NOMAFLOW_URL": "http://other"})
    assert found.url == "https://jobs.example/nf"
    assert found.socket == "wss://jobs.example/nf/graphql"


@pytest.mark.parametrize(
    "url", ["http://jobs.example", "http://127.0.0.1.jobs.example", "https://10.0.0.5:8080"]
)
def test_the_local_token_never_leaves_this_machine(here, url):
    running(here / ".nomaflow")
    assert address.find(url, environment={}).token is None


@pytest.mark.parametrize("url", ["8080", "localhost:8080", "ftp://x", "http://", "http://u:p@x"])
def test_a_wrong_url_is_a_sentence(here, url):
    with pytest.raises(NomaflowError) as refused:
        address.find(url, environment={})
    assert refused.value.code is Code.INVALID
    assert refused.value.message.endswith(".")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_home_of_another_user_is_passed_over(here):
    home = running(here / ".nomaflow")
    (home / "state.json").chmod(0)
    assert address.find(environment={}).token is None
