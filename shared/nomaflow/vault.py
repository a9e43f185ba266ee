"""Secrets at rest: sealed with the installation's key, opened with any key it ever had."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from functools import cached_property

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from nomaflow.errors import Code, NomaflowError

SHORTEST_KEY = 16
_FERNET_BYTES = 32
_SALT = b"nomaflow connectors"


class Vault:
    """Seals with the first key, opens with each (MultiFernet: AES-CBC and HMAC).

    A key is 32 bytes in base64 as `Fernet.generate_key` makes them, or any text of 16 characters
    or more, from which such a key is derived (scrypt, RFC 7914).
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def of(cls, setting: str | None) -> Vault:
        """The vault of NOMAFLOW_SECRET_KEY: keys separated by commas, the newest first."""
        return cls(split(setting or ""))

    def __repr__(self) -> str:
        return f"<Vault with {len(self._keys)} keys>"

    def seal(self, owner: str, secrets: Mapping[str, str]) -> str:
        """Encrypt; what is sealed for one owner opens for no other. INVALID without a key."""
        plain = json.dumps({"owner": owner, "secrets": dict(secrets)})
        return self._locks.encrypt(plain.encode()).decode()

    def open(self, owner: str, sealed: str) -> dict[str, str]:
        """Decrypt; INVALID_STATE when none of the keys fits or it was sealed for another owner."""
        try:
            plain = json.loads(self._locks.decrypt(sealed.encode()))
        except (InvalidToken, UnicodeEncodeError):
            plain = {}
        if plain.get("owner") != owner:
            raise NomaflowError(
                Code.INVALID_STATE,
                f"the secrets of `{owner}` were encrypted with a key that NOMAFLOW_SECRET_KEY does "
                "not hold; add that key behind the new one, or give the secrets again",
            )
        return dict(plain["secrets"])

    def is_current(self, sealed: str) -> bool:
        """Whether it was sealed with the first key."""
        try:
            self._each[0].decrypt(sealed.encode())
        except (InvalidToken, UnicodeEncodeError):
            return False
        return True

    @cached_property
    def _each(self) -> list[Fernet]:
        if not self._keys:
            raise NomaflowError(
                Code.INVALID_STATE,
                "NOMAFLOW_SECRET_KEY is not set, so connectors made through the API can keep no "
                "secrets; set the same one for the API and for every worker",
            )
        return [Fernet(_fernet_key(key)) for key in self._keys]

    @cached_property
    def _locks(self) -> MultiFernet:
        return MultiFernet(self._each)


def split(setting: str) -> tuple[str, ...]:
    """The keys of a setting."""
    return tuple(part.strip() for part in setting.split(",") if part.strip())


def _fernet_key(key: str) -> bytes:
    try:
        if len(base64.urlsafe_b64decode(key)) == _FERNET_BYTES:
            return key.encode()
    except (ValueError, binascii.Error):
        pass
    derived = Scrypt(salt=_SALT, length=_FERNET_BYTES, n=2**14, r=8, p=1).derive(key.encode())
    return base64.urlsafe_b64encode(derived)
