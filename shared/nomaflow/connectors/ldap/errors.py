"""A directory's refusals in sentences, and whether asking again could help."""

from __future__ import annotations

import ssl

from nomaflow.connectors.ldap.ber import Result
from nomaflow.errors import Category, StepError

SUCCESS = 0
_TIME_LIMIT, _SIZE_LIMIT, _ADMIN_LIMIT = 3, 4, 11
_REFERRAL, _NO_SUCH_OBJECT, _BAD_CREDENTIALS = 10, 32, 49
_NAMES = {
    1: "operationsError",
    2: "protocolError",
    3: "timeLimitExceeded",
    4: "sizeLimitExceeded",
    7: "authMethodNotSupported",
    8: "strongerAuthRequired",
    10: "referral",
    11: "adminLimitExceeded",
    12: "unavailableCriticalExtension",
    13: "confidentialityRequired",
    16: "noSuchAttribute",
    17: "undefinedAttributeType",
    18: "inappropriateMatching",
    21: "invalidAttributeSyntax",
    32: "noSuchObject",
    34: "invalidDNSyntax",
    48: "inappropriateAuthentication",
    49: "invalidCredentials",
    50: "insufficientAccessRights",
    51: "busy",
    52: "unavailable",
    53: "unwillingToPerform",
    80: "other",
}
# What may pass by itself: limits of time, a busy server, one that is going down.
_PASSING: dict[int, Category] = {
    1: "error",
    _TIME_LIMIT: "timeout",
    _ADMIN_LIMIT: "error",
    51: "connection",
    52: "connection",
    80: "error",
}


def named(code: int) -> str:
    """`noSuchObject (32)`."""
    return f"{_NAMES.get(code, 'result')} ({code})"


def bind_refused(where: str, dn: str | None, code: int, said: str) -> StepError:
    """The directory does not let us in; only a busy one is asked again."""
    who = f"as {dn!r}" if dn else "without a name"
    what = "wrong name or password" if code == _BAD_CREDENTIALS else named(code)
    words = f"{where} refused the bind {who}: {what}{_quoted(said)}"
    category = _PASSING.get(code)
    return StepError(words, category=category or "error", retryable=category is not None)


def search_ended(where: str, base: str, result: Result, entries: int) -> StepError:
    """A search that did not end in success: what came before is not all there is."""
    said = _quoted(result.message)
    match result.code:
        case 3 | 4 | 11:
            words = (
                f"{where} stopped the search after {entries} entries: {named(result.code)}{said}; "
                "a part of the entries is no answer, so nothing was changed. Let the directory "
                "give this reader all of them, or search for fewer"
            )
        case 10:
            # Following would send our password wherever the answer says.
            to = f" to {', '.join(result.referrals)}" if result.referrals else ""
            words = f"{where} refers {base!r}{to}; referrals are not followed, name that server"
        case 32:
            near = f"; the nearest there is: {result.matched!r}" if result.matched else ""
            words = f"{where} has no entry {base!r} (or hides it from this reader){near}"
        case _:
            words = f"{where} refused the search under {base!r}: {named(result.code)}{said}"
    category = _PASSING.get(result.code)
    return StepError(words, category=category or "error", retryable=category is not None)


def disconnected(where: str, said: str) -> StepError:
    """The directory ended the connection and said so (RFC 4511 section 4.4.1)."""
    return StepError(f"{where} ended the connection{_quoted(said)}", category="connection")


def not_ldap(where: str, why: str) -> StepError:
    """What came is no answer of a directory."""
    return StepError(f"{where} answered what is not LDAP: {why}", category="connection")


def of_network(where: str, doing: str, error: BaseException) -> StepError:
    """A failure below LDAP: the network, or a certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message if hasattr(error, "verify_message") else str(error)
        return StepError(
            f"{where} showed a certificate that cannot be trusted: {why}; give the authority that "
            "signed it in `ca_file`, and the host by the name in the certificate",
            category="connection",
            retryable=False,
        )
    if isinstance(error, ssl.SSLError):
        words = f"{where} cannot speak TLS with us: {error.reason or error}"
        return StepError(words, category="connection")
    if isinstance(error, TimeoutError | BlockingIOError):
        return StepError(f"{where} did not answer in time while {doing}", category="timeout")
    # ldap3 keeps the words of the system's error only.
    system = error.strerror if isinstance(error, OSError) else None
    why = system or str(error).rpartition("] ")[2] or type(error).__name__
    return StepError(f"{where} failed while {doing}: {why}", category="connection")


def _quoted(said: str) -> str:
    return f" ({said[:300]})" if said else ""
