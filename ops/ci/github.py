"""Comments, issues and deployments on GitHub, as far as the pipelines need them, by PyGithub.

What a pipeline writes it finds again by a marker in the text and by its own author's name, so that it never changes a comment or an issue
of others. Left out: GitHub Apps and GraphQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import github
import requests
from github.Issue import Issue

#: The author of what a workflow's own token writes.
WORKFLOW_AUTHOR = "github-actions[bot]"

#: A request that may have written something is not repeated: the next run finds it by its marker.
_REPEATED = frozenset({"GET", "PATCH"})

_FIXES = {
    401: "The token is missing, wrong or expired: pass the workflow's own as GITHUB_TOKEN",
    403: "The token may not do this: give the job the permission that the request needs (`pull-requests: write`, "
    "`issues: write` or `deployments: read`)",
    404: "There is no such repository, pull request or issue, or the token may not see it: check GITHUB_REPOSITORY",
    410: "It was deleted, or issues are switched off in the repository",
    422: "GitHub does not take these values",
    429: "The rate limit is used up: run the job again in an hour",
}
_FAULT = "GitHub has a fault: run the job again; https://www.githubstatus.com"


class GitHubError(Exception):
    """GitHub refused a request or cannot be reached; the message says why and what to do. It holds no token."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A comment or an issue; `action` is created, updated, closed or unchanged."""

    url: str
    action: str


class GitHub:
    """One repository. Every method raises `GitHubError`."""

    def __init__(self, *, api_url: str, repository: str, token: str, author: str = WORKFLOW_AUTHOR) -> None:
        """`repository` is OWNER/NAME; `api_url` is https://api.github.com or a GitHub Enterprise Server's."""
        retry = github.GithubRetry(
            total=3,
            backoff_factor=1,
            status_forcelist=[429, *range(500, 600)],
            allowed_methods=_REPEATED,
            max_rate_limit_wait=60,
            raise_on_status=False,
        )
        api = github.Github(
            auth=github.Auth.Token(token),
            base_url=api_url.rstrip("/"),
            retry=retry,
            per_page=100,
            timeout=30,
            lazy=True,
            seconds_between_writes=None,
            seconds_between_requests=None,
        )
        self._repository = api.get_repo(repository)
        self._author = author

    def put_comment(self, pull_request: int, marker: str, body: str) -> Written:
        """Writes the pull request's one comment with `marker`: the first time a new one, then in its place."""
        with _explained(f"comment on pull request {pull_request}"):
            issue = self._repository.get_issue(pull_request)
            for comment in issue.get_comments():
                if comment.user and comment.user.login == self._author and marker in (comment.body or ""):
                    if comment.body == body:
                        return Written(url=comment.html_url, action="unchanged")
                    comment.edit(body)
                    return Written(url=comment.html_url, action="updated")
            return Written(url=issue.create_comment(body).html_url, action="created")

    def put_issue(self, marker: str, title: str, body: str) -> Written:
        """Opens the issue with `marker`, or brings the open one up to date."""
        with _explained("the drift issue"):
            issue = self._open_issue(marker)
            if issue is None:
                return Written(url=self._repository.create_issue(title, body).html_url, action="created")
            issue.edit(title=title, body=body)
            return Written(url=issue.html_url, action="updated")

    def close_issue(self, marker: str, comment: str) -> Written | None:
        """Closes the open issue with `marker`, saying `comment` in it; None when there is none."""
        with _explained("the drift issue"):
            issue = self._open_issue(marker)
            if issue is None:
                return None
            issue.create_comment(comment)
            issue.edit(state="closed", state_reason="completed")
            return Written(url=issue.html_url, action="closed")

    def deployed_commit(self, environment: str) -> str | None:
        """The commit that was last deployed to a GitHub environment with success; None when none was."""
        with _explained(f"deployments to {environment}"):
            for deployment in self._repository.get_deployments(environment=environment):
                # The newest status comes first. A deployment that a later one follows turns inactive.
                newest = next(iter(deployment.get_statuses()), None)
                if newest is not None and newest.state == "success":
                    return deployment.sha
        return None

    def _open_issue(self, marker: str) -> Issue | None:
        # A name will do at run time; https://github.com/PyGithub/PyGithub types the parameter as a user.
        for issue in self._repository.get_issues(state="open", creator=self._author):  # type: ignore[arg-type]
            # A list of issues holds pull requests as well; asking whether one is costs a request, so it comes last.
            if issue.user.login == self._author and marker in (issue.body or "") and issue.pull_request is None:
                return issue
        return None


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except github.GithubException as error:
        said = error.data.get("message", "") if isinstance(error.data, dict) else ""
        limited = isinstance(error, github.RateLimitExceededException)
        fix = _FIXES[429] if limited else _FIXES.get(error.status, _FAULT if error.status >= 500 else "See https://docs.github.com/en/rest")
        raise GitHubError(f"{what}: GitHub answered {error.status} {said}. {fix}") from error
    except requests.RequestException as error:
        raise GitHubError(f"{what}: no answer from GitHub ({type(error).__name__}). {_FAULT}") from error
