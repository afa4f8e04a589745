"""The sandbox's account: tokens that end, and a login that can be gone."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandbox.google.access_tokens import AccessTokens, Login, LoginRevoked
from sandbox.host.paths import PROJECT_DIR

PLUGIN = PROJECT_DIR / "sandbox" / "google" / "bin" / "gke-gcloud-auth-plugin"


def plugin(state: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SANDBOX_STATE": str(state)}
    return subprocess.run([str(PLUGIN)], env=environment, capture_output=True, text=True, timeout=30)


@pytest.fixture
def tokens(tmp_path: Path) -> AccessTokens:
    made = AccessTokens(tmp_path)
    made.prepare()
    return made


def test_after_the_login_is_revoked_no_token_is_valid_and_none_is_issued(tokens: AccessTokens) -> None:
    before = tokens.give()
    tokens.set_login(Login(revoked=True))
    assert not tokens.valid(before)
    with pytest.raises(LoginRevoked, match="invalid_grant"):
        tokens.give()
    tokens.set_login(Login())
    assert tokens.valid(tokens.give())


def test_the_plugin_gives_a_token_that_is_good_and_says_when_it_ends(tokens: AccessTokens, tmp_path: Path) -> None:
    tokens.set_login(Login(lifetime=600))
    credential = json.loads(plugin(tmp_path).stdout)
    assert tokens.valid(credential["status"]["token"])
    ends = datetime.fromisoformat(credential["status"]["expirationTimestamp"])
    assert 0 < (ends - datetime.now(UTC)).total_seconds() <= 600


def test_the_plugin_without_a_login_says_how_to_log_in_and_gives_nothing(tokens: AccessTokens, tmp_path: Path) -> None:
    tokens.set_login(Login(revoked=True))
    done = plugin(tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "gcloud auth login" in done.stderr
