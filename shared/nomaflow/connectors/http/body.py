"""Bodies of HTTP messages: what a step gives becomes bytes, what a server sends becomes values."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import httpx

from nomaflow.errors import StepError

_FORM = "application/x-www-form-urlencoded"
_HUGE = re.compile(rb"[eE]\+?[0-9]{3}|[0-9]{309}")
# Codecs of Python that are no character sets of the web, some of them slow on purpose-made input.
_NO_CHARSETS = frozenset(
    {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "utf_7", "undefined", "mbcs"}
)


def content(body: Any, kind: str | None) -> tuple[bytes | None, str | None]:
    """The bytes of a body under the content type `kind`, and the type to send when it is None."""
    match body:
        case None:
            return None, None
        case bytes():
            return body, None
        case str():
            return body.encode("utf-8", "replace"), None
        case Mapping() if kind is not None and kind.partition(";")[0].strip().lower() == _FORM:
            fields = {name: _form_value(value) for name, value in body.items()}
            return urlencode(fields, doseq=True).encode(), None
        case _:
            try:
                text = json.dumps(body, ensure_ascii=False, allow_nan=False, default=str)
            except (TypeError, ValueError, RecursionError) as error:
                raise StepError(f"the body has no JSON form: {error}", retryable=False) from None
            return text.encode("utf-8", "replace"), "application/json"


def decoded(fields: httpx.Headers, data: bytes) -> tuple[Any, str | None]:
    """JSON where the answer says so, else text; None for no body, bytes for what is no text.

    Beside it, why an answer that says it is JSON is none: it is then handed on as its text.
    """
    kind = fields.get("content-type", "").partition(";")[0].strip().lower()
    if not data:
        return (None if kind != "text/plain" else ""), None
    broken = None
    if kind in {"", "application/json"} or kind.endswith("+json"):
        try:
            return _parsed(data), None
        except (ValueError, RecursionError) as error:
            broken = "nested too deep" if isinstance(error, RecursionError) else str(error)
    return _text(fields, data), broken if kind else None


def _text(fields: httpx.Headers, data: bytes) -> str | bytes:
    for charset in dict.fromkeys((_charset(fields), "utf-8-sig")):
        try:
            return data.decode(charset)
        except (UnicodeDecodeError, LookupError):
            continue
    return data


def _form_value(value: Any) -> Any:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return [_form_value(part) for part in value]
        case _:
            return str(value)


def _charset(fields: httpx.Headers) -> str:
    """The named character set as Python calls it; UTF-8 when there is none, or none we read."""
    named = httpx.Response(200, headers=fields).charset_encoding or ""
    try:
        known = codecs.lookup(named).name.replace("-", "_")
    except LookupError:
        return "utf-8-sig"
    return "utf-8-sig" if known in _NO_CHARSETS or known.startswith("utf_8") else known


def _parsed(data: bytes) -> Any:
    # A function for every number is dear: only where one may be too large for any.
    numbers = _finite if _HUGE.search(data) else None
    return json.loads(data, parse_constant=_not_json, parse_float=numbers)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text:.20} is too large a number")
    return number


def _not_json(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
