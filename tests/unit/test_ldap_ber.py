"""Reading a directory's answers: right for what is right, an error for everything else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow.connectors.ldap import ber as ldap_ber
from nomaflow.connectors.ldap.ber import BerError, Wanted

quick = settings(deadline=None, max_examples=60)


def tlv(tag, *parts, long=False):
    content = b"".join(parts)
    size = len(content)
    if size < 128 and not long:
        return bytes([tag, size]) + content
    return bytes([tag, 0x84]) + size.to_bytes(4) + content


def string(value, **how):
    return tlv(0x04, value, **how)


def entry_message(dn, attributes, long=False, number=7):
    listed = [
        tlv(0x30, string(name), tlv(0x31, *(string(v, long=long) for v in values), long=long))
        for name, values in attributes
    ]
    operation = tlv(0x64, string(dn, long=long), tlv(0x30, *listed, long=long), long=long)
    return tlv(0x30, tlv(0x02, bytes([number])), operation, long=long)


def read(data, wanted):
    frames = ldap_ber.frames(data, 0)
    return [ldap_ber.entry(data, frame, wanted) for frame in frames]


NAMES = st.sampled_from([b"cn", b"mail", b"memberOf", b"other", b"CN"])
VALUES = st.lists(st.binary(max_size=300), max_size=4)


@quick
@given(
    st.binary(max_size=300),
    st.lists(st.tuples(NAMES, VALUES), max_size=5, unique_by=lambda pair: pair[0].lower()),
    st.booleans(),
)
def test_an_entry_is_read_as_it_was_written(dn, attributes, long):
    data = entry_message(dn, attributes, long)
    (found,) = read(data, Wanted({"cn": 0, "MAIL": 1, "memberof": 2}))
    assert found.dn == dn
    cells = [None, None, None]
    for name, values in attributes:
        place = {b"cn": 0, b"mail": 1, b"memberof": 2}.get(name.lower())
        if place is not None and values:
            cells[place] = values[0] if len(values) == 1 else values
    assert found.cells == cells


@quick
@given(st.binary(max_size=400))
def test_any_bytes_end_in_messages_or_an_error(data):
    wanted = Wanted({"cn": 0})
    try:
        for frame in ldap_ber.frames(data, 0):
            if frame.kind == ldap_ber.ENTRY:
                ldap_ber.entry(data, frame, wanted)
            else:
                ldap_ber.result(data, frame)
    except BerError:
        pass


@quick
@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=4),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_a_damaged_entry_is_read_or_refused(attributes, long, damage):
    """Lengths and tags changed anywhere: never another exception, never bytes of a neighbour."""
    good = entry_message(b"cn=after", [(b"cn", [b"neighbour"])])
    data = bytearray(entry_message(b"cn=x", attributes, long))
    for place, byte in damage:
        data[place % len(data)] = byte
    data = bytes(data + good)
    try:
        frames = ldap_ber.frames(data, 0)
        for frame in frames:
            if frame.kind == ldap_ber.ENTRY:
                found = ldap_ber.entry(data, frame, Wanted({"cn": 0}))
                assert len(found.dn) <= frame.end - frame.start
                cells = [c for c in found.cells if c is not None]
                held = sum(len(c) if isinstance(c, bytes) else sum(map(len, c)) for c in cells)
                assert held <= frame.end - frame.start
            elif frame.kind == ldap_ber.DONE:
                ldap_ber.result(data, frame)
    except BerError:
        pass


@quick
@given(st.integers(1, 400))
def test_an_entry_cut_short_waits_for_more(size):
    data = entry_message(b"cn=x", [(b"cn", [b"a" * 200])])
    cut = data[:size]
    frames = ldap_ber.frames(cut, 0)
    assert len(frames) == int(size >= len(data))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x31\x00", "begins with 0x31"),
        (b"\x30\x80\x00\x00", "a length of 0 bytes"),
        (b"\x30\x85\x00\x00\x00\x00\x01", "a length of 5 bytes"),
        (b"\x30\x84\x7f\xff\xff\xff", "2147483647 bytes"),
        (b"\x30\x03\x02\x01\x01", "without content"),
        (b"\x30\x05\x02\x00\x64\x01\x00", "without a number"),
        (b"\x30\x06\x02\x01\x01\x64\x05\x00", "longer than what holds it"),
    ],
)
def test_malformed_messages_are_refused(data, why):
    with pytest.raises(BerError, match=why):
        ldap_ber.frames(data, 0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x04",
        b"\x04\x05ab",
        b"\x04\x01a",
        b"\x04\x01a\x30\x00\x00",
        b"\x04\x01a\x30\x02\x30\x05",
        b"\x04\x01a\x30\x02\x31\x00",
        b"\x04\x01a\x30\x06\x30\x04\x04\x02cn",
        b"\x04\x01a\x30\x08\x30\x06\x04\x02cn\x31\x05",
        b"\x04\x01a\x30\x0a\x30\x08\x04\x02cn\x31\x02\x04\x7f",
        b"\x04\x01a\x30\x0a\x30\x08\x04\x02cn\x31\x02\x02\x00",
    ],
)
def test_malformed_entries_are_refused(content):
    data = tlv(0x30, b"\x02\x01\x01", tlv(0x64, content))
    (frame,) = ldap_ber.frames(data, 0)
    with pytest.raises(BerError):
        ldap_ber.entry(data, frame, Wanted({"cn": 0}))


def test_deep_nesting_costs_nothing():
    inner = b""
    for _ in range(20_000):
        inner = tlv(0x30, inner)
    data = tlv(0x30, b"\x02\x01\x01", tlv(0x64, b"\x04\x01a", inner))
    (frame,) = ldap_ber.frames(data, 0)
    with pytest.raises(BerError):
        ldap_ber.entry(data, frame, Wanted({"cn": 0}))


def test_a_result_and_its_cookie():
    value = tlv(0x30, b"\x02\x01\x00", string(b"next"))
    control = tlv(0x30, string(b"1.2.840.113556.1.4.319"), b"\x01\x01\xff", string(value))
    other = tlv(0x30, string(b"1.2.3"))
    referral = tlv(0xA3, string(b"ldap://a"), string(b"ldap://b"))
    operation = tlv(0x65, b"\x0a\x01\x0a", string(b"dc=x"), string(b"go\n\x1b[1maway"), referral)
    data = tlv(0x30, b"\x02\x01\x01", operation, tlv(0xA0, other, control))
    (frame,) = ldap_ber.frames(data, 0)
    assert ldap_ber.result(data, frame) == ldap_ber.Result(
        10, "dc=x", "go  [1maway", ("ldap://a", "ldap://b"), b"next"
    )


def test_a_range_is_told_from_its_end():
    wanted = Wanted({"member": 0})
    attributes = [(b"member;range=0-1", [b"a", b"b"]), (b"member", [])]
    (found,) = read(entry_message(b"cn=g", attributes), wanted)
    assert (found.cells, found.ranges) == ([[b"a", b"b"]], ((0, b"member;range=0-1"),))
    (found,) = read(entry_message(b"cn=g", [(b"member;range=2-*", [b"c"])]), wanted)
    assert (found.cells, found.ranges) == ([b"c"], ())


def test_a_certificate_comes_with_how_it_is_sent():
    wanted = Wanted({"userCertificate": 0, "other;binary": 1})
    attributes = [(b"userCertificate;binary", [b"a"]), (b"other;binary", [b"b"])]
    (found,) = read(entry_message(b"cn=g", attributes), wanted)
    assert found.cells == [b"a", b"b"]


def test_what_a_server_calls_its_attributes_is_kept_within_bounds():
    wanted = Wanted({"cn": 0})
    for number in range(5000):
        assert wanted[f"x{number}".encode()] == -1
    assert len(wanted) == Wanted.MOST_KEPT
    assert wanted[b"CN"] == 0
