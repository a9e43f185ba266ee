"""What a directory's values look like in a column."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow.connectors.ldap import schema as ldap_schema
from nomaflow.steps.directory import attributes, values
from nomaflow.steps.directory.values import Column, Kind, Unfit, converter

quick = settings(deadline=None, max_examples=60)


def one(cell, kind=Kind.TEXT, attribute="cn", joiner=";", is_binary=False):
    column = Column("c", attribute, kind, is_binary)
    (found,) = converter(column, joiner)([cell])
    return found


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        ("20260102030405Z", "2026-01-02T03:04:05+00:00"),
        ("20260102030405.25Z", "2026-01-02T03:04:05.250000+00:00"),
        ("20260102030405,5+0130", "2026-01-02T03:04:05.500000+01:30"),
        ("202601020304-05", "2026-01-02T03:04:00-05:00"),
        ("2026010203.5Z", "2026-01-02T03:30:00+00:00"),
        ("20261231235960Z", "2027-01-01T00:00:00+00:00"),
        ("133801632000000000", "2025-01-01T00:00:00+00:00"),
        ("0", None),
        ("9223372036854775807", None),
        ("2026-01-02", "2026-01-02"),
        ("", None),
    ],
)
def test_times(written, iso):
    assert values.moment(written) == iso
    assert one(written.encode(), Kind.TIME) == iso


def test_a_time_that_is_none_is_told():
    assert one(b"20261302030405Z", Kind.TIME) == Unfit("cn: the value is no time")


def test_times_without_zones_are_utc():
    assert one(b"20260102030405+0130", Kind.TIME_UTC) == "2026-01-02 01:34:05"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("010100000000000512000000", "S-1-5-18"),
        ("01020000000000052000000020020000", "S-1-5-32-544"),
        ("0101ffffffffffff01000000", "S-1-0xffffffffffff-1"),
        ("0105000000000005", "AQUAAAAAAAU="),
        ("ff", "/w=="),
    ],
)
def test_security_identifiers(raw, shown):
    assert one(bytes.fromhex(raw), attribute="objectSID", is_binary=True) == shown


def test_guids():
    raw = bytes.fromhex("78563412bc9af0de0123456789abcdef")
    assert one(raw, attribute="objectGUID") == "12345678-9abc-def0-0123-456789abcdef"
    assert one(raw, Kind.OTHER, attribute="objectguid") == "12345678-9abc-def0-0123-456789abcdef"
    assert one(b"\xff\x00", attribute="objectGUID") == "/wA="
    assert one(raw, Kind.BYTES, attribute="objectGUID") == "\\x78563412bc9af0de0123456789abcdef"


def test_bytes_are_base64_in_text_and_whole_in_bytes():
    assert one(b"\xff\xd8", attribute="jpegPhoto", is_binary=True) == "/9g="
    assert one(b"plain", attribute="jpegPhoto", is_binary=True) == "cGxhaW4="
    assert one(b"\xff\xd8", Kind.BYTES) == "\\xffd8"
    assert one(b"\xff") == "/w=="
    assert isinstance(one([b"a", b"b"], Kind.BYTES), Unfit)


def test_several_values():
    three = [b"a", b"b", b"c"]
    assert one(three) == "a;b;c"
    assert one(three, joiner=" | ") == "a | b | c"
    assert one(three, joiner="array") == '["a", "b", "c"]'
    assert one(b"a", joiner="array") == "a"
    assert one(b"a", Kind.JSON, joiner="array") == '["a"]'
    assert one(b"a", Kind.JSON) == '"a"'
    assert one(three, Kind.ARRAY) == '{"a","b","c"}'
    assert one([b'q"', b"b\\"], Kind.ARRAY) == '{"q\\"","b\\\\"}'
    assert one(None) is None


def test_truths():
    assert [one(raw, Kind.TRUTH) for raw in (b"TRUE", b"false")] == ["true", "false"]
    assert [one(raw, Kind.FLAG) for raw in (b"TRUE", b"FALSE", b"3")] == ["1", "0", "3"]


def test_a_nul_is_told_and_its_neighbours_stay():
    column = Column("c", "cn", Kind.TEXT, is_binary=False)
    assert converter(column, ";")([b"a", b"b\x00c", None, [b"d", b"e"]]) == [
        "a",
        Unfit("cn: the value holds a NUL character"),
        None,
        "d;e",
    ]


@quick
@given(
    st.lists(
        st.one_of(st.none(), st.binary(max_size=20), st.lists(st.binary(max_size=9), min_size=2)),
        max_size=8,
    ),
    st.sampled_from(list(Kind)),
    st.sampled_from(["cn", "objectGUID", "objectSid", "jpegPhoto"]),
    st.sampled_from([";", "array", ""]),
    st.booleans(),
)
def test_every_value_becomes_text_or_a_reason(cells, kind, attribute, joiner, is_binary):
    found = converter(Column("c", attribute, kind, is_binary), joiner)(cells)
    assert len(found) == len(cells)
    for cell, made in zip(cells, found, strict=True):
        assert made is None or isinstance(made, str | Unfit)
        assert cell is not None or made is None
        assert not isinstance(made, str) or "\x00" not in made


SCHEMA = ldap_schema.parse(
    [
        "( 2.5.4.41 NAME 'name' DESC 'a NAME (x)' SYNTAX 1.3.6.1.4.1.1466.115.121.1.15{32768} )",
        "( 2.5.4.3 NAME ( 'cn' 'commonName' ) SUP name )",
        "( 1.2.3 NAME 'fingerprint' SYNTAX '1.3.6.1.4.1.1466.115.121.1.40' )",
        "( 1.2.4 NAME 'thumb' SUP fingerprint )",
        "( 1.2.5 NAME 'loop' SUP loop )",
    ]
)


def test_a_schema_is_read():
    assert {n for n in ("cn", "CommonName", "2.5.4.3", "name") if SCHEMA.knows(n)} == {
        "cn", "CommonName", "2.5.4.3", "name",
    }  # fmt: skip
    assert not SCHEMA.knows("x")
    assert SCHEMA.is_binary("thumb")
    assert SCHEMA.is_binary("usercertificate;binary")
    assert not SCHEMA.is_binary("cn")
    assert not SCHEMA.is_binary("loop")


def test_which_attribute_fills_which_column():
    pairs = attributes.pairs
    assert pairs({"cn": "n"}, ("x",), ["n"], SCHEMA) == [("cn", "n")]
    assert pairs({}, ("CN", "cn", "name"), ["cn"], SCHEMA) == [("CN", "cn"), ("name", "name")]
    assert pairs({}, (), ["id", "Cn", "dn"], SCHEMA) == [("Cn", "Cn"), ("dn", "dn")]
    with pytest.raises(Exception, match="did you mean 'commonName'"):
        pairs({"comonname": "n"}, (), [], SCHEMA)
    with pytest.raises(Exception, match="say in `mapping`"):
        pairs({}, ("*",), ["id"], SCHEMA)
