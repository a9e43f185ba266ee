"""A real OpenLDAP for the tests: private, on loopback ports, with TLS, limits and 2 500 people."""

import contextlib
import datetime as dt
import ipaddress
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BASE = "dc=corp,dc=local"
PEOPLE = f"ou=people,{BASE}"
GROUPS = f"ou=groups,{BASE}"
ADMIN = f"cn=admin,{BASE}"
ADMIN_PASSWORD = "admin-secret-of-the-test"
READER = f"cn=reader,ou=services,{BASE}"
READER_PASSWORD = "reader-secret-of-the-test"
CURBED = f"cn=curbed,ou=services,{BASE}"
"""A reader whose paged searches the server stops after 1 000 entries in all."""
USERS = 2_500
_START_SECONDS = 20.0

# What Active Directory has and OpenLDAP lacks; memberOf as a plain attribute, so that a test
# says its values.
_SCHEMA = """
attributetype ( 1.3.6.1.4.1.4203.666.11.99.1 NAME 'objectGUID'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.4203.666.11.99.2 NAME 'objectSid'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.4203.666.11.99.3 NAME 'memberOf'
  EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 )
attributetype ( 1.3.6.1.4.1.4203.666.11.99.4 NAME 'logonCount'
  EQUALITY integerMatch ORDERING integerOrderingMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.4203.666.11.99.5 NAME 'isAbsent'
  EQUALITY booleanMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.7 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.4203.666.11.99.10 NAME 'adLike' SUP top AUXILIARY
  MAY ( objectGUID $ objectSid $ memberOf $ logonCount $ isAbsent ) )
"""

_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include {home}/local.schema
modulepath /usr/lib/ldap
moduleload back_mdb.la
TLSCACertificateFile {home}/ca.pem
TLSCertificateFile {home}/server.pem
TLSCertificateKeyFile {home}/server.key
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw {admin_password}
directory {home}/data
maxsize 1073741824
dbnosync
index objectClass,uid eq
limits dn.exact="{reader}" size=500 size.pr=5000 size.prtotal=unlimited
limits dn.exact="{curbed}" size=500 size.pr=1000 size.prtotal=1000
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="ou=closed,{base}" by * none
access to * by users read by anonymous auth
"""

_HEAD = f"""
dn: {BASE}
objectClass: domain
dc: corp

dn: {PEOPLE}
objectClass: organizationalUnit
ou: people

dn: {GROUPS}
objectClass: organizationalUnit
ou: groups

dn: ou=services,{BASE}
objectClass: organizationalUnit
ou: services

dn: {READER}
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: reader
userPassword: {READER_PASSWORD}

dn: {CURBED}
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: curbed
userPassword: {READER_PASSWORD}
"""


@dataclass
class Directory:
    """A running slapd, and hands to change what it holds."""

    home: Path
    port: int
    tls_port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    @property
    def ca_file(self) -> str:
        """The certificate that signed the server's own, which names 127.0.0.1 only."""
        return str(self.home / "ca.pem")

    def connector(self, **changes: object) -> dict[str, object]:
        """A table of connectors.toml for the reader."""
        table = {
            "kind": "ldap",
            "url": self.url,
            "bind_dn": READER,
            "bind_password": READER_PASSWORD,
        }
        return {**table, **changes}

    def change(self, ldif: str) -> None:
        """Apply changes in LDIF as the administrator."""
        _tool(["ldapmodify", "-x", "-H", self.url, "-D", ADMIN, "-w", ADMIN_PASSWORD], ldif)

    def add(self, ldif: str) -> None:
        _tool(["ldapadd", "-x", "-H", self.url, "-D", ADMIN, "-w", ADMIN_PASSWORD], ldif)

    def delete(self, *dns: str) -> None:
        _tool(
            ["ldapdelete", "-x", "-H", self.url, "-D", ADMIN, "-w", ADMIN_PASSWORD, *dns],
        )

    def start(self) -> None:
        """Start it on its ports and wait until it listens."""
        urls = f"{self.url}/ {self.tls_url}/"
        self.process = subprocess.Popen(
            [str(self.home / "slapd"), "-d", "0", "-f", str(self.home / "slapd.conf"), "-h", urls],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + _START_SECONDS
        while time.monotonic() < give_up and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.01)
        self.stop()
        pytest.fail("slapd does not start; see it with `slapd -d 1`")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


def _tool(command: list[str], said: str = "") -> None:
    done = subprocess.run(command, input=said.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def missing_programs() -> str | None:
    """Why no directory can be started here, or None."""
    if shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        return "OpenLDAP is not installed (Debian: apt install slapd ldap-utils)"
    if shutil.which("ldapmodify") is None:
        return "the tools of OpenLDAP are not installed (Debian: apt install ldap-utils)"
    return None


def refuse(reason: str) -> None:
    """Skip the test, or fail it where CI is set."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def person(number: int) -> str:
    """One person in LDIF; every tenth has no mail, every fourth has three numbers."""
    uid = f"u{number:05}"
    lines = [
        f"dn: uid={uid},{PEOPLE}",
        "objectClass: inetOrgPerson",
        "objectClass: adLike",
        f"uid: {uid}",
        f"cn: Person {number}",
        f"sn: Surname {number % 977}",
        f"givenName: Given {number % 389}",
        f"employeeNumber: {number}",
        f"departmentNumber: {number % 40}",
        f"title: Title {number % 25}",
        f"l: Town {number % 60}",
        f"logonCount: {number * 7}",
    ]
    if number % 10:
        lines.append(f"mail: {uid}@corp.example")
    numbers = 3 if number % 4 == 0 else 1
    lines += [f"telephoneNumber: +33 1 {number:06} {at}" for at in range(numbers)]
    return "\n".join(lines) + "\n\n"


def groups(count: int, large: int = 5) -> str:
    """Groups in LDIF: the first `large` of 5 000 members, the others of three."""
    made = []
    for number in range(count):
        size = 5_000 if number < large else 3
        members = "\n".join(f"member: uid=u{n:05},{PEOPLE}" for n in range(1, size + 1))
        made.append(
            f"dn: cn=g{number},{GROUPS}\nobjectClass: groupOfNames\ncn: g{number}\n{members}\n"
        )
    return "\n".join(made) + "\n"


def build(home: Path, users: int = USERS, extra: str = "") -> Directory:
    """Make configuration, certificates and data in `home`; nothing runs yet."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "data").mkdir()
    (home / "local.schema").write_text(_SCHEMA)
    certificates(home)
    # A system with AppArmor lets /usr/sbin/slapd read its own folders only.
    program = shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    shutil.copy(program, home / "slapd")
    facts = {"admin": ADMIN, "admin_password": ADMIN_PASSWORD, "reader": READER, "curbed": CURBED}
    (home / "slapd.conf").write_text(_CONFIG.format(home=home, base=BASE, **facts))
    with (home / "data.ldif").open("w") as file:
        file.write(_HEAD + "\n")
        for number in range(1, users + 1):
            file.write(person(number))
        file.write(extra)
    loading = [str(home / "slapd"), "-T", "add", "-q", "-f", str(home / "slapd.conf")]
    _tool([*loading, "-l", str(home / "data.ldif")])
    (home / "data.ldif").unlink()
    return Directory(home, *_free_ports())


def certificates(home: Path) -> None:
    """An authority, and a certificate of its making that names 127.0.0.1 and nothing else."""
    now = dt.datetime.now(dt.UTC)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "directory of the tests")])

    def certificate(
        subject: x509.Name, public: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
        )

    signed = (
        certificate(authority, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    served = (
        certificate(name, key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    (home / "ca.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (home / "server.pem").write_bytes(served.public_bytes(serialization.Encoding.PEM))
    (home / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@contextlib.contextmanager
def running(users: int = USERS, extra: str = "") -> Iterator[Directory]:
    """A directory of its own until the block ends."""
    home = Path(tempfile.mkdtemp(prefix="nomaflow-slapd-", dir="/tmp"))
    try:
        made = build(home / "made", users, extra)
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def directory() -> Iterator[Directory]:
    """A slapd with 2 500 people, for this test alone: change what you like."""
    if reason := missing_programs():
        refuse(reason)
    with running() as made:
        yield made
