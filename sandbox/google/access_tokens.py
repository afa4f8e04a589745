"""Access tokens of the sandbox's one Google account: short-lived, as Google's are, and no longer given once it is revoked.

A token says when it ends and proves it with a key that only the sandbox's state has, so that the plugin that gives one
(`bin/gke-gcloud-auth-plugin`, which has the same few lines) and the API that checks it need not talk. What a drill asks for (a
short life, a revoked login) is one file in the state folder.
"""

import hashlib
import hmac
import json
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.host.state_files import write_object

PREFIX = "ya29.sandbox"

#: Google's access tokens live an hour: https://cloud.google.com/docs/authentication/token-types#access-tokens
LIFETIME_SECONDS = 3600.0

#: What Google's token endpoint says when the login behind a token is gone, in the words of golang.org/x/oauth2.
REVOKED = 'oauth2: "invalid_grant" "Token has been expired or revoked."'


class LoginRevoked(Exception):
    """There is no new token; the message says so in Google's words."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """What of the account is not as always."""

    lifetime: float = LIFETIME_SECONDS
    revoked: bool = False


class AccessTokens:
    """Gives and checks tokens. Works across processes: nothing is kept but the two files."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / "login.json"
        self._key = state_dir / "token-key"

    @property
    def login(self) -> Login:
        try:
            return Login(**json.loads(self._file.read_text()))
        except FileNotFoundError:
            return Login()

    def set_login(self, login: Login) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_object(self._file, asdict(login))

    def prepare(self) -> None:
        """Makes the key if it does not exist yet."""
        if not self._key.exists():
            self._key.parent.mkdir(parents=True, exist_ok=True)
            self._key.touch(mode=0o600)
            self._key.write_text(secrets.token_hex(32))

    def give(self) -> str:
        """A new token. Raises `LoginRevoked`."""
        login = self.login
        if login.revoked:
            raise LoginRevoked(REVOKED)
        self.prepare()
        ends = f"{time.time() + login.lifetime:.6f}"
        return f"{PREFIX}-{ends}-{self._proof(ends)}"

    def valid(self, token: str) -> bool:
        """Whether it was given here, and neither its time is over nor the login behind it gone."""
        prefix, _, rest = token.partition("-")
        ends, _, proof = rest.partition("-")
        if prefix != PREFIX or not self._key.exists() or self.login.revoked:
            return False
        return hmac.compare_digest(proof, self._proof(ends)) and time.time() < float(ends)

    def _proof(self, ends: str) -> str:
        return hmac.new(self._key.read_bytes(), ends.encode(), hashlib.sha256).hexdigest()
