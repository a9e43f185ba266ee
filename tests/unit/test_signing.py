"""Signatures against the examples that AWS publishes.

The suite `aws-sig-v4-test-suite`, and "Signature Calculations for the Authorization Header" of
the Amazon S3 API Reference.
"""

import datetime as dt
import hashlib

import aws_signature
import httpx
import httpx_auth._aws
import pytest

from nomaflow.connectors.http import signing
from nomaflow.connectors.http.auth import AwsSigV4Auth

SUITE_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
S3_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
S3_URL = "https://examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("method", "target", "kind", "body", "expected"),
    [
        ("GET", "/", None, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            None,
            b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "POST",
            "/",
            None,
            b"",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "POST",
            "/",
            "application/x-www-form-urlencoded",
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)
def test_the_checker_of_our_tests_agrees_with_the_suite(method, target, kind, body, expected):
    headers = {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z"}
    if kind:
        headers["content-type"] = kind
    request = aws_signature.canonical(method, target, headers, sorted(headers), body, s3=False)
    found = aws_signature.signature(
        request, headers["x-amz-date"], "us-east-1", "service", SUITE_SECRET
    )
    assert found == expected


@pytest.fixture
def in_2013(monkeypatch):
    class Then(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2013, 5, 24, tzinfo=tz)

    class Clock:
        datetime, timezone = Then, dt.timezone

    monkeypatch.setattr(httpx_auth._aws, "datetime", Clock)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/?max-keys=2&prefix=J",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_requests_are_signed_as_in_the_examples_of_s3(in_2013, url, expected):
    request = httpx.Request("GET", S3_URL + url)
    auth = AwsSigV4Auth(
        type="aws_sigv4",
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key=S3_SECRET,
        region="us-east-1",
        service="s3",
    )
    signing.sign(request, auth)
    assert request.headers["x-amz-date"] == "20130524T000000Z"
    assert request.headers["x-amz-content-sha256"] == hashlib.sha256(b"").hexdigest()
    assert request.headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={expected}"
    )
