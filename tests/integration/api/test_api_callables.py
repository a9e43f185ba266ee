"""The list of functions that a form offers, and a circle of jobs refused as data."""

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
