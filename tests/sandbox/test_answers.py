"""An update while both APIs misbehave and the API server restarts in its middle; the drill `answers` has the whole of it."""

from __future__ import annotations

import json
import threading

import pytest

from sandbox.cli.client import Sandbox
from trials.drills.events import pools


@pytest.mark.drill
def test_an_update_outlasts_what_the_real_providers_outlast(sandbox: Sandbox) -> None:
    sandbox.command("faults", "set", "--api", "cloud", "--answer", "503", "--rate", "0.2")
    sandbox.command("faults", "set", "--api", "kubernetes", "--answer", "429", "--burst", "5")
    sandbox.command("login", "--lifetime", "2")
    restart = threading.Timer(2.0, lambda: sandbox.command("restart-api-server", "--away", "0.5"))
    restart.start()
    try:
        first = sandbox.pulumi("up", "--yes", "--skip-preview", "--non-interactive", "--refresh", check=False)
    finally:
        restart.join()
        sandbox.command("faults", "clear")
        sandbox.command("login")
    given = json.loads(sandbox.command("faults", "show", "--json").stdout)["given"]
    assert {each["api"] for each in given} == {"cloud", "kubernetes"}
    # What reaches the API server while it is away is not repeated for a change, nor by the real provider: the next run is.
    if first.returncode != 0:
        assert "connection" in (first.stdout + first.stderr).lower()
        sandbox.pulumi("up", "--yes", "--skip-preview", "--non-interactive", "--refresh")
    assert sandbox.preview() == {}


def test_without_a_login_an_update_reports_which_why_and_how_to_log_in_again(sandbox: Sandbox) -> None:
    sandbox.command("login", "--revoked")
    try:
        result = sandbox.pulumi("preview", "--non-interactive", check=False)
    finally:
        sandbox.command("login")
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert "no access token of Google Cloud" in said
    assert "invalid_grant" in said
    assert "gcloud auth application-default login" in said
    assert "Traceback" not in said


def test_an_api_that_was_enabled_a_moment_ago_is_waited_for(sandbox: Sandbox) -> None:
    """Google refuses requests to it for some minutes, and neither the provider nor the engine tries again."""
    another = {**pools(sandbox)[2], "name": "l4-b", "enabled": False}
    sandbox.command("faults", "set", "--api", "cloud", "--answer", "403", "--burst", "3")
    up = ("up", "--yes", "--skip-preview", "--non-interactive")
    try:
        said = sandbox.pulumi(*up, overrides={"acceleratorPools": [*pools(sandbox), another]}).stdout
    finally:
        sandbox.command("faults", "clear")
    given = [each for each in json.loads(sandbox.command("faults", "show", "--json").stdout)["given"] if each["answer"] == "403"]
    assert len(given) == 3
    assert said.count("Google does not serve this API yet") >= 3
    sandbox.pulumi(*up)
    assert sandbox.preview() == {}
