"""Seed 002's job, as the seed wrote it: a named query, then Python for the month before."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest


@pytest.fixture(scope="module")
def up(start, example, make_database):
    project = example("billing")
    installation = start(project)
    (project / ".env").write_text(f"BILLING_DB_URL={make_database(installation, 'billing')}\n")
    return installation


async def test_the_period_is_last_month(up):
    run = await up.ended(await up.trigger("billing-nightly-rebuild"))

    assert run["status"] == "SUCCEEDED", run
    started = datetime.fromisoformat(run["startedAt"]).astimezone(ZoneInfo("Europe/Paris"))
    period = (started.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    assert run["steps"][1]["input"]["kwargs"] == {"period": period}
    assert run["steps"][1]["output"] == {"period": period, "rows_affected": 2}
    assert run["rowsAffected"] == "2"
    async with up.database("billing") as connection:
        rows = await connection.fetch("SELECT period, country, amount > 0 AS owed FROM vat")
        assert sorted(map(tuple, rows)) == [(period, "DE", True), (period, "FR", True)]
        assert await connection.fetchval("SELECT count(*) FROM totals") == 2


async def test_both_vocabularies_are_one_job(up):
    job = (
        await up.ask(
            """{ job(name: "billing-nightly-rebuild") {
              app retry { attempts backoff baseSeconds } schedules { cron timezone }
              steps { name type config } } }"""
        )
    )["job"]
    assert job["app"] == "billing"
    assert job["retry"] == {"attempts": 3, "backoff": "exponential", "baseSeconds": 60}
    assert job["schedules"] == [{"cron": "0 2 * * *", "timezone": "Europe/Paris"}]
    assert [s["name"] for s in job["steps"]] == ["refresh-totals", "rebuild-vat"]
    assert job["steps"][1]["config"]["kwargs"] == {"period": "${month.previous}"}
