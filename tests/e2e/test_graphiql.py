"""GraphiQL in a real browser: it signs in, asks and listens, and speaks to nobody but the API."""

from pathlib import Path

import pytest
from browser import chromium, page

STATIC = Path(__file__).parents[2] / "services" / "api" / "nomaflow_api" / "static"
RUN = "document.querySelector('.graphiql-execute-button')"
STOP = "document.querySelector('.graphiql-execute-button[aria-label^=Stop]')"
RESPONSE = "(window.said = [...document.querySelectorAll('.graphiql-response .view-line')]\
.map(line => line.innerText).join('\\n').replaceAll('\\u00a0', ' '))"
VARIABLES = "(document.querySelector('[aria-label=Variables] .view-lines')?.innerText ?? '')"
# GraphiQL ignores its button until both editors are there.
READY = """['.graphiql-query-editor', '.graphiql-response'].every(
  place => document.querySelector(place + ' .view-line'))"""
ENTER = 13


def tab(name):
    buttons = "[...document.querySelectorAll('.graphiql-tab-button')]"
    return f"{buttons}.find(button => button.innerText.trim() === '{name}')"


@pytest.fixture(scope="module")
def up(start, work_project):
    chromium()
    if not (STATIC / "graphiql.html").exists():
        pytest.fail("the page is not built: make console")
    installation = start(work_project)
    assert installation.cli("job", "run", "notes-table", "--follow").returncode == 0
    return installation


@pytest.fixture
async def browser(up):
    async with page() as opened:
        yield opened
        places = (f"{up.state.url}/", up.state.url.replace("http", "ws") + "/", "about:", "blob:")
        outside = [url for url in opened.requests if not url.startswith(places)]
        assert outside == []
        # The editor gives up what it was computing when it is taken away, and says so aloud.
        harmless = ("401", "Canceled: Canceled")
        assert [c for c in opened.complaints if not any(word in c for word in harmless)] == []


async def signed_in(browser, up):
    await browser.open(f"{up.state.url}/graphiql#token={up.state.admin_token}")
    await browser.until(READY)


async def shown(browser, text):
    await browser.until(f"{RESPONSE}.includes({text!r})")


async def test_it_asks_for_the_token_and_refuses_a_wrong_one(up, browser):
    await browser.open(f"{up.state.url}/graphiql")
    await browser.until("document.activeElement?.id === 'token'")
    await browser.type("nf_wrong")
    await browser.press("Enter", ENTER)
    await browser.until(
        "document.querySelector('[role=alert]')?.innerText.includes('does not know')"
    )
    await browser.evaluate("document.querySelector('#token').select()")
    await browser.type(up.state.admin_token)
    await browser.press("Enter", ENTER)
    await browser.until(READY)
    await browser.click(RUN)
    await shown(browser, "totalCount")
    await browser.click("document.querySelector('.sign-out')")
    await browser.until("!!document.querySelector('#token')")
    assert await browser.evaluate("sessionStorage.length") == 0


async def test_a_link_signs_in_and_leaves_nothing_behind(up, browser):
    await signed_in(browser, up)
    assert await browser.evaluate("location.href") == f"{up.state.url}/graphiql"
    assert await browser.evaluate("history.length") <= 2
    await browser.click(RUN)
    await shown(browser, "totalCount")
    kept = await browser.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert up.state.admin_token not in kept
    assert not any(up.state.admin_token in url for url in browser.requests)


async def test_a_run_is_started_and_watched_live(up, browser):
    await signed_in(browser, up)
    await browser.click(tab("RunJob"))
    await browser.until(f"{VARIABLES}.includes('reporting-nightly-sync')")
    await browser.click(RUN)
    await shown(browser, "NOT_FOUND")  # the example's job is that of the demo
    run = await up.trigger("sleeper", params={"seconds": 2})
    await browser.click(tab("WatchRun"))
    await browser.until(f"{VARIABLES}.includes('run') && !{VARIABLES}.includes('\"\"')")
    await browser.click(RUN)
    await browser.until(f"!!({STOP})")
    await shown(browser, "SUCCEEDED")
    await browser.until(f"!({STOP})")  # the subscription ended with the run
    heard = [
        frame["payload"]["data"]["runEvents"] for frame in browser.frames if frame["type"] == "next"
    ]
    assert {event["__typename"] for event in heard} >= {"RunChanged", "StepChanged", "LogsWritten"}
    assert heard[-1]["status"] == "SUCCEEDED"
    assert browser.frames[0]["type"] == "connection_init"
    assert (await up.run(run))["status"] == "SUCCEEDED"


async def test_a_subscription_can_be_stopped_while_nothing_happens(up, browser):
    await signed_in(browser, up)
    await browser.click(tab("Live"))
    await browser.click(RUN)
    await shown(browser, "snapshot")
    await browser.click(STOP)
    await browser.until(f"!({STOP})")
    assert browser.frames[-1]["type"] == "complete"


async def test_the_schema_is_known_to_the_editor(up, browser):
    await signed_in(browser, up)
    await browser.click("document.querySelector('[aria-label=\"Show Documentation Explorer\"]')")
    await browser.until("document.body.innerText.includes('Root Types')")


@pytest.mark.parametrize("dark", [False, True])
async def test_it_follows_the_system_s_colours(up, browser, dark):
    await browser.dark(dark)
    await browser.open(f"{up.state.url}/graphiql")
    await browser.until("!!document.querySelector('#token')")
    paper = await browser.evaluate(
        "getComputedStyle(document.querySelector('.card')).backgroundColor"
    )
    assert paper == ("rgb(33, 42, 59)" if dark else "rgb(255, 255, 255)")
