"""Patterns: they say what `re` says, and cannot run away."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow.language import pattern
from nomaflow.language.pattern import PatternError

ATOMS = st.sampled_from(
    ["a", "b", "1", ".", "[ab]", "[^a]", r"\d", r"\w", r"\S", "[a-c1]", r"\b", "^", r"\.", "[]a]"]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,2}", "+?"])).map(
            "(?:{0[0]}){0[1]}".format
        ),
    ),
    max_leaves=8,
)


@given(PATTERNS, st.text("abc1 .]", max_size=8))
@settings(max_examples=200, deadline=None)
def test_it_finds_what_re_finds(text, subject):
    assert pattern.compile(text).found_in(subject) == bool(re.search(text, subject))


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        (r"^v\d+\.\d+$", "v1.20", "v1.20-rc"),
        ("(?i)ERROR|warn", "an error", "fine"),
        (r"^[\w.+-]+@[\w-]+\.\w+$", "a.b+c@d-e.org", "a b@c.d"),
        (r"[\]\-a]", "-", "b"),
        (r"[^]]", "a", "]"),
        ("^(?:full|delta)$", "delta", "deltas"),
        ("^x{2,3}$", "xxx", "xxxx"),
        ("^$", "", "a"),
        ("^a.c$", "abc", "a\nc"),
        ("é+", "caféé", "cafe"),
        (r"\bcat\b", "the cat", "concat"),
        ("", "anything", None),
    ],
)
def test_examples(text, yes, no):
    made = pattern.compile(text)
    assert made.found_in(yes)
    assert no is None or not made.found_in(no)


@pytest.mark.parametrize(
    ("text", "words", "offset"),
    [
        ("a)", "closes nothing", 1),
        ("(a", "is not closed", 0),
        ("[a", "is not closed", 0),
        ("x*+", "repeats nothing", 2),
        ("*a", "repeats nothing", 0),
        ("a{x}", "write {m}", 1),
        ("a{3,2}", "from less to more", 1),
        ("a{1000}", "200 at most", 1),
        ("(?=a)", "only (?:...)", 0),
        (r"(a)\1", r"`\1` is not known", 3),
        ("[z-a]", "goes backwards", 0),
        ("a\\", "is not known", 1),
        ("(" * 31 + ")" * 31, "nested deeper", 30),
        ("(?:(?:a{200}){200}){200}", "repeats too much", 3),
        ("a" * 501, "500 characters", 0),
    ],
)
def test_what_cannot_be_read(text, words, offset):
    with pytest.raises(PatternError) as wrong:
        pattern.compile(text)
    assert words in wrong.value.message
    assert wrong.value.offset == offset


@pytest.mark.parametrize(
    "text", ["(a+)+$", "(a|a)*$", "(?:a*)*b", "a{200}a{200}$", "(.*)(.*)(.*)x"]
)
def test_nothing_runs_away(text):
    began = time.perf_counter()
    pattern.compile(text).found_in("a" * 1_000 + "!")
    assert time.perf_counter() - began < 2


def test_a_text_too_long_for_its_pattern_is_refused():
    with pytest.raises(PatternError, match="too long for this pattern"):
        pattern.compile("(?:a{50}){20}").found_in("a" * 10_000)
