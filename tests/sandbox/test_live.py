"""The live page in a real Chromium: trouble by its buttons, and what the page shows of it. The tests run in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sandbox.cli.client import Sandbox
from sandbox.host.paths import PROJECT_DIR
from trials.picture.browser import Page, program
from trials.picture.live_page import live_page

needs_chromium = pytest.mark.skipif(
    program() is None and "REQUIRE_CHROMIUM" not in os.environ, reason="no Chromium (.ci/install-chromium installs Debian's)"
)

_PATIENCE = 60.0


@pytest.fixture(scope="module")
def page(sandbox: Sandbox) -> Iterator[Page]:
    with live_page(sandbox) as found:
        found.look(width=1240, height=1000)
        found.wait("document.querySelectorAll('#rungs > li').length")
        yield found
    sandbox.command("stock", "v6e-1", "in")
    sandbox.command("scale", "1")


def _press_by_keyboard(page: Page, label: str) -> None:
    """Tab until the button has the focus, then Enter."""
    for _ in range(40):
        if page.value("document.activeElement.getAttribute('aria-label')") == label:
            page.press("Enter")
            return
        page.press("Tab")
    raise AssertionError(f"no key leads to {label!r}")


@needs_chromium
def test_by_keyboard_alone_three_replicas_pass_the_rung_that_is_sold_out(page: Page) -> None:
    _press_by_keyboard(page, "Sell v6e-1 out")
    page.wait("document.getElementById('done').textContent.startsWith('v6e-1 is out of stock')")
    # The button kept the focus, and now does the opposite.
    page.wait("document.activeElement.getAttribute('aria-label') === 'Restock v6e-1'")
    page.value("document.querySelector('.skip').focus()")
    _press_by_keyboard(page, "One replica more")
    page.wait("shown.replicas.wanted === 2")
    _press_by_keyboard(page, "One replica more")
    page.wait("shown.replicas.serving === 3", _PATIENCE)
    served = page.value("shown.rungs.map((rung) => [rung.name, rung.nodes.flatMap((node) => node.pods).length])")
    assert served == [["v6e-1", 1], ["l4-spot", 1], ["l4", 1]]
    assert page.value("document.title").startswith("3 of 3 serve")
    ways = page.value("[...document.querySelectorAll('.strip')].map((strip) => strip.getAttribute('aria-label'))")
    assert len(ways) == 3
    assert all("starting" in way and "serving" in way for way in ways)


@needs_chromium
def test_an_answer_says_which_replica_and_rung_gave_it(page: Page) -> None:
    page.value("document.getElementById('question').focus()")
    page.type("Why is the sky blue?")
    page.press("Enter")
    who = page.wait("document.querySelector('#answers .who')?.textContent")
    assert any(f" on {pool}, node gke-" in who for pool in ("v6e-1", "l4-spot", "l4"))
    assert "first token after" in who
    # The server's own figures arrive a moment later.
    page.wait("shown.total.first_token > 0 && shown.total.requests > 0")


@needs_chromium
def test_a_preempted_node_is_shown_until_it_is_gone(page: Page) -> None:
    page.value("document.querySelector('[aria-label=\"Preempt a node of l4-spot\"]').click()")
    page.wait("document.querySelector('#rungs').textContent.includes('1 taken back by Google')")
    told = page.wait(
        "[...document.querySelectorAll('#events li')].find((line) => line.textContent.includes('Google takes node'))?.textContent"
    )
    assert "of l4-spot back" in told


@needs_chromium
def test_it_reads_well_in_the_dark_and_on_a_phone_and_nothing_is_blocked(page: Page) -> None:
    def ground() -> str:
        return str(page.value("getComputedStyle(document.body).backgroundColor"))

    light = ground()
    page.look(width=320, height=900, dark=True)
    assert ground() != light
    assert page.value("document.documentElement.scrollWidth") == 320
    assert (
        page.value(
            "matchMedia('(prefers-reduced-motion: reduce)').matches && getComputedStyle(document.querySelector('#rungs li')).animationName"
        )
        == "none"
    )
    # Nothing that the content security policy refused, and no script's error.
    assert page.problems == []


def test_the_terminal_shows_the_same_until_it_is_interrupted(sandbox: Sandbox) -> None:
    command = [sys.executable, "-m", "sandbox", "status", "--watch"]
    environment = sandbox.environment | {"FORCE_COLOR": "1"}
    with subprocess.Popen(command, cwd=PROJECT_DIR, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        shown = ""
        while "l4-spot" not in shown:
            line = process.stdout.readline()
            assert line, f"it ended after {shown!r}"
            shown += line
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == 130
    assert all(part in shown for part in ("replicas serve", "USD an hour", "v6e-1"))
