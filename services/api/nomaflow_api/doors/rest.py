"""The thin REST door: start a run of a job by one POST, for those who speak no GraphQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from nomaflow.errors import Code, NomaflowError
from nomaflow.job.spec import Problem, SpecErrors
from nomaflow_api import starting
from nomaflow_api.auth import Caller, Permission
from nomaflow_api.doors import body
from nomaflow_api.doors.body import Refused
from nomaflow_api.doors.failures import ApiCode
from nomaflow_api.doors.http import UNAUTHENTICATED
from nomaflow_api.doors.responses import answer

if TYPE_CHECKING:
    from starlette.requests import Request

    from nomaflow_api.auth import Doorkeeper
    from nomaflow_api.backing import Backing

STATUS = {
    Code.NOT_FOUND: 404,
    Code.BUSY: 409,
    Code.CONFLICT: 409,
    Code.FORBIDDEN: 403,
    Code.UNAVAILABLE: 503,
}
FIELDS = {
    "params": "params",
    "op_kwargs": "step_kwargs",
    "step_enabled": "step_enabled",
    "log_level": "log_level",
}
KEY = "Idempotency-Key"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class RestDoor:
    """`POST /admin/jobs/<name>/run` (seed 001, reference 1.13)."""

    def __init__(self, backing: Backing, doorkeeper: Doorkeeper) -> None:
        self._backing = backing
        self._doorkeeper = doorkeeper

    async def run(self, request: Request) -> Response:
        """Start a run and answer at once, 202, with its id."""
        try:
            caller = self._admit(request)
            name = request.path_params["name"]
            wish = await _wish(request) | _key(request)
            started = await starting.start(self._backing, caller, name, wish)
        except Refused as refused:
            code = ApiCode.UNAUTHENTICATED if refused.status == 401 else Code.INVALID  # noqa: PLR2004
            return answer(
                {"code": code.value, "message": refused.message}, refused.status, refused.headers
            )
        except SpecErrors as errors:
            return answer(_told(errors.problems), 422)
        except NomaflowError as error:
            return answer(
                {"code": error.code.value, "message": error.message}, STATUS.get(error.code, 422)
            )
        return answer(
            {
                "job_id": name,
                "run_id": str(started.run_id),
                "triggered_by": caller.word,
                "status": started.status.value,
            },
            202,
        )

    def _admit(self, request: Request) -> Caller:
        caller = self._doorkeeper.caller(request.headers)
        if caller is None:
            raise Refused(401, UNAUTHENTICATED, {"WWW-Authenticate": "Bearer"})
        if not caller.may(Permission.RUN):
            raise NomaflowError(Code.FORBIDDEN, "This needs the permission `run`.")
        # Whatever program knocks here, history calls it `api` (T01).
        return Caller(caller.principal)


async def _wish(request: Request) -> dict[str, Any]:
    raw = await body.read(request)
    if not raw.strip():
        return {}
    body.needs_json(request)
    given = body.parsed(raw)
    if not isinstance(given, dict):
        raise SpecErrors([Problem((), "the body must be a JSON object, or empty")])
    problems = [
        Problem((name,), f"there is no field `{name}`; there are {', '.join(FIELDS)}")
        for name in given
        if name not in FIELDS
    ]
    level = given.get("log_level")
    if level is not None and level not in LEVELS:
        problems.append(Problem(("log_level",), f"`log_level` must be one of {', '.join(LEVELS)}"))
    if problems:
        raise SpecErrors(problems)
    return {FIELDS[name]: value for name, value in given.items()}


def _key(request: Request) -> dict[str, str]:
    """Read the key that makes a repeated POST find its first run, bare or in quotation marks.

    The quotation marks are those of draft-ietf-httpapi-idempotency-key-header.
    """
    key = request.headers.get(KEY)
    if key is None:
        return {}
    bare = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    return {"idempotency_key": bare}


def _told(problems: tuple[Problem, ...]) -> dict[str, Any]:
    words = {inner: outer for outer, inner in FIELDS.items()} | {"idempotency_key": KEY}
    return {
        "code": problems[0].code.value,
        "message": "; ".join(problem.message for problem in problems),
        "errors": [
            {
                "code": problem.code.value,
                "message": problem.message,
                "path": [words.get(part, part) for part in problem.path],
            }
            for problem in problems
        ],
    }
