"""Servers whose certificate or protocol is not to be trusted hear no secret (SEC-N12, SEC-L03)."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ldap_stub import done, said, serving

from nomaflow.connectors import check, spec

SECRET = "never-on-this-wire"
NOW = dt.datetime.now(dt.UTC)


@dataclass
class Authority:
    """Signs certificates for loopback."""

    folder: Path
    name: str

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        self.file = self.folder / f"{self.name}.pem"
        made = self._signed(self.subject, self.key, -1, 30, authority=True)
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def server(self, *, host: str = "127.0.0.1", begins: int = -1, ends: int = 30) -> Path:
        """A key and a certificate that is good from `begins` to `ends`, in days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        made = self._signed(subject, key, begins, ends, host=host)
        path = self.folder / f"{self.name}-{host}-{begins}-{ends}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + made.public_bytes(serialization.Encoding.PEM)
        )
        return path

    def _signed(self, subject, key, begins, ends, *, host=None, authority=False):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + dt.timedelta(days=begins))
            .not_valid_after(NOW + dt.timedelta(days=ends))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if host is not None:
            try:
                name = x509.IPAddress(ipaddress.ip_address(host))
            except ValueError:
                name = x509.DNSName(host)
            builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "ours")


@contextlib.asynccontextmanager
async def listening(pem: Path, most: ssl.TLSVersion | None = None):
    """A TLS server that keeps every byte it could decrypt."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    if most is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = most
        context.set_ciphers("ALL:@SECLEVEL=0")
    heard = bytearray()

    async def hear(reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65536):
                heard.extend(data)
        writer.close()

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # handshakes that fail
    server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()


def connectors(port, ca_file):
    url = f"127.0.0.1:{port}"
    http = {"kind": "http", "url": f"https://{url}", "auth": {"type": "bearer", "token": SECRET}}
    ldap = {"kind": "ldap", "url": f"ldaps://{url}", "bind_dn": "cn=x", "bind_password": SECRET}
    for table in (http, ldap):
        yield spec.parse({**table, "ca_file": str(ca_file)})


CASES = {
    "expired": ({"begins": -30, "ends": -1}, "expired"),
    "not yet valid": ({"begins": 1, "ends": 30}, "not yet valid"),
    "another host": ({"host": "example.com"}, "not valid for '127.0.0.1'"),
    "another address": ({"host": "127.0.0.2"}, "not valid for '127.0.0.1'"),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_certificate_that_does_not_hold_is_refused(authority, case):
    asked, words = CASES[case]
    async with listening(authority.server(**asked)) as (port, heard):
        for connector in connectors(port, authority.file):
            found = await check.connector("it", connector)
            assert (found.ok, words in found.message) == (False, True), found.message
        assert heard == b""


async def test_another_authoritys_word_counts_for_nothing(authority, tmp_path):
    other = Authority(tmp_path, "theirs")
    async with listening(other.server()) as (port, heard):
        for connector in connectors(port, authority.file):
            found = await check.connector("it", connector)
            assert not found.ok
            assert "certificate" in found.message.lower()
        assert heard == b""


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_protocols_that_are_broken_are_not_spoken(authority, most):
    async with listening(authority.server(), most) as (port, heard):
        for connector in connectors(port, authority.file):
            found = await check.connector("it", connector)
            assert not found.ok
            assert any(word in found.message.upper() for word in ("TLS", "SSL")), found.message
        assert heard == b""


async def test_a_good_certificate_is_spoken_to(authority):
    async with listening(authority.server()) as (port, heard):
        for connector in connectors(port, authority.file):
            await check.connector("it", connector)
        assert SECRET.encode() in heard


@pytest.mark.parametrize("code", [1, 2, 52, 80])
async def test_a_start_of_tls_that_is_refused_ends_it_before_the_bind(code):
    """Whoever sits in the middle and says no must not hear the password (RFC 4513 3.1.5)."""

    async def refuse(self, raw, writer):
        if b"1.3.6.1.4.1.1466.20037" in raw:
            writer.write(said(raw[4], done(code, said="no", tag=0x78)))
            return True
        return await real(self, raw, writer)

    async with serving(search=lambda _: [(done(),)]) as stub:
        real = type(stub).answer
        stub.answer = refuse.__get__(stub)
        table = {"kind": "ldap", "url": stub.url, "bind_dn": "cn=x", "bind_password": SECRET}
        found = await check.connector("it", spec.parse({**table, "start_tls": True}))
        assert not found.ok
        assert "TLS" in found.message
        assert stub.binds == []


async def test_words_slipped_in_before_tls_are_not_taken_for_the_servers():
    """A yes to TLS and a yes to the bind in one breath, both in the clear."""

    async def both(self, raw, writer):
        if b"1.3.6.1.4.1.1466.20037" in raw:
            number = raw[4]
            yes = said(number, done(0, tag=0x78)) + said(number + 1, done(0, tag=0x61))
            writer.write(yes)
            return True
        return await real(self, raw, writer)

    async with serving(search=lambda _: [(done(),)]) as stub:
        real = type(stub).answer
        stub.answer = both.__get__(stub)
        table = {"kind": "ldap", "url": stub.url, "bind_dn": "cn=x", "bind_password": SECRET}
        found = await check.connector("it", spec.parse({**table, "start_tls": True}))
        assert not found.ok
        assert stub.binds == []
