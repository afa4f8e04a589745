"""The sandbox's Secret Manager: a folder, one file a version, readable by its owner alone.

`python -m sandbox up` puts a random value where a stack's settings name a secret, as a person would with gcloud before the first
`pulumi up`. A file with the next number is a new version. Left out: permissions, disabled and destroyed versions.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SecretVersion:
    """What one version holds."""

    number: int
    value: str


class SecretStore:
    """Secrets by project and name, in `FOLDER/PROJECT/NAME/VERSION`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ensure(self, project: str, name: str) -> None:
        """Makes a secret with a random value unless it is there."""
        if self.read(project, name, "latest") is None:
            self.add(project, name, secrets.token_hex(32))

    def add(self, project: str, name: str, value: str) -> int:
        """A new version; returns its number."""
        latest = self.read(project, name, "latest")
        number = latest.number + 1 if latest else 1
        folder = self._folder / project / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / str(number)
        path.touch(mode=0o600)
        path.write_text(value)
        return number

    def read(self, project: str, name: str, version: str) -> SecretVersion | None:
        """`version` is `latest` or a number; None for what is not there."""
        folder = self._folder / project / name
        numbers = sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
        number = (numbers[-1] if numbers else 0) if version == "latest" else int(version)
        if number not in numbers:
            return None
        return SecretVersion(number, (folder / str(number)).read_text())
