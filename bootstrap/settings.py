"""The bootstrap stack's settings: the only reader of its configuration, checked as a whole before the first resource.

Left out: whether the projects, the repository and the reviewers exist; Google and GitHub say so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from components.settings.problems import Problem, SettingsError, nearest

_PROJECT = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")

#: https://docs.cloud.google.com/storage/docs/buckets#naming, without the dots that need a verified domain.
_BUCKET = re.compile(r"(?!goog)[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]")

#: An account's name is `preview-ENVIRONMENT`, of at most 30 characters.
_ENVIRONMENT = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")

_SECRET = re.compile(r"[A-Za-z0-9_-]{1,255}")
_REVIEWER = re.compile(r"(User|Team):[1-9]\d*")
_BRANCH = re.compile(r"[A-Za-z0-9][\w./-]*")

#: Ends the names of the GitHub environments that may only read.
PREVIEW_SUFFIX = "-preview"

_KEYS = ("name", "project", "reviewers", "readsFrom", "secrets")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One stack of the program, and the project that it is deployed to."""

    #: Of the stack and of its GitHub environment.
    name: str
    project: str
    #: `User:NUMBER` or `Team:NUMBER`: one of them has to approve an update; empty for none.
    reviewers: tuple[str, ...]
    #: Environments whose outputs its stack reads (`imagesFrom`).
    reads_from: tuple[str, ...]
    #: Names of the project's Secret Manager secrets that its stack reads.
    secrets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BootstrapSettings:
    """Everything that a team may choose; Pulumi.yaml describes each field."""

    #: The project that holds state, keys and accounts.
    project: str
    location: str
    state_bucket: str
    repository: str
    repository_id: int
    owner_id: int
    branch: str
    environments: tuple[Environment, ...]


def load() -> BootstrapSettings:
    """The settings of the stack that the engine runs. Raises `SettingsError` with every problem at once."""
    return parse({**get_config_env(), **CONFIG.get()}, namespace=pulumi.Config().name, stack=pulumi.get_stack())


def parse(values: Mapping[str, Any], *, namespace: str, stack: str) -> BootstrapSettings:
    """Settings from `NAMESPACE:key` -> text as the engine hands them over. Raises `SettingsError`."""
    reader = _Reader(values, namespace)
    settings = BootstrapSettings(
        project=reader.matching(
            "gcp:project", _PROJECT, "a project ID", "give the ID of the project that is to hold state, keys and accounts"
        ),
        location=reader.matching(
            "location", re.compile(r"[a-z]+-[a-z]+\d+"), "a region of Google Cloud", "give one such as asia-northeast1"
        ),
        state_bucket=reader.matching(
            "stateBucket", _BUCKET, "a name of a bucket",
            "use 3 to 63 lower-case letters, digits and hyphens, not beginning with goog",
        ),
        repository=reader.matching(
            "repository", re.compile(r"[\w.-]+/[\w.-]+"), "a GitHub repository", "give OWNER/NAME, without https://github.com/"
        ),
        repository_id=reader.number("repositoryId", "gh api repos/OWNER/NAME --jq .id"),
        owner_id=reader.number("ownerId", "gh api repos/OWNER/NAME --jq .owner.id"),
        branch=reader.matching("branch", _BRANCH, "a name of a branch", "give one such as main"),
        environments=reader.environments(),
    )  # fmt: skip
    if reader.problems:
        raise SettingsError(stack, reader.problems)
    return settings


class _Reader:
    """Typed look-ups that note every problem and return a harmless value, so that all problems come at once."""

    def __init__(self, values: Mapping[str, Any], namespace: str) -> None:
        self._values = values
        self._namespace = namespace
        self.problems: list[Problem] = []

    def _raw(self, key: str) -> Any:
        value = self._values.get(key if ":" in key else f"{self._namespace}:{key}")
        if value in (None, ""):
            self.problems.append(Problem(key, None, "is missing", f"`pulumi config set {key} VALUE`"))
            return None
        return value

    def matching(self, key: str, pattern: re.Pattern[str], what: str, fix: str) -> str:
        value = self._raw(key)
        if value is not None and not pattern.fullmatch(str(value)):
            self.problems.append(Problem(key, value, f"is not {what}", fix))
        return str(value or "")

    def number(self, key: str, command: str) -> int:
        value = self._raw(key)
        if value is None:
            return 0
        if not re.fullmatch(r"[1-9]\d*", str(value)):
            self.problems.append(Problem(key, value, "is not one of GitHub's numbers", f"`{command}` prints it"))
            return 0
        return int(value)

    def environments(self) -> tuple[Environment, ...]:
        value = self._raw("environments")
        if value is None:
            return ()
        try:
            items = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            items = None
        if not isinstance(items, list) or not items or not all(isinstance(each, dict) for each in items):
            self.problems.append(
                Problem(
                    "environments",
                    value,
                    "is not a list of environments",
                    "give at least one: `pulumi config set --path 'environments[0].name' dev`",
                )
            )
            return ()
        names = [str(each.get("name", "")) for each in items]
        found = tuple(self._environment(f"environments[{index}]", each, names) for index, each in enumerate(items))
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(Problem("environments", name, "is the name of more than one environment", "give each its own"))
        return found

    def _environment(self, field: str, item: Mapping[str, Any], names: list[str]) -> Environment:
        for key in item:
            if key not in _KEYS:
                self.problems.append(Problem(f"{field}.{key}", item[key], "is not a key", nearest(key, _KEYS)))
        name, project = str(item.get("name", "")), str(item.get("project", ""))
        if not _ENVIRONMENT.fullmatch(name) or name.endswith(PREVIEW_SUFFIX):
            self.problems.append(
                Problem(
                    f"{field}.name",
                    name,
                    "is not a name of an environment",
                    f"use up to 20 lower-case letters, digits and hyphens, a letter first, not ending in {PREVIEW_SUFFIX}",
                )
            )
        if not _PROJECT.fullmatch(project):
            self.problems.append(Problem(f"{field}.project", project, "is not a project ID", "give the project that it is deployed to"))
        reads_from = self._texts(f"{field}.readsFrom", item.get("readsFrom", []))
        for other in reads_from:
            if other == name or other not in names:
                fix = nearest(other, [each for each in names if each != name] or ["(there is no other)"])
                self.problems.append(Problem(f"{field}.readsFrom", other, "is not another environment", fix))
        reviewers = self._texts(f"{field}.reviewers", item.get("reviewers", []))
        self._each(
            f"{field}.reviewers",
            reviewers,
            _REVIEWER,
            "a reviewer",
            "give User:NUMBER or Team:NUMBER (`gh api users/LOGIN --jq .id`, `gh api orgs/ORG/teams/TEAM --jq .id`)",
        )
        if len(reviewers) > 6:
            self.problems.append(Problem(f"{field}.reviewers", len(reviewers), "is more than the 6 that GitHub takes", "name a team"))
        secrets = self._texts(f"{field}.secrets", item.get("secrets", []))
        self._each(f"{field}.secrets", secrets, _SECRET, "a name of a secret", "give the name alone, without its project")
        return Environment(name=name, project=project, reviewers=reviewers, reads_from=reads_from, secrets=secrets)

    def _texts(self, field: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self.problems.append(Problem(field, value, "is not a list of texts", "give a list, empty for none"))
            return ()
        return tuple(value)

    def _each(self, field: str, values: tuple[str, ...], pattern: re.Pattern[str], what: str, fix: str) -> None:
        for value in values:
            if not pattern.fullmatch(value):
                self.problems.append(Problem(field, value, f"is not {what}", fix))
