"""The jobs that scenarios run, as the text of a jobs.toml."""

import json


def job(name: str, *steps: str, **more: object) -> str:
    """A job of which any number may run at the same time."""
    return _table("jobs", name=name, **{"overlap": "allow", **more}) + "".join(steps)


def http(name: str, seconds: float, **more: object) -> str:
    """Have the judge work for so long."""
    url = f"${{env:JUDGE}}/${{ctx:run_id}}/{name}?seconds={seconds}"
    return _table("jobs.steps", name=name, type="http", url=url, **more)


def sql(name: str, query: str, **more: object) -> str:
    """A statement on the service's own server, as a job would send it."""
    return _table(
        "jobs.steps", name=name, type="sql_query", connector="default", query=query, **more
    )


def copy(name: str, query: str, table: str) -> str:
    """A copy of what a query answers into a table of the service's own server."""
    return _table(
        "jobs.steps",
        name=name,
        type="sql_copy",
        mode="append",
        source={"connector": "default", "query": query},
        target={"connector": "default", "schema": "public", "table": table},
    )


def python(name: str, deed: str = "work", **more: object) -> str:
    """A function of `deeds`, in a child process; `seconds` is how long `work` takes."""
    kwargs = {"step": name, "seconds": more.pop("seconds", 0)}
    return _table(
        "jobs.steps",
        name=name,
        type="python",
        callable=f"deeds:{deed}",
        env=["JUDGE_PORT"],
        **more,
    ) + _table("jobs.steps.kwargs", **kwargs)


def _table(kind: str, /, **fields: object) -> str:
    head = f"[[{kind}]]" if kind in {"jobs", "jobs.steps"} else f"[{kind}]"
    lines = [head, *(f"{key} = {_value(value)}" for key, value in fields.items()), ""]
    return "\n".join(lines)


def _value(value: object) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_value(part)}" for key, part in value.items())
        return f"{{ {inner} }}"
    return json.dumps(value)
