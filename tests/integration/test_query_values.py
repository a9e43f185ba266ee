"""Values of every kind that a query may answer with: later steps and history take them (Q04)."""

import pytest
from workshop import working

VALUES = {
    "nan": "'NaN'::numeric",
    "infinite": "'Infinity'::float8",
    "less": "'-Infinity'::numeric",
    "vast": "1e1000::numeric",
    "fine": "1e-300::numeric",
    "long": "repeat('9', 400)::numeric",
    "late": "'infinity'::timestamptz",
    "early": "'-infinity'::date",
    "leap": "'2016-12-31 23:59:60'::timestamptz",
    "zoned": "'10:00+02'::timetz",
    "bytes": "'\\x00ff'::bytea",
    "span": "'1 year 2 mons 3 days'::interval",
    "list": "ARRAY[1, NULL, 3]",
    "nested": "ARRAY[[1, 2], [3, 4]]",
    "empty": "'{}'::text[]",
    "range": "int4range(1, 5)",
    "multirange": "'{[1,2], [5,7)}'::int4multirange",
    "row": "ROW(1, 'a')",
    "address": "'10.0.0.1/8'::inet",
    "card": "'08:00:2b:01:02:03'::macaddr",
    "money": "12.34::money",
    "bits": "B'10110101101'",
    "words": "to_tsvector('a fat cat')",
    "point": "point(1, 2)",
    "box": "box(point(1, 2), point(3, 4))",
    "json": "'{\"b\": [1, 1e400]}'::jsonb",
    "text_json": '\'{"a": 1, "a": 2}\'::json',
    "path": "'$.a'::jsonpath",
    "uuid": "'00000000-0000-0000-0000-000000000001'::uuid",
    "oid": "'pg_class'::regclass",
    "letters": "U&'\\202e\\fffe' || chr(27) || '[31m'",
    "void": "pg_sleep(0)",
    "truth": "true",
    "nothing": "NULL",
    "lsn": "'0/0'::pg_lsn",
    "snapshot": "pg_current_snapshot()",
}
TOLD = {
    "nan": "NaN",
    "infinite": "Infinity",
    "less": "-Infinity",
    "late": "infinity",
    "bytes": "\\x00ff",
    "nested": [[1, 2], [3, 4]],
    "multirange": ["[1,3)", "[5,7)"],
    "address": "10.0.0.1/8",
    "bits": "10110101101",
    "letters": "\u202e\ufffe\x1b[31m",
    "nothing": None,
}
UNREADABLE = {
    "ancient": "'4713-01-01 BC'::date",
    "midnight": "'24:00'::time",
    "far": "'294276-12-31'::timestamptz",
}
JOB = """
[[jobs]]
name = "odd"
"""
STEP = """
[[jobs.steps]]
name = "{name}"
type = "sql_query"
connector = "default"
query = '''SELECT {sql} AS v'''
fetch = "all"
continue_on_error = true
[[jobs.steps]]
name = "{name}-next"
type = "python"
callable = "looks:look"
kwargs = {{ step = "{name}" }}
continue_on_error = true
"""
LOOK = """
def look(ctx, *, step: str):
    output = ctx.previous_step(step).output
    return {"seen": repr(output["rows"][0]["v"])[:200]}
"""


@pytest.mark.timeout(240)
async def test_every_kind_of_value_arrives(shop):
    steps = [STEP.format(name=name, sql=sql) for name, sql in {**VALUES, **UNREADABLE}.items()]
    await shop.declare(JOB + "".join(steps), **{"plugins__looks.py": LOOK})
    async with working(shop):
        run = await shop.run("odd", 200)
    found = {step["name"]: step for step in await shop.steps(run["id"])}
    for name in VALUES:
        for step in (found[name], found[f"{name}-next"]):
            assert step["status"] == "succeeded", (name, (step["error"] or {}).get("message"))
        if name in TOLD:
            assert found[name]["output"]["rows"] == [{"v": TOLD[name]}]
            assert found[f"{name}-next"]["output"]["seen"] == repr(TOLD[name])
    for name in UNREADABLE:
        assert "select it as text, `column::text`" in found[name]["error"]["message"]
        assert found[name]["tries"] == 1
    assert run["status"] == "partial", run["reason"]
