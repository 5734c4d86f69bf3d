"""A real headless browser, driven over the DevTools protocol: what a page shows, logs, loads and prints."""

import asyncio
import base64
import contextlib
import shutil
import subprocess
import tempfile
import time
import typing
from collections.abc import Iterator
from pathlib import Path

import aiohttp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
START_SECONDS, ANSWER_SECONDS = 60.0, 60.0


class Browser:
    """One tab. `events` are what the browser told since the last `open`."""

    def __init__(self, runner: asyncio.Runner, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self.runner, self.socket, self.session = runner, socket, session
        self.events: list[dict[str, typing.Any]] = []
        self.count = 0

    def call(self, method: str, **params: typing.Any) -> dict[str, typing.Any]:
        return self.runner.run(asyncio.wait_for(self._call(method, params), ANSWER_SECONDS))

    async def _call(self, method: str, params: dict[str, typing.Any]) -> dict[str, typing.Any]:
        self.count += 1
        await self.socket.send_json({"id": self.count, "method": method, "params": params, "sessionId": self.session})
        while True:
            told = await self.socket.receive_json()
            if told.get("id") == self.count:
                assert "error" not in told, told
                return told["result"]
            self.events.append(told)

    def open(self, path: Path, width: int = 1280, dark: bool = False, media: str = "") -> None:
        """Load a file as somebody with that window and that taste sees it, and wait until it is loaded."""
        self.events.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.look(dark, media)
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            time.sleep(0.02)
            self.run("0")

    def look(self, dark: bool = False, media: str = "") -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def run(self, script: str) -> typing.Any:
        """The value of a JavaScript expression."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13}
        for kind in ("rawKeyDown", "char", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "char" else {}
            if kind != "char" or text:
                self.call(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    code=key,
                    windowsVirtualKeyCode=codes[key],
                    **text,
                )

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"])

    @property
    def complaints(self) -> list[str]:
        """What was thrown or logged as an error or a warning."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(str(params))
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
            elif method == "Runtime.consoleAPICalled":
                found.append(str(params["args"]))
        return found

    @property
    def requests(self) -> list[str]:
        told = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in told]


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """A browser with a profile of its own, ended with everything below it."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, asyncio.Runner() as runner:
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
        quiet = ("--disable-background-networking", "--disable-component-update", "--disable-extensions")
        process = subprocess.Popen(
            [CHROMIUM, *options, *quiet, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port_file = Path(profile) / "DevToolsActivePort"
            runner.run(asyncio.wait_for(_appears(port_file, process), START_SECONDS))
            port, path = port_file.read_text(encoding="ascii").splitlines()[:2]
            client, socket, session = runner.run(_attached(f"ws://127.0.0.1:{port}{path}"))
            try:
                yield Browser(runner, socket, session)
            finally:
                runner.run(_closed(client, socket))
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _appears(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not (path.is_file() and path.read_text(encoding="ascii").count("\n") >= 1):
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        await asyncio.sleep(0.05)


async def _attached(url: str) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse, str]:
    client = aiohttp.ClientSession()
    socket = await client.ws_connect(url, max_msg_size=1 << 28)

    async def ask(number: int, method: str, **params: typing.Any) -> dict[str, typing.Any]:
        await socket.send_json({"id": number, "method": method, "params": params})
        while (told := await socket.receive_json()).get("id") != number:
            pass
        return told["result"]

    pages = [one for one in (await ask(-1, "Target.getTargets"))["targetInfos"] if one["type"] == "page"]
    attached = await ask(-2, "Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
    return client, socket, attached["sessionId"]


async def _closed(client: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
    with contextlib.suppress(Exception):
        await socket.send_json({"id": -3, "method": "Browser.close"})
    await socket.close()
    await client.close()
