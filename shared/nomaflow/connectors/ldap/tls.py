"""TLS for ldap3 that trusts no certificate unseen, which its own would."""

from __future__ import annotations

import ssl
from typing import Any

import ldap3

from nomaflow.connectors import trust
from nomaflow.connectors.ldap.connector import LdapSettings
from nomaflow.errors import StepError


class VerifiedTls(ldap3.Tls):  # type: ignore[misc]  # ldap3 has no types
    """TLS 1.2 or newer, the certificate and its host name verified.

    `refused` keeps the reason of a failure, of which ldap3 keeps the words only.
    """

    def __init__(self, settings: LdapSettings) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._host = settings.host
        self._context = None if settings.encryption == "none" else trust.context(settings.ca_file)
        self.refused: BaseException | None = None

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  ldap3's signature
        """Make the connection's socket one that is encrypted and verified by host name."""
        try:
            if self._context is None:
                raise StepError("this connection is not to be encrypted")
            connection.socket = self._context.wrap_socket(
                connection.socket, server_hostname=self._host
            )
        except Exception as error:
            self.refused = error
            raise
