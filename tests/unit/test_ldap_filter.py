"""Search filters are checked when a job is declared; what is put into them stays one value."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import parse_dn

from nomaflow.connectors.ldap import filter as ldap_filter

quick = settings(deadline=None, max_examples=60)


@pytest.mark.parametrize(
    "text",
    [
        "(objectClass=*)",
        "(&(objectClass=user)(!(userAccountControl:1.2.840.113556.1.4.803:=2)))",
        "(|(cn=a*b*c)(sn~=x)(age>=3)(age<=4))",
        "(cn:dn:2.4.6.8.10:=Dino)",
        "(:caseExactMatch:=x)",
        "(cn=\\2a\\28\\29\\5c)",
        " ( & (a=b) (c=d) ) ",
        "(cn;lang-fr=x)",
        "(2.5.4.3=x)",
        "(cn=)",
        "(cn=é)",
    ],
)
def test_filters_of_rfc_4515(text):
    ldap_filter.check(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begins with `\\(` at column 1"),
        ("cn=x", "begins with `\\(` at column 1"),
        ("(cn=x", "`\\)` is expected at column 6, and the filter ends"),
        ("(cn=x))", "over at column 7 and more follows"),
        ("(cn=x)(sn=y)", "over at column 7"),
        ("(&(cn=x)(sn))", "at column 10 `attribute=value` is expected"),
        ("(!(a=b)(c=d))", "`\\)` is expected at column 8, not `\\(`"),
        ("(!)", "needs one filter"),
        ("(&)", "`&` at column 2 needs filters"),
        ("(cn=a(b)", "`\\)` is expected at column 6, not `\\(`"),
        ("(cn=\\zz)", "expected at column 5"),
        ("(=x)", "`attribute=value` is expected"),
        ("(" * 60 + "cn=x", "`attribute=value`"),
        ("(!" * 60 + "(cn=x" + ")" * 61, "deeper than 50"),
        ("(cn=" + "x" * 70_000 + ")", "at most 65536"),
    ],
)
def test_what_is_wrong_is_said_with_its_column(text, why):
    with pytest.raises(ValueError, match=why):
        ldap_filter.check(text)


@quick
@given(st.text())
def test_a_value_stays_a_value(value):
    """SEC-L01."""
    written = f"(&(objectClass=person)(uid={ldap_filter.escaped(value)}))"
    ldap_filter.check(written)
    assert ldap_filter.escaped(value) == escape_filter_chars(value)


def test_an_injection_is_only_a_strange_name():
    assert (
        ldap_filter.escaped("*)(uid=*))(|(uid=*") == "\\2a\\29\\28uid=\\2a\\29\\29\\28|\\28uid=\\2a"
    )


@quick
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
def test_a_value_in_a_name_stays_one_part(value):
    written = f"uid={ldap_filter.escaped_in_name(value)},ou=people"
    parts = parse_dn(written)
    assert [part[0] for part in parts] == ["uid", "ou"]


@quick
@given(st.text(max_size=200))
def test_checking_ends(text):
    with contextlib.suppress(ValueError):
        ldap_filter.check(text)
