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
from components.settings.reader import Notes, Reader, ValueType, setting
from components.settings.settings import load_as
from components.settings.value_types import Structure, Text, Texts

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

_NAME = Text(
    # An account's name is `preview-ENVIRONMENT`, of at most 30 characters.
    re.compile(rf"(?!.*{PREVIEW_SUFFIX}$)[a-z]([a-z0-9-]{{0,18}}[a-z0-9])?"),
    "a valid environment name",
    f"use up to 20 lower-case letters, digits and hyphens, a letter first, not ending in {PREVIEW_SUFFIX}",
)
_REVIEWER = Text(
    re.compile(r"(User|Team):[1-9]\d*"),
    "a reviewer",
    "give User:NUMBER or Team:NUMBER (`gh api users/LOGIN --jq .id`, `gh api orgs/ORG/teams/TEAM --jq .id`)",
)
_SECRET = Text(re.compile(r"[A-Za-z0-9_-]{1,255}"), "a valid secret name", "give the name alone, without its project")

#: GitHub's limit of one environment.
_MAX_REVIEWERS = 6


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One stack of the program, and the project that it is deployed to."""

    name: str = setting(_NAME, description="Name of the stack and of its GitHub environment.")
    project: str = setting(formats.PROJECT, description="The project that it is deployed to.")
    reviewers: tuple[str, ...] = setting(
        Texts(_REVIEWER, most=_MAX_REVIEWERS),
        default=[],
        description=f"`User:NUMBER` or `Team:NUMBER`, at most {_MAX_REVIEWERS}: one of them approves each update.",
    )
    reads_from: tuple[str, ...] = setting(
        Texts(), default=[], description="Environments whose outputs its stack reads (setting `imagesFrom`); it may use their key for that."
    )
    secrets: tuple[str, ...] = setting(
        Texts(_SECRET), default=[], description="Names of the project's Secret Manager secrets that its stack reads; they must exist."
    )


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
    found = []
    for index, each in enumerate(value):
        reader = Reader.of_element(f"{field}[{index}]", each, {})
        environment = reader.read_element(Environment, "a key of an environment")
        others = [name for name in names if name != environment.name]
        for other in environment.reads_from:
            if other not in others:
                reader.refuse("readsFrom", other, "is not another environment", nearest(other, others or ["(there is no other)"]))
        problems += reader.problems
        found.append(environment)
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(Problem(field, name, "is the name of more than one environment", "give each its own"))
    return tuple(found), problems


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
