"""A Chromium without a window, driven by its DevTools protocol over a pipe: https://chromedevtools.github.io/devtools-protocol/

So nothing but the browser itself has to be installed. Left out: other browsers, and more than one page.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 30.0
_KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " ")}


class BrowserError(Exception):
    """No Chromium is there, or the page did not do what was waited for; the message says which."""


def program() -> str | None:
    """The path of this machine's Chromium; None if there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Page:
    """The one tab. `problems` are the errors that its scripts and its console reported."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._rest = write, read, b""
        self._number, self._session = 0, ""
        self.problems: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def look(self, *, width: int, height: int, dark: bool = False, calm: bool = True) -> None:
        """As on a screen of this size, by the reader's choice of colours and, if `calm`, of reduced motion."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        features = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce" if calm else "no-preference"}
        self._call("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in features.items()])

    def value(self, script: str) -> Any:
        """Of an expression of JavaScript. Raises `BrowserError` where it throws."""
        result = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{script}: {result['exceptionDetails']['exception'].get('description')}")
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = _SECONDS) -> Any:
        """Until the expression is true; its value. Raises `BrowserError` with what the page shows when the time is over."""
        deadline = time.monotonic() + seconds
        while not (value := self.value(script)):
            if time.monotonic() > deadline:
                raise BrowserError(f"not true after {seconds:g} s: {script}; the page shows: {self.value('document.body.innerText')}")
            time.sleep(0.1)
        return value

    def type(self, text: str) -> None:
        self._call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """One key, as from a keyboard: `Tab`, `Enter` or a space."""
        code, text = _KEYS[key]
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **({"text": text} if text else {}))

    def picture(self, form: str = "png") -> bytes:
        """What the screen shows, as `png` or `webp`."""
        return base64.b64decode(self._call("Page.captureScreenshot", format=form, quality=80)["data"])

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **({"sessionId": self._session} if self._session else {})}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._read, 1 << 20)
            if not piece:
                raise BrowserError("Chromium has ended")
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        read: dict[str, Any] = json.loads(message)
        return read

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params") or {}
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"].get("exception", {}).get("description")))
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(str(parameters["entry"]["text"]))


@contextmanager
def browser() -> Iterator[Page]:
    """A browser with a profile of its own, which goes with it. Raises `BrowserError`."""
    chromium = program()
    if chromium is None:
        raise BrowserError(f"no Chromium is installed (none of {', '.join(_NAMES)} is on PATH): `apt-get install chromium`")
    (their_read, write), (read, their_write) = os.pipe(), os.pipe()
    # As root there is no sandbox of Chromium's; it opens this project's page alone.
    options = ["--headless", "--remote-debugging-pipe", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--no-proxy-server"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Chromium reads descriptor 3 and writes descriptor 4. Not sh: Debian's knows no descriptor above 9.
        shell = f'exec "$0" "$@" 3<&{their_read} 4>&{their_write}'
        process = subprocess.Popen(
            ["bash", "-c", shell, chromium, *options, f"--user-data-dir={profile}"],
            pass_fds=(their_read, their_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_read)
        os.close(their_write)
        try:
            yield Page(write, read)
        finally:
            process.terminate()
            process.wait(timeout=10)
            os.close(write)
            os.close(read)
