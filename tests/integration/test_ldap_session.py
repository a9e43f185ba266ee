"""Reaching a directory: encryption, credentials, limits, servers that are strange or silent."""

import asyncio
import socket
import time

import pytest
from directory import CURBED, PEOPLE, READER_PASSWORD
from ldap_stub import cookie, done, entry, entry_of, reference, said, serving, string, tlv

from nomaflow.connectors import check, spec
from nomaflow.connectors.http.connector import HttpPolicy
from nomaflow.connectors.ldap import connector as ldap
from nomaflow.connectors.ldap import schema as ldap_schema
from nomaflow.connectors.ldap.ber import Wanted
from nomaflow.connectors.ldap.connector import Search
from nomaflow.errors import StepError

ALL = Search(PEOPLE, "(objectClass=inetOrgPerson)", "subtree", ("uid", "mail"))
WANTED = {"uid": 0, "mail": 1}


async def opened(table, policy=None):
    return await ldap.open(ldap.settings(spec.parse(table), policy))


async def everything(table, search=ALL, wanted=WANTED):
    session = await opened(table)
    try:
        entries = []
        async for chunk in session.search(search, Wanted(wanted)):
            entries += chunk.entries
        return entries
    finally:
        await session.close()


async def refused(table, search=ALL):
    with pytest.raises(StepError) as caught:
        await everything(table, search)
    assert READER_PASSWORD not in caught.value.message
    return caught.value


def at(stub, **changes):
    return {
        "kind": "ldap",
        "url": stub.url,
        "bind_dn": "cn=x",
        "bind_password": "a-password",
        "connect_timeout_seconds": 1,
        "receive_timeout_seconds": 1,
        **changes,
    }


@pytest.mark.parametrize("how", ["ldap", "ldaps", "start_tls"])
async def test_every_page_is_read(directory, how):
    """L03, L08."""
    ways = {
        "ldap": {},
        "ldaps": {"url": directory.tls_url, "ca_file": directory.ca_file},
        "start_tls": {"start_tls": True, "ca_file": directory.ca_file},
    }
    table = directory.connector(**ways[how])
    session = await opened(table)
    assert ("TLSv1.3" in session.described) == (how != "ldap")
    await session.close()
    entries = await everything(table)
    assert len({bytes(found.dn) for found in entries}) == 2500
    assert entries[0].cells == [b"u00001", b"u00001@corp.example"]
    assert entries[9].cells == [b"u00010", None]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "tls"}, "a certificate that cannot be trusted: self-signed certificate"),
        ({"start_tls": True}, "a certificate that cannot be trusted: self-signed certificate"),
        ({"url": "localhost", "ca_file": "ca"}, "not valid for 'localhost'"),
        ({"url": "tls", "ca_file": "/nowhere.pem"}, "cannot be read"),
    ],
)
async def test_nobody_is_trusted_unseen(directory, changes, said):
    """SEC-L03: the password never leaves."""
    named = {
        "tls": directory.tls_url,
        "localhost": directory.tls_url.replace("127.0.0.1", "localhost"),
        "ca": directory.ca_file,
    }
    table = directory.connector(**{k: named.get(v, v) for k, v in changes.items()})
    error = await refused(table)
    assert said in error.message
    assert not error.retryable


async def test_bad_credentials_are_asked_once_and_never_again(directory):
    """L06."""
    error = await refused(directory.connector(bind_password="not-this-one"))
    assert error.message == (
        f"{directory.url} refused the bind as 'cn=reader,ou=services,dc=corp,dc=local': wrong name "
        "or password"
    )
    assert not error.retryable
    async with serving(bind_code=49) as stub:
        assert not (await refused(at(stub))).retryable
        assert len(stub.binds) == 1
    for code, category in ((51, "connection"), (52, "connection")):
        async with serving(bind_code=code) as stub:
            error = await refused(at(stub))
            assert (error.retryable, error.category) == (True, category)


async def test_a_name_without_a_password_is_not_a_bind():
    """SEC-A08, RFC 4513 section 5.1.2."""
    for password in ("", None):
        made = spec.LdapConnectorSpec.model_construct(
            url="ldap://127.0.0.1",
            bind_dn="cn=x",
            bind_password=password,
            start_tls=False,
            ca_file=None,
            allow_plaintext=False,
            connect_timeout_seconds=1,
            receive_timeout_seconds=1,
        )
        with pytest.raises(StepError, match="has no `bind_password`"):
            ldap.settings(made)


def test_a_password_does_not_travel_in_the_clear():
    """SEC-L03."""
    table = {"kind": "ldap", "url": "ldap://dc.corp", "bind_dn": "cn=x", "bind_password": "y"}
    with pytest.raises(StepError, match="unencrypted; use ldaps://"):
        ldap.settings(spec.parse(table))
    assert ldap.settings(spec.parse({**table, "allow_plaintext": True})).is_exposed
    assert not ldap.settings(spec.parse({**table, "start_tls": True})).is_exposed
    assert not ldap.settings(spec.parse({"kind": "ldap", "url": "ldap://dc.corp"})).is_exposed
    assert "'y'" not in repr(ldap.settings(spec.parse({**table, "start_tls": True})))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://x", "has no scheme 'http'"),
        ("ldap://", "names no host"),
        ("ldap://u:p@x", "holds a user"),
        ("ldap://x/dc=corp", "more than host and port"),
        ("ldap://x:y", "cannot be read"),
    ],
)
def test_a_wrong_url_is_a_sentence(url, said):
    with pytest.raises(ValueError, match=said):
        spec.parse({"kind": "ldap", "url": url})


async def test_a_limit_of_the_server_is_a_failure(directory):
    """A part of the entries is no answer: paged or not."""
    error = await refused(directory.connector(bind_dn=CURBED))
    assert "stopped the search after 1000 entries: sizeLimitExceeded (4)" in error.message
    assert "nothing was changed" in error.message


async def test_a_base_that_is_not_there_is_named(directory):
    search = Search(f"ou=gone,{PEOPLE}", "(uid=*)", "subtree", ("uid",))
    error = await refused(directory.connector(), search)
    assert f"no entry 'ou=gone,{PEOPLE}'" in error.message
    assert f"the nearest there is: '{PEOPLE}'" in error.message
    assert not error.retryable


async def test_scopes(directory):
    for scope, count in (("base", 0), ("one", 2500), ("subtree", 2500)):
        search = Search(PEOPLE, "(objectClass=inetOrgPerson)", scope, ("uid",))
        assert len(await everything(directory.connector(), search, {"uid": 0})) == count


async def test_a_referral_is_not_followed():
    """SEC-L02: no other server hears of our password."""
    async with serving() as other:
        async with serving(
            search=lambda _: [(done(10, referrals=(other.url + "/dc=x",)),)],
        ) as stub:
            error = await refused(at(stub))
        assert f"refers '{PEOPLE}' to {other.url}/dc=x; referrals are not followed" in error.message
        async with serving(
            search=lambda _: [
                (entry("uid=a", uid=["a"]),),
                (reference(f"{other.url}/dc=x"),),
                (done(),),
            ],
        ) as stub:
            assert len(await everything(at(stub))) == 1
        assert other.binds == []


async def test_pages_follow_the_cookie_of_each():
    def pages(search):
        match search.cookie:
            case b"":
                return [(entry("uid=a", uid=["a"]),), (done(), cookie(b"one"))]
            case b"one":
                return [(done(), cookie(b"two"))]  # an empty page is not the end
            case _:
                return [(entry("uid=b", UID=["b"]),), (done(), cookie(b""))]

    async with serving(search=pages) as stub:
        found = await everything(at(stub))
        assert [e.dn for e in found] == [b"uid=a", b"uid=b"]
        assert [s.cookie for s in stub.searches] == [b"", b"one", b"two"]


@pytest.mark.parametrize(
    ("answer", "category", "words"),
    [
        ([None], "connection", "ended the connection"),
        ([(entry("uid=a", uid=["a"]),), None], "connection", "ended the connection"),
        ([said(0, tlv(0x78, done(52, said="bye")[2:]))], "connection", "(bye)"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "connection", "what is not LDAP"),
        ([b"\x30\x84\xff\xff\xff\xff"], "connection", "a message of 4294967295 bytes"),
        ([b"\x30\x80\x02\x01@id@"], "connection", "a length of 0 bytes"),
        ([said(99, done())], "connection", "message 99"),
        ([(tlv(0x64, string("uid=a"), b"\x30\x05\x30"),), (done(),)], "connection", "not LDAP"),
        ([(tlv(0x65, b"\x0a\x00"),)], "connection", "a result without a code"),
        ([(done(3),)], "timeout", "timeLimitExceeded"),
        ([(done(11),)], "error", "adminLimitExceeded"),
    ],
)
async def test_a_strange_answer_is_a_failure_with_words(answer, category, words):
    async with serving(search=lambda _: answer) as stub:
        error = await refused(at(stub))
        assert error.category == category
        assert words in error.message
        assert error.retryable


async def test_a_server_that_says_nothing_is_left_in_time():
    """SEC-L03: neither the bind nor the search waits for ever."""
    async with serving(silent=True) as stub:
        started = time.monotonic()
        error = await refused(at(stub))
        assert (error.category, error.retryable) == ("timeout", True)
        assert time.monotonic() - started < 2.5
    async with serving(search=lambda _: [(entry("uid=a", uid=["a"]),), 5]) as stub:
        error = await refused(at(stub))
        assert error.category == "timeout"
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        table = {"kind": "ldap", "url": f"ldap://127.0.0.1:{port}", "connect_timeout_seconds": 1}
        error = await refused({**table, "receive_timeout_seconds": 1})
        assert (error.category, error.retryable) == ("timeout", True)
        for filler in fillers:
            filler.close()


async def test_garbage_in_place_of_a_bind():
    for greeting in (b"220 smtp\r\n", b"\x00" * 50, b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01"):
        async with serving(greeting=greeting, silent=True) as stub:
            error = await refused(at(stub))
            assert error.category in {"connection", "timeout"}


async def test_a_cancelled_search_hangs_up_at_once():
    async with serving(search=lambda _: [(entry("uid=a", uid=["a"]),), 30]) as stub:
        task = asyncio.create_task(everything(at(stub, receive_timeout_seconds=60)))
        await stub.asked.wait()
        while not stub.searches:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 1


async def test_a_cancelled_bind_hangs_up_at_once():
    async with serving(silent=True) as stub:
        task = asyncio.create_task(everything(at(stub, receive_timeout_seconds=60)))
        await stub.asked.wait()
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(stub.gone.wait(), 1)
        assert time.monotonic() - started < 1


async def test_where_a_directory_may_be():
    """Cloud metadata never; private addresses as the policy says."""
    table = {"kind": "ldap", "url": "ldap://169.254.169.254"}
    with pytest.raises(StepError, match="cloud metadata"):
        await opened(table)
    with pytest.raises(StepError, match="private addresses"):
        await opened({"kind": "ldap", "url": "ldap://127.0.0.1"}, HttpPolicy(allow_private=False))
    with pytest.raises(StepError, match="not on the list"):
        await opened(
            {"kind": "ldap", "url": "ldap://127.0.0.1"}, HttpPolicy(only_hosts=("dc.corp",))
        )


async def test_the_schema_is_asked(directory):
    session = await opened(directory.connector())
    schema = await ldap_schema.read(session)
    await session.close()
    assert schema.knows("MAIL")
    assert schema.knows("rfc822Mailbox")
    assert not schema.knows("mial")
    assert schema.is_binary("jpegPhoto")
    assert schema.is_binary("objectSid")
    assert not schema.is_binary("cn")
    assert not schema.is_binary("userPassword")


async def test_a_directory_that_hides_its_schema_knows_every_attribute():
    async with serving(search=lambda _: [(done(50),)]) as stub:
        session = await opened(at(stub))
        schema = await ldap_schema.read(session)
        await session.close()
        assert schema.knows("anything")
        assert schema.is_binary("objectGUID")


async def test_a_connector_is_tested_within_five_seconds(directory):
    good = await check.connector("directory", spec.parse(directory.connector()))
    assert good.ok
    assert "it holds dc=corp,dc=local" in good.message
    bad = await check.connector("directory", spec.parse(directory.connector(bind_password="no")))
    assert (bad.ok, "wrong name or password" in bad.message) == (False, True)
    async with serving(silent=True) as stub:
        slow = at(stub, connect_timeout_seconds=30, receive_timeout_seconds=30)
        found = await check.connector("directory", spec.parse(slow))
        assert (found.ok, found.message) == (False, "no answer within 5 s")
        assert found.milliseconds < 6000


async def test_large_values_pass_and_larger_ones_are_refused():
    large = b"x" * 5_000_000
    async with serving(
        search=lambda _: [(entry_of("uid=a", {"uid": [large]}),), (done(),)]
    ) as stub:
        found = await everything(at(stub, receive_timeout_seconds=10))
        assert found[0].cells[0] == large
    async with serving(
        search=lambda _: [b"\x30\x84\x03\x00\x00\x00\x02\x01@id@" + b"x" * 1000]
    ) as stub:
        assert "at most 33554432 are taken" in (await refused(at(stub))).message
