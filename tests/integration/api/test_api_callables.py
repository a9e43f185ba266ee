"""The list of functions that a form offers, and a circle of jobs refused as data."""

import asyncio

CALLABLES = "{ callables { callable summary isAsync parameters } }"
CREATE = """mutation ($input: JobInput!) { jobCreate(input: $input) {
  job { name } errors { code message path } } }"""


async def test_functions_are_listed_without_being_imported(api, project):
    (project / "plugins" / "reports.py").write_text(
        "raise SystemExit\n\n\nasync def send(ctx, *, day: str, copies: int = 1, **_):\n"
        '    """Send one report."""\n'
    )
    (project / "plugins" / "broken.py").write_text("def f(:")
    assert (await api.query(CALLABLES))["callables"] == [
        {
            "callable": "reports:send",
            "summary": "Send one report.",
            "isAsync": True,
            "parameters": [
                {"name": "day", "annotation": "str", "required": True, "default": None},
                {"name": "copies", "annotation": "int", "required": False, "default": 1},
            ],
        }
    ]
    (project / "plugins" / "reports.py").unlink()
    assert (await api.query(CALLABLES))["callables"] == []


async def test_a_circle_is_refused_as_data(api):
    step = {"name": "again", "type": "call_job", "config": {"job": "a"}}
    answer = (await api.query(CREATE, input={"name": "a", "steps": [step]}))["jobCreate"]
    assert answer == {
        "job": None,
        "errors": [
            {
                "code": "CYCLE",
                "message": "jobs would call each other in a circle: `a` → `a`",
                "path": ["steps", "0", "job"],
            }
        ],
    }


async def test_a_function_that_is_not_there_is_told_at_once(api, project):
    problems = "{ catalogProblems { file line path message } }"
    step = {"name": "send", "type": "python", "config": {"callable": "reports:send"}}
    answer = (await api.query(CREATE, input={"name": "a", "steps": [step]}))["jobCreate"]
    assert answer == {"job": {"name": "a"}, "errors": []}
    assert (await api.query(problems))["catalogProblems"] == [
        {
            "file": "(API)",
            "line": None,
            "path": ["jobs", "a", "steps", "0", "callable"],
            "message": "job `a`: step `send`: `reports:send`: there is neither reports.py nor "
            "reports/__init__.py under plugins/",
        }
    ]
    await api.query('mutation { jobDelete(name: "a") { name } }')
    assert (await api.query(problems))["catalogProblems"] == []
    assert (await api.query(CREATE, input={"name": "b", "steps": [step]}))["jobCreate"]["job"]
    assert len((await api.query(problems))["catalogProblems"]) == 1
    (project / "plugins" / "reports.py").write_text("def send(ctx): ...")
    async with asyncio.timeout(15):
        while (await api.query(problems))["catalogProblems"]:
            await asyncio.sleep(0.05)
