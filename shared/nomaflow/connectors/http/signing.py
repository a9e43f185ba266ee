"""AWS Signature Version 4: a request is signed with its host, path, query, body and headers."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

import httpx
from httpx_auth import AWS4Auth

from nomaflow.connectors.http.auth import AwsSigV4Auth

SIGNED = ("authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token")


def sign(request: httpx.Request, auth: AwsSigV4Auth) -> None:
    """Add the signature's headers to `request`, whose body is in memory."""
    signer = AWS4Auth(
        auth.access_key,
        auth.secret_key,
        auth.region,
        auth.service,
        security_token=auth.session_token or None,
    )
    # What is sent is spelt as what is signed: a space is %20, and in S3 a plus of the path is %2B.
    path, mark, query = request.url.raw_path.partition(b"?")
    query = query.replace(b"+", b"%20")
    is_s3 = auth.service.lower() == "s3"
    if is_s3:
        path = quote(unquote_to_bytes(path), safe="/~").encode()
    request.url = request.url.copy_with(raw_path=path + mark + query)
    # Everywhere but in S3 the path is encoded twice in what is signed; the signer encodes the
    # decoded path once, so it is shown the path in a form that decodes to the one on the wire.
    if not is_s3:
        path = quote(path, safe="/~").encode()
    shown = httpx.Request(
        request.method,
        request.url.copy_with(raw_path=path + mark + query),
        headers=request.headers,
        content=request.content,
    )
    next(signer.auth_flow(shown))
    for name in SIGNED:
        if name in shown.headers:
            request.headers[name] = shown.headers[name]
