"""A headless Chromium spoken to over its DevTools protocol: one page, and all it asked for."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,800",
    "--remote-debugging-port=0",
)
EVENT_LIMIT = 64 * 1024 * 1024


def chromium() -> str:
    """The browser's path; without one the test is skipped, and fails where CI is set."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "Chromium is not installed (Debian: apt install chromium)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return found


class Page:
    """One page: what it asked of the network, what it complained of, and hands to use it."""

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self.requests: list[str] = []
        self.frames: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self._socket, self._session = socket, session
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()

    async def listen(self) -> None:
        async for text in self._socket:
            said = json.loads(text)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            else:
                self._note(said["method"], said["params"])

    def _note(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent" if not params["request"]["url"].startswith("data:"):
                self.requests.append(params["request"]["url"])
            case "Network.webSocketCreated":
                self.requests.append(params["url"])
            case "Network.webSocketFrameSent" | "Network.webSocketFrameReceived":
                self.frames.append(json.loads(params["response"]["payloadData"]))
            case "Log.entryAdded" if params["entry"]["level"] in {"warning", "error"}:
                entry = params["entry"]
                self.complaints.append(f"{entry['text']} ({entry.get('url', '')})")
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] == "error":
                self.complaints.append(json.dumps(params["args"]))
            case "Audits.issueAdded" if "ContentSecurityPolicy" in params["issue"]["code"]:
                self.complaints.append(json.dumps(params["issue"]))

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        call = {"id": number, "method": method, "params": params, "sessionId": self._session}
        await self._socket.send(json.dumps(call))
        said = await asyncio.wait_for(answer, 20)
        assert "error" not in said, said
        return said["result"]

    async def evaluate(self, expression: str) -> Any:
        """The value of some JavaScript, awaited."""
        said = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, expression: str, seconds: float = 20) -> Any:
        """Wait until some JavaScript is true; gives its value."""
        try:
            async with asyncio.timeout(seconds):
                while not (value := await self.evaluate(expression)):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            pytest.fail(f"never true: {expression}\ncomplaints: {self.complaints}\n{text}")
        return value

    async def open(self, url: str) -> None:
        self._loaded.clear()
        await self.send("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), 20)

    async def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        await self.send("Input.insertText", text=text)

    async def press(self, key: str, code: int, *, ctrl: bool = False) -> None:
        common = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 2 if ctrl else 0}
        text = {} if ctrl else {"text": "\r" if key == "Enter" else ""}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    async def click(self, expression: str) -> None:
        """Click the element that some JavaScript gives, once it is there."""
        await self.until(f"!!({expression})")
        await self.evaluate(f"({expression}).click()")

    async def dark(self, wanted: bool) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if wanted else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, path: Path) -> None:
        shot = await self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def page() -> AsyncIterator[Page]:
    """Start a browser with an empty profile; it ends with the block."""
    profile = Path(tempfile.mkdtemp(prefix="nomaflow-chromium-"))
    # Workers of pages outlive a test by a moment; nobody reads what they say then.
    process = subprocess.Popen(
        [chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with connect(
            await _address(profile, process), max_size=EVENT_LIMIT, proxy=None
        ) as socket:
            made = await _attach(socket)
            listening = asyncio.create_task(made.listen())
            for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
                await made.send(f"{domain}.enable")
            yield made
            listening.cancel()
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _address(profile: Path, process: "subprocess.Popen[bytes]") -> str:
    """Chromium writes where its DevTools listen into its profile."""
    async with asyncio.timeout(30):
        while process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                port, path = (profile / "DevToolsActivePort").read_text().split()
                return f"ws://127.0.0.1:{port}{path}"
            await asyncio.sleep(0.05)
    pytest.fail(f"Chromium ended with status {process.returncode}")


async def _attach(socket: ClientConnection) -> Page:
    async def ask(number: int, method: str, **params: Any) -> dict[str, Any]:
        await socket.send(json.dumps({"id": -number, "method": method, "params": params}))
        while True:
            said = json.loads(await socket.recv())
            if said.get("id") == -number:
                return said["result"]

    target = (await ask(1, "Target.createTarget", url="about:blank"))["targetId"]
    session = (await ask(2, "Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
    return Page(socket, session)
