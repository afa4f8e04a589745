"""One stack by the pulumi command line: its state, refreshes, and what pulumi says of a lock."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops import pulumi_command
from ops.pulumi_command import PulumiError
from ops.recovery.backend_folder import folder_of, mend, remove_leftovers
from ops.recovery.locks import Lock, locks_in

#: For one command: an importer waits for a cluster that is being made, which takes up to 40 minutes.
_SECONDS = 3600.0


class Locked(PulumiError):
    """Another update holds the stack, or has held it."""

    def __init__(self, message: str, locks: Sequence[Lock]) -> None:
        super().__init__(message)
        self.locks = list(locks)


class PulumiStack:
    """`environment`: as for pulumi; `directory`: the project's."""

    def __init__(self, name: str, environment: Mapping[str, str], directory: Path) -> None:
        self.name = name
        self._environment = dict(environment)
        self._directory = directory
        self._url = ""

    def mend_backend(self) -> int:
        """Where the backend is a folder: makes it readable again; how many files were half written."""
        folder = folder_of(self._backend_url())
        return len(mend(folder)) if folder else 0

    def remove_leftovers(self) -> None:
        """Once no update of the stack runs any more."""
        if folder := folder_of(self._backend_url()):
            remove_leftovers(folder, self.name)

    def _backend_url(self) -> str:
        if not self._url:
            self._url = self._environment.get("PULUMI_BACKEND_URL") or str(json.loads(self._run("whoami", "--json", of_stack=False))["url"])
        return self._url

    def export(self) -> dict[str, Any]:
        """The state, secrets encrypted."""
        return dict(json.loads(self._run("stack", "export")))

    def replace(self, document: Mapping[str, Any]) -> None:
        """Makes `document` the state; pulumi checks that it is one."""
        self._run("stack", "import", stdin=json.dumps(document))

    def refresh(self, targets: Sequence[str] = ()) -> dict[str, str]:
        """Reads what is there, of everything or of these; URN -> why not, where a provider could not say.

        Nothing of the state changes where there is such a resource. Raises `PulumiError` for everything else that goes wrong.
        """
        options = [option for urn in targets for option in ("--target", urn)]
        result = self._try("refresh", "--yes", "--skip-preview", "--skip-pending-creates", "--json", *options)
        if result.returncode == 0:
            return {}
        failed, other = _failures(result.stdout)
        if failed:
            return failed
        raise PulumiError("\n".join(other) or f"{result.stdout}\n{result.stderr}".strip())

    def cancel(self) -> None:
        """Takes every lock of the stack away."""
        self._run("cancel", "--yes")

    def _run(self, *arguments: str, stdin: str = "", of_stack: bool = True) -> str:
        result = self._try(*arguments, stdin=stdin, of_stack=of_stack)
        if result.returncode != 0:
            raise PulumiError(f"`pulumi {' '.join(arguments)}` failed:\n{result.stderr.strip()}")
        return result.stdout

    def _try(self, *arguments: str, stdin: str = "", of_stack: bool = True) -> subprocess.CompletedProcess[str]:
        result = pulumi_command.run(
            *arguments,
            stack=self.name if of_stack else "",
            stdin=stdin,
            directory=self._directory,
            environment=self._environment,
            seconds=_SECONDS,
        )
        if result.returncode != 0 and (locks := locks_in(result.stdout + result.stderr)):
            raise Locked(result.stderr.strip(), locks)
        return result


def _failures(events: str) -> tuple[dict[str, str], list[str]]:
    """Errors by the resource's URN, and those of none, from the engine's events, one in a line."""
    by_urn: dict[str, str] = {}
    other: list[str] = []
    for line in events.splitlines():
        try:
            event = json.loads(line).get("diagnosticEvent") or {}
        except (ValueError, AttributeError):
            continue
        if event.get("severity") != "error":
            continue
        # Marks of colour.
        message = re.sub(r"<\{%.*?%\}>", "", event.get("message", "")).strip()
        if urn := event.get("urn"):
            by_urn[urn] = f"{by_urn[urn]}\n{message}" if urn in by_urn else message
        else:
            other.append(message)
    return by_urn, other
