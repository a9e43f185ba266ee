"""Which texts may name a function at all (SEC-P02)."""

import pytest

from nomaflow.errors import StepError
from nomaflow.plugins.resolve import parse


def test_a_module_path_and_a_function():
    assert parse("releases.sync:upsert_releases") == ("releases.sync", "upsert_releases")
    assert parse("m:f") == ("m", "f")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "m:",
        ":f",
        "m:f:g",
        "m.f",
        "..m:f",
        ".m:f",
        "m.:f",
        "m..n:f",
        "pkg.mod:obj.__class__.__mro__",
        "../../tmp/x:f",
        "/tmp/x:f",
        "m-n:f",
        "m:f()",
        "m:f\n",
        "m:f ",
        "m\x00:f",
        "1m:f",
        "m:1f",
        "аdmin:f",  # noqa: RUF001  a Cyrillic letter
        "m:" + "f" * 10_000,
    ],
)
def test_everything_else_is_refused(text):
    with pytest.raises(StepError, match=r"write `module\.path:function`") as refused:
        parse(text)
    assert not refused.value.retryable
    assert len(refused.value.message) < 300
