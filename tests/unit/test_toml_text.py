"""Reading TOML: every key's line, and every broken text's line."""

import pytest

from nomaflow.project import toml_text
from nomaflow.project.toml_text import BrokenTomlError

TEXT = '''# a comment
[step_defaults]
timeout = 5

[[jobs]]
name = "a"   # trailing
params = { x = 1, "y z" = "[[jobs]]" }
query = """
[[jobs]]
not = "a key"
"""
literal = \'\'\'
name = 5
\'\'\'
tags = [
  "one", # comment, with commas, [ and ]
  "two, too",
  { k = "v" },
]
a.b."c d".'e' = 1
[jobs.retry]
attempts = 3
[[jobs.steps]]
name = "s1"
[jobs.steps.source]
table = "t"
[[jobs.steps]]
name = "s2"

[[jobs]]
name = "b"
[[jobs.steps]]
source = { table = "t" }
[connectors."ops-db"]
url = "x"
'''

PLACES = [
    (("step_defaults",), 2),
    (("step_defaults", "timeout"), 3),
    (("jobs", "0"), 5),
    (("jobs", "0", "name"), 6),
    (("jobs", "0", "params"), 7),
    (("jobs", "0", "params", "x"), 7),
    (("jobs", "0", "query"), 8),
    (("jobs", "0", "literal"), 12),
    (("jobs", "0", "tags"), 15),
    (("jobs", "0", "tags", "0"), 16),
    (("jobs", "0", "tags", "1"), 17),
    (("jobs", "0", "tags", "2", "k"), 18),
    (("jobs", "0", "a", "b", "c d", "e"), 20),
    (("jobs", "0", "a"), 20),
    (("jobs", "0", "retry"), 21),
    (("jobs", "0", "retry", "attempts"), 22),
    (("jobs", "0", "retry", "nope"), 21),
    (("jobs", "0", "steps", "0"), 23),
    (("jobs", "0", "steps", "0", "source", "table"), 26),
    (("jobs", "0", "steps", "1", "name"), 28),
    (("jobs", "0", "steps", "1", "url"), 27),
    (("jobs", "1"), 30),
    (("jobs", "1", "name"), 31),
    (("jobs", "1", "steps", "0", "source", "table"), 33),
    (("connectors", "ops-db", "url"), 35),
    ((), 1),
    (("nope",), 1),
]


@pytest.mark.parametrize(("path", "line"), PLACES)
def test_the_line_of_every_place(path, line):
    assert toml_text.read(TEXT.encode()).line_of(path) == line


@pytest.mark.parametrize(
    "raw", [TEXT.replace("\n", "\r\n").encode(), b"\xef\xbb\xbf" + TEXT.encode()]
)
def test_other_ways_of_saving(raw):
    assert toml_text.read(raw).line_of(("jobs", "1", "name")) == 31


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a = 1\nb = \n", 2, "invalid value"),
        ("a = 1\n[[jobs]\n", 2, "expected ']]'"),
        ("a = 1\na = 2\n", 2, "cannot overwrite"),
        ("a = 1\nb = 'x", 2, ""),
        ("a = 1\nb = [1,\n", 3, ""),
        ("x\n", 1, "expected '='"),
        ("a = 1\nb = " + "9" * 5_000, 2, "too many digits"),
        ("a = 1\nb = " + "[" * 10_000, 2, "nested too deep"),
        ("a = 1\n" + "b." * 20_000 + "c = 1", 2, "more than 32 parts"),
        ("a = 1\n" + '"b" . ' * 20_000 + "c = 1", 2, "more than 32 parts"),
        ("[" + "b." * 20_000 + "c]", 1, "more than 32 parts"),
        ("a = 1\n" + "x" * 300_000, 1, "larger than 256 KB"),
    ],
)
def test_broken_texts_have_a_line(text, line, why):
    with pytest.raises(BrokenTomlError) as broken:
        toml_text.read(text.encode())
    assert (broken.value.line, why in broken.value.message) == (line, True)


def test_text_that_is_not_utf_8():
    with pytest.raises(BrokenTomlError) as broken:
        toml_text.read(b"a = 1\nb = '\xff'\n")
    assert broken.value.line == 2
