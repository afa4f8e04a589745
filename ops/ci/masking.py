"""Hides secrets in text that leaves the machine: step records, comments and issues.

Pulumi already shows its own secrets as [secret]; this is the second line, for what other tools print. Known values come from the
environment, unknown ones are told by the forms that their issuers document. Left out: secrets without such a form that no
variable holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

HIDDEN = "[secret]"

#: Variables whose value is a secret, by name. A path or an address is not a secret, whatever its variable is called.
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSPHRASE|API_?KEY|PRIVATE_?KEY|CREDENTIALS?$", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z]+://|[./~]")

#: A shorter value is more likely a word of the text than a secret, and hiding it would hide the text.
_SHORTEST = 8

_FORMS = tuple(
    re.compile(form)
    for form in (
        # GitHub's: https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github
        r"\bgh[pousr]_[A-Za-z0-9_.-]{16,}",
        r"\bgithub_pat_[A-Za-z0-9_]{16,}",
        # Google's OAuth access tokens and API keys.
        r"\bya29\.[A-Za-z0-9._-]{8,}",
        r"\bAIza[A-Za-z0-9_-]{30,}",
        # Hugging Face's and Pulumi's.
        r"\bhf_[A-Za-z0-9-]{16,}",
        r"\bpul-[0-9a-f]{32,}",
        # JSON web tokens: GitHub's identity tokens and Google's.
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    )
)


def masker(environment: Mapping[str, str]) -> Callable[[str], str]:
    """A function that hides the secrets of `environment`, and whatever looks like one, in a text."""
    values = sorted(
        {
            line
            for name, value in environment.items()
            if _SECRET_NAME.search(name) and not _ADDRESS.match(value)
            # What is printed line by line is hidden line by line.
            for line in value.splitlines()
            if len(line.strip()) >= _SHORTEST
        },
        # A value that contains another one goes first.
        key=len,
        reverse=True,
    )

    def mask(text: str) -> str:
        for value in values:
            text = text.replace(value, HIDDEN)
        for form in _FORMS:
            text = form.sub(HIDDEN, text)
        return text

    return mask
