"""The functions of python-steps.md and test-your-jobs.md do what the pages say."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import asyncpg
import pytest

from nomaflow.errors import FunctionError, StepError
from nomaflow.plugins.offers import offers
from nomaflow.step_context import StepContext
from nomaflow.steps.base import EarlierStep

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to"
PAGE = HOW_TO / "python-steps.md"
BLOCK = re.compile(r"^```python\n# plugins/(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def page(workshop):
    """The workshop with every file of the page in it."""
    for path in (PAGE, HOW_TO / "test-your-jobs.md"):
        for name, source in BLOCK.findall(path.read_text(encoding="utf-8")):
            workshop.write(name, source)
    return workshop


async def test_the_first_function_counts_tags(page, pg_url):
    connection = await asyncpg.connect(pg_url)
    await connection.execute("CREATE TABLE tags (name text PRIMARY KEY)")
    await connection.close()
    page.ear.connectors = {"default": {"kind": "sql", "url": pg_url}}
    body = [{"tag_name": "v1"}, {"tag_name": "v2"}, {"tag_name": "v1"}]
    earlier = {"fetch-releases": EarlierStep("fetch-releases", "succeeded", {"body": body})}
    params = {"target_connector": "default", "repo": "acme/widgets"}

    async def call(minimum):
        return await page.call(
            "releases.sync:count_tags",
            kwargs={"minimum": minimum},
            params=params,
            earlier=earlier,
        )

    assert await call("2") == {"tags": 2}
    assert page.ear.lines == [("INFO", "2 tags")]
    with pytest.raises(FunctionError, match="only 2 tags, fewer than 3"):
        await call("3")


async def test_the_function_without_ctx_asks_by_name(page, pg_url):
    connection = await asyncpg.connect(pg_url)
    await connection.execute(
        "CREATE TABLE invoices AS SELECT '2026-01' AS period, n > 2 AS paid FROM "
        "generate_series(1, 5) n"
    )
    await connection.close()
    page.ear.connectors = {"default": {"kind": "sql", "url": pg_url}}
    answer = await page.call("billing.invoices:count_open", kwargs={"period": "2026-01"})
    assert answer == {"open": 2}


async def test_a_run_for_each_tenant(page, pg_url):
    connection = await asyncpg.connect(pg_url)
    await connection.execute("CREATE TABLE tenants AS SELECT unnest(ARRAY['b', 'a']) AS name")
    await connection.close()
    page.ear.connectors = {"default": {"kind": "sql", "url": pg_url}}
    answer = await page.call("tenants.nightly:all_tenants", kwargs={"day": "2026-05-01"})
    assert answer == {"rows": 6}
    assert [(job, given.get("tenant"), wait) for job, given, wait, _ in page.ear.called] == [
        ("tenant-night", "a", True),
        ("tenant-night", "b", True),
        ("tidy-up", None, False),
    ]


async def test_a_refusal_is_not_retried(page):
    with pytest.raises(StepError) as refused:
        await page.call("pull.refusals:refuse", kwargs={"rows": 0})
    assert not refused.value.retryable
    assert await page.call("pull.refusals:refuse", kwargs={"rows": 4}) == 4


async def test_its_test_passes(page, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(page.plugins), *sys.path])
    for name in ("releases", "releases.sync", "releases.sync_test"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from releases.sync_test import test_tags_are_counted

    await test_tags_are_counted()
    for name in ("releases", "releases.sync", "releases.sync_test"):
        sys.modules.pop(name, None)


async def test_the_page_names_everything_there_is():
    text = PAGE.read_text(encoding="utf-8")
    for name in vars(StepContext):
        if not name.startswith("_"):
            assert name in text, name
    for name in offers(None, kwargs={}, connectors=(), last_step=None):
        assert f"`{name}`" in text or name == "pools", name
