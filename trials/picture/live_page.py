"""The live page of a sandbox that runs, open in a browser; for the picture and the tests."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.cli.client import CommandFailed, Sandbox
from sandbox.host.paths import PROJECT_DIR
from trials.picture.browser import Page, browser

_END_SECONDS = 10.0


@contextmanager
def live_page(sandbox: Sandbox) -> Iterator[Page]:
    """Raises `CommandFailed` where the sandbox does not run, and `BrowserError`."""
    command = [sys.executable, "-m", "sandbox", "live"]
    with subprocess.Popen(command, cwd=PROJECT_DIR, env=sandbox.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None, "it is piped"
            url = process.stdout.readline().strip()
            if not url:
                raise CommandFailed("`python -m sandbox live` ended without an address; it has said why")
            with browser() as page:
                page.open(url)
                yield page
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=_END_SECONDS)
