"""What a function may return, and what of it history takes (P08)."""

from workshop import working

RETURNS = {
    "none": ("None", {}, None),
    "count": ("7", {"rows_affected": 7}, 7),
    "zero": ("0", {"rows_affected": 0}, 0),
    "dict": ("{'a': [1, 'x', None]}", {"a": [1, "x", None]}, None),
    "counted": ("{'rows_affected': 3, 'b': 1}", {"rows_affected": 3, "b": 1}, 3),
    "text-count": ("{'rows_affected': 'many'}", {"rows_affected": "many"}, None),
    "true-count": ("{'rows_affected': True}", {"rows_affected": True}, None),
    "half-count": ("{'rows_affected': 2.5}", {"rows_affected": 2.5}, None),
    "no-count": ("{'rows_affected': None}", {"rows_affected": None}, None),
    "empty-key": ("{'': 1}", {"": 1}, None),
    "set": ("{'a': {1}}", {"a": [1]}, None),
    "large-number": ("{'a': 10**40}", {"a": 10**40}, None),
}
REFUSED = {
    "yes": ("True", "returned True; return a dict, a number of rows, or None"),
    "float": ("1.5", "returned a float"),
    "text": ("'done'", "returned a str"),
    "list": ("[1]", "returned a list"),
    "negative": ("-1", "-1 rows are no count of rows"),
    "huge": ("10**30", "so many rows are no count of rows: it is from 0 to 100000000000000"),
    "huge-counted": ("{'rows_affected': 10**30}", "no count of rows"),
    "negative-counted": ("{'rows_affected': -4}", "-4 rows"),
    "nan": ("{'a': float('nan')}", "nan at /a: JSON has no word for it"),
    "beyond-every-float": ("10**400", "no count of rows"),
    "beyond-every-text": ("10**5000", "4300 digits"),
    "number-key": ("{(1, 2): 1}", "keys are text"),
}
STEP = """
[[jobs.steps]]
name = "{0}"
type = "python"
callable = "gives:f"
kwargs = {{ what = "{1}" }}
continue_on_error = true
"""


async def test_what_counts_and_what_is_refused(shop):
    steps = [STEP.format(name, given[0]) for name, given in {**RETURNS, **REFUSED}.items()]
    source = "def f(ctx, *, what: str):\n    return eval(what)\n"
    await shop.declare('[[jobs]]\nname = "j"\n' + "".join(steps), **{"plugins__gives.py": source})
    async with working(shop):
        run = await shop.run("j", 60)
    found = {step["name"]: step for step in await shop.steps(run["id"])}
    for name, (_, output, rows) in RETURNS.items():
        step = found[name]
        assert (step["status"], step["output"] or {}, step["rows_affected"]) == (
            "succeeded",
            output,
            rows,
        ), name
    for name, (_, words) in REFUSED.items():
        step = found[name]
        assert step["status"] == "failed", name
        assert words in step["error"]["message"], step["error"]["message"]
    assert run["status"] == "partial"
    assert run["rows_affected"] == 10
    warned = "SELECT step, message FROM log_lines WHERE run_id = $1 AND level = 30"
    lines = {row["step"]: row["message"] for row in await shop.db.fetch(warned, run["id"])}
    assert set(lines) == {"text-count", "true-count", "half-count"}
    assert 'rows_affected = "many", which is no whole number' in lines["text-count"]
    assert "rows_affected = true," in lines["true-count"]
