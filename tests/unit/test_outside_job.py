"""What an outside script's job knows of the token it was given."""

import pytest

from nomaflow.client import Job

URL = "http://127.0.0.1:9"


@pytest.mark.parametrize("kept", [None, "kept-in-the-environment"])
def test_a_token_that_was_given_is_the_one_that_is_sent_and_named(monkeypatch, tmp_path, kept):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOMAFLOW_TOKEN", kept or "")
    job = Job("permits", URL, "amanda", "socrata", "given")
    assert (job.place.token, job.place.token_source) == ("given", "`auth`")
    assert job.options["headers"]["Authorization"] == "Bearer given"
    assert "given" not in repr(job.place)
