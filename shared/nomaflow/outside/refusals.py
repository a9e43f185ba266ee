"""What an API that refuses or does not answer is to whoever asked: a code, and a sentence."""

from __future__ import annotations

from typing import Any

import httpx

from nomaflow.errors import Code, NomaflowError
from nomaflow.outside.address import Address

JSON = dict[str, Any]

# The API's own codes of top-level errors, as the codes every other refusal has.
CODES = {
    "UNAUTHENTICATED": Code.FORBIDDEN,
    "FORBIDDEN": Code.FORBIDDEN,
    "BAD_USER_INPUT": Code.INVALID,
    "GRAPHQL_PARSE_FAILED": Code.INVALID,
    "GRAPHQL_VALIDATION_FAILED": Code.INVALID,
    "NOT_FOUND": Code.NOT_FOUND,
    "DEPTH_LIMIT": Code.LIMIT_EXCEEDED,
    "ALIAS_LIMIT": Code.LIMIT_EXCEEDED,
    "TOKEN_LIMIT": Code.LIMIT_EXCEEDED,
    "COST_LIMIT": Code.LIMIT_EXCEEDED,
    "RATE_LIMITED": Code.LIMIT_EXCEEDED,
}


class ClientError(NomaflowError):
    """The API refused or could not be reached; `reported` is its own word, "" when it said none."""

    def __init__(
        self, code: Code, message: str, path: tuple[str, ...] = (), *, reported: str = ""
    ) -> None:
        super().__init__(code, message, path)
        self.reported = reported


def data_of(place: Address, response: httpx.Response) -> JSON:
    """Read the `data` of an answer over HTTP; ClientError with the API's sentence."""
    answer = _decoded(response)
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise of_token(place)
    if answer is None:
        raise ClientError(
            Code.UNAVAILABLE,
            f"{place.graphql} answered {response.status_code} and no GraphQL. Is this the "
            "address of a Nomaflow API?",
        )
    if errors := answer.get("errors"):
        raise reported(place, errors)
    return dict(answer["data"])


def unreachable(place: Address, what: str) -> ClientError:
    """Say that nobody answers there."""
    return ClientError(
        Code.UNAVAILABLE,
        f"The API at {place.url} {what}. Is `nomaflow up` running? NOMAFLOW_URL or --url names "
        "another place.",
    )


def of_token(place: Address, reason: str = "") -> ClientError:
    """Say that the token is missing or not one of the API's."""
    if place.token is None:
        message = (
            f"The API at {place.url} wants a token and none was found: set NOMAFLOW_TOKEN, or "
            "name the home of a running `nomaflow up` with --home or NOMAFLOW_HOME."
        )
    else:
        why = f" ({reason})" if reason and reason != "Forbidden" else ""
        message = f"The API at {place.url} refused the token from {place.token_source}{why}."
    return ClientError(Code.FORBIDDEN, message, reported="UNAUTHENTICATED")


def reported(place: Address, errors: list[JSON]) -> ClientError:
    """Say what the API itself says of a request."""
    first = errors[0]
    word = str((first.get("extensions") or {}).get("code", ""))
    if word == "UNAUTHENTICATED":
        return of_token(place)
    return ClientError(
        CODES.get(word, Code.UNAVAILABLE),
        "\n".join(str(error["message"]) for error in errors),
        tuple(str(part) for part in first.get("path") or ()),
        reported=word,
    )


def _decoded(response: httpx.Response) -> JSON | None:
    try:
        answer = response.json()
    except ValueError:
        return None
    spoken = isinstance(answer, dict) and ("data" in answer or "errors" in answer)
    return answer if spoken else None


def located(problem: JSON) -> str:
    """Name the place of a mistake where the sentence alone may not tell it."""
    path = problem.get("path") or ()
    return f"{'.'.join(path)}: {problem['message']}" if len(path) > 1 else str(problem["message"])
