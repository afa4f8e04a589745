"""The bootstrap stack's settings: the only reader of its configuration, checked as a whole before the first resource.

Left out: whether the projects, the repository and the reviewers exist; Google and GitHub say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.settings import formats
from components.settings.problems import Problem, nearest
from components.settings.reader import Notes, ValueType, setting
from components.settings.settings import load_as
from components.settings.value_types import Structure, Text

#: An account's name is `preview-ENVIRONMENT`, of at most 30 characters.
_ENVIRONMENT = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")

_SECRET = re.compile(r"[A-Za-z0-9_-]{1,255}")
_REVIEWER = re.compile(r"(User|Team):[1-9]\d*")

#: https://docs.cloud.google.com/storage/docs/buckets#naming, without the dots that need a verified domain.
_BUCKET = Text(
    re.compile(r"(?!goog)[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]"),
    "a valid bucket name",
    "use 3 to 63 lower-case letters, digits and hyphens, not beginning with goog",
)
_REPOSITORY = Text(re.compile(r"[\w.-]+/[\w.-]+"), "a GitHub repository", "give OWNER/NAME, without https://github.com/")
_BRANCH = Text(re.compile(r"[A-Za-z0-9][\w./-]*"), "a valid branch name", "give one such as main")

#: Ends the names of the GitHub environments that may only read.
PREVIEW_SUFFIX = "-preview"

_KEYS = ("name", "project", "reviewers", "readsFrom", "secrets")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One stack of the program, and the project that it is deployed to."""

    #: Name of the stack and of its GitHub environment.
    name: str
    project: str
    #: `User:NUMBER` or `Team:NUMBER`: one of them has to approve an update; empty for none.
    reviewers: tuple[str, ...]
    #: Environments whose outputs its stack reads (`imagesFrom`).
    reads_from: tuple[str, ...]
    #: Names of the project's Secret Manager secrets that its stack reads.
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class _GitHubNumber(ValueType):
    """A number that GitHub gives once; `command` prints it."""

    command: str
    name = "whole number"

    def read(self, value: Any, notes: Notes) -> int:
        if value is None:
            return 0
        if not re.fullmatch(r"[1-9]\d*", str(value)):
            notes.refuse("is not one of GitHub's numbers", f"`{self.command}` prints it")
            return 0
        return int(value)


def _parse_environments(value: Any, field: str, known: Mapping[str, Any]) -> tuple[tuple[Environment, ...], list[Problem]]:
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        fix = "give at least one: `pulumi config set --path 'environments[0].name' dev`"
        return (), [Problem(field, value, "is not a list of environments", fix)]
    problems: list[Problem] = []
    names = [str(each.get("name", "")) for each in value]
    found = tuple(_environment(f"{field}[{index}]", each, names, problems) for index, each in enumerate(value))
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(Problem(field, name, "is the name of more than one environment", "give each its own"))
    return found, problems


def _environment(field: str, item: Mapping[str, Any], names: list[str], problems: list[Problem]) -> Environment:
    def refuse(key: str, value: Any, reason: str, fix: str) -> None:
        problems.append(Problem(f"{field}.{key}", value, reason, fix))

    def texts(key: str) -> tuple[str, ...]:
        value = item.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            refuse(key, value, "is not a list of texts", "give a list, empty for none")
            return ()
        return tuple(value)

    for key in item:
        if key not in _KEYS:
            refuse(key, item[key], "is not a key", nearest(key, _KEYS))
    name, project = str(item.get("name") or ""), str(item.get("project") or "")
    if not _ENVIRONMENT.fullmatch(name) or name.endswith(PREVIEW_SUFFIX):
        fix = f"use up to 20 lower-case letters, digits and hyphens, a letter first, not ending in {PREVIEW_SUFFIX}"
        refuse("name", name, "is not a valid environment name", fix)
    if not formats.PROJECT.pattern.fullmatch(project):
        refuse("project", project, "is not a project ID", "give the project that it is deployed to")
    reads_from, reviewers, secrets = texts("readsFrom"), texts("reviewers"), texts("secrets")
    for other in reads_from:
        if other == name or other not in names:
            others = [each for each in names if each != name] or ["(there is no other)"]
            refuse("readsFrom", other, "is not another environment", nearest(other, others))
    for reviewer in reviewers:
        if not _REVIEWER.fullmatch(reviewer):
            fix = "give User:NUMBER or Team:NUMBER (`gh api users/LOGIN --jq .id`, `gh api orgs/ORG/teams/TEAM --jq .id`)"
            refuse("reviewers", reviewer, "is not a reviewer", fix)
    if len(reviewers) > 6:
        refuse("reviewers", len(reviewers), "is more than the 6 that GitHub takes", "name a team")
    for secret in secrets:
        if not _SECRET.fullmatch(secret):
            refuse("secrets", secret, "is not a valid secret name", "give the name alone, without its project")
    return Environment(name=name, project=project, reviewers=reviewers, reads_from=reads_from, secrets=secrets)


@dataclass(frozen=True, kw_only=True)
class BootstrapSettings:
    """Everything that a team may choose."""

    project: str = setting(formats.PROJECT, key="gcp:project", description="The project that holds state, keys and accounts.")
    location: str = setting(formats.REGION, default="asia-northeast1", description="Region of the state bucket and of the keys.")
    state_bucket: str = setting(_BUCKET, description="Name of the bucket that holds the state of all stacks; unique in the world.")
    repository: str = setting(_REPOSITORY, description="The GitHub repository, OWNER/NAME.")
    repository_id: int = setting(
        _GitHubNumber("gh api repos/OWNER/NAME --jq .id"),
        description="Its number (`gh api repos/OWNER/NAME --jq .id`), which unlike the name cannot be taken over.",
    )
    owner_id: int = setting(
        _GitHubNumber("gh api repos/OWNER/NAME --jq .owner.id"),
        description="Its owner's number (`gh api repos/OWNER/NAME --jq .owner.id`).",
    )
    branch: str = setting(_BRANCH, default="main", description="The branch that deploys.")
    environments: tuple[Environment, ...] = setting(
        Structure(_parse_environments, (), "list"), description="The environments; docs/deploy.md lists the keys of one."
    )

    @property
    def environment_names(self) -> list[str]:
        return [each.name for each in self.environments]


def load() -> BootstrapSettings:
    """The settings of the stack that the engine runs. Raises `SettingsError` with every problem at once."""
    return load_as(BootstrapSettings, {"gcp:region": "`pulumi config set location REGION`"})
