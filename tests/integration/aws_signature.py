"""AWS Signature Version 4 from its description, as a server that checks it would compute it."""

import hashlib
import hmac
import re
from urllib.parse import parse_qsl, quote

HEADER = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)


def canonical(method, target, headers, signed, body, *, s3):
    """The canonical request; `headers` by lower-case name."""
    path, _, query = target.partition("?")
    if not s3:
        path = quote(path, safe="/~")  # once more than on the wire
    pairs = sorted(
        (quote(name, safe="~"), quote(value, safe="~"))
        for name, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    )
    return "\n".join(
        [
            method,
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(headers[name].split())}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(body).hexdigest(),
        ]
    )


def signature(request, date, region, service, secret):
    """The hex digest of a canonical request."""
    key = f"AWS4{secret}".encode()
    for part in (date[:8], region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"
    return hmac.digest(key, text.encode(), "sha256").hex()


def is_signed(received, secret, *, region, service):
    """Whether a request that came over the wire is signed with `secret`, host and body included."""
    headers = {name.lower(): value for name, value in received.headers}
    found = HEADER.fullmatch(headers["authorization"])
    assert found, headers["authorization"]
    _, day, in_region, for_service, names, given = found.groups()
    assert (in_region, for_service) == (region, service)
    signed = names.split(";")
    assert {"host", "x-amz-date"} <= set(signed)
    assert {name for name in headers if name.startswith("x-amz-")} <= set(signed)
    date = headers["x-amz-date"]
    assert date.startswith(day)
    request = canonical(
        received.method, received.target, headers, signed, received.body, s3=service == "s3"
    )
    return hmac.compare_digest(signature(request, date, region, service, secret), given)
