"""The few parts of GitHub's REST API that the pipelines need, by `requests`: comments, issues and deployments.

https://docs.github.com/en/rest. What a pipeline writes it finds again by a marker in the text and by its own author's name, so
that nobody else's comment or issue is ever changed. Left out: GitHub Apps and GraphQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import requests

API_VERSION = "2022-11-28"

#: Who a workflow's own token writes as.
WORKFLOW_AUTHOR = "github-actions[bot]"

_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 4
_LONGEST_WAIT_SECONDS = 60.0
_PAGE = 100
_MOST_PAGES = 50

_CURES = {
    401: "The token is missing, wrong or expired: pass the workflow's own as GITHUB_TOKEN",
    403: "The token may not do this: give the job the permission that the request needs (`pull-requests: write`, "
    "`issues: write` or `deployments: read`)",
    404: "There is no such repository, pull request or issue, or the token may not see it: check GITHUB_REPOSITORY",
    410: "It was deleted, or issues are switched off in the repository",
    422: "GitHub does not take these values",
}


class GitHubError(Exception):
    """GitHub refused a request or cannot be reached; the text says which request, why, and what to do. It holds no token."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A comment or an issue."""

    number: int
    url: str
    #: created, updated, closed or unchanged.
    action: str


class GitHub:
    """One repository's API."""

    def __init__(
        self,
        *,
        api_url: str,
        repository: str,
        token: str,
        author: str = WORKFLOW_AUTHOR,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`repository` is OWNER/NAME; `api_url` is https://api.github.com or a GitHub Enterprise Server's."""
        self._base = f"{api_url.rstrip('/')}/repos/{repository}"
        self._author = author
        self._sleep = sleep
        self._session = requests.Session()
        # A machine's own ~/.netrc would replace the token.
        self._session.trust_env = False
        self._session.headers.update(
            {
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {token}",
                "X-GitHub-Api-Version": API_VERSION,
                "User-Agent": "tpu-gpu-fungibility-ci",
            }
        )

    def put_comment(self, pull_request: int, marker: str, body: str) -> Written:
        """Writes the pull request's one comment with `marker`: the first time a new one, then in its place."""
        for comment in self._pages(f"/issues/{pull_request}/comments"):
            if self._is_ours(comment, marker):
                if comment["body"] == body:
                    return Written(number=int(comment["id"]), url=str(comment["html_url"]), action="unchanged")
                answer = self._request("PATCH", f"/issues/comments/{comment['id']}", {"body": body})
                return Written(number=int(answer["id"]), url=str(answer["html_url"]), action="updated")
        answer = self._request("POST", f"/issues/{pull_request}/comments", {"body": body})
        return Written(number=int(answer["id"]), url=str(answer["html_url"]), action="created")

    def put_issue(self, marker: str, title: str, body: str) -> Written:
        """Opens the issue with `marker`, or brings the open one up to date."""
        issue = self._open_issue(marker)
        if issue is None:
            answer = self._request("POST", "/issues", {"title": title, "body": body})
            return Written(number=int(answer["number"]), url=str(answer["html_url"]), action="created")
        answer = self._request("PATCH", f"/issues/{issue['number']}", {"title": title, "body": body})
        return Written(number=int(answer["number"]), url=str(answer["html_url"]), action="updated")

    def close_issue(self, marker: str, comment: str) -> Written | None:
        """Closes the open issue with `marker`, saying `comment` in it; None when there is none."""
        issue = self._open_issue(marker)
        if issue is None:
            return None
        number = int(issue["number"])
        self._request("POST", f"/issues/{number}/comments", {"body": comment})
        answer = self._request("PATCH", f"/issues/{number}", {"state": "closed", "state_reason": "completed"})
        return Written(number=number, url=str(answer["html_url"]), action="closed")

    def deployed_commit(self, environment: str) -> str | None:
        """The commit that was last deployed to a GitHub environment with success; None when none was."""
        for deployment in self._pages("/deployments", {"environment": environment}):
            # The newest status comes first. A deployment that a later one follows turns inactive.
            statuses = self._request("GET", f"/deployments/{deployment['id']}/statuses?per_page=1")
            if statuses and statuses[0]["state"] == "success":
                return str(deployment["sha"])
        return None

    def _open_issue(self, marker: str) -> Mapping[str, Any] | None:
        for issue in self._pages("/issues", {"state": "open", "creator": self._author}):
            if "pull_request" not in issue and self._is_ours(issue, marker):
                return issue
        return None

    def _is_ours(self, item: Mapping[str, Any], marker: str) -> bool:
        return (item.get("user") or {}).get("login") == self._author and marker in (item.get("body") or "")

    def _pages(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[Mapping[str, Any]]:
        for page in range(1, _MOST_PAGES + 1):
            parameters = {**(query or {}), "per_page": str(_PAGE), "page": str(page)}
            items = self._request("GET", f"{path}?{urlencode(parameters)}")
            yield from items
            if len(items) < _PAGE:
                return

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON. A busy or broken GitHub is asked again; a request that was refused is not."""
        what = f"{method} {self._base}{path}"
        for attempt in range(1, _ATTEMPTS + 1):
            last = attempt == _ATTEMPTS
            try:
                response = self._session.request(method, f"{self._base}{path}", json=body, timeout=_TIMEOUT_SECONDS)
            except requests.RequestException as error:
                # A comment that may have been written is not written again: the next run finds it by its marker.
                if last or method == "POST":
                    reason = type(error).__name__
                    raise GitHubError(f"{what}: no answer ({reason}). Run the job again; https://www.githubstatus.com") from error
                self._sleep(2.0**attempt)
                continue
            if response.ok:
                try:
                    return response.json()
                except ValueError as error:
                    raise GitHubError(
                        f"{what}: answered {response.status_code} with something that is not JSON. "
                        "Check GITHUB_API_URL: a proxy may have answered instead"
                    ) from error
            limited = response.status_code == 429 or (
                response.status_code == 403 and ("retry-after" in response.headers or response.headers.get("x-ratelimit-remaining") == "0")
            )
            if last or not (limited or response.status_code >= 500):
                raise GitHubError(_refusal(what, response, limited))
            self._sleep(_wait(response, attempt))
        raise AssertionError("unreachable")


def _wait(response: requests.Response, attempt: int) -> float:
    asked = response.headers.get("retry-after", "")
    return min(_LONGEST_WAIT_SECONDS, float(asked) if asked.isdigit() else 2.0**attempt)


def _refusal(what: str, response: requests.Response, limited: bool) -> str:
    try:
        said = response.json().get("message", "")
    except (ValueError, AttributeError):
        said = ""
    if limited:
        cure = "The rate limit is used up: run the job again in an hour"
    elif response.status_code >= 500:
        cure = "GitHub has a fault: run the job again; https://www.githubstatus.com"
    else:
        cure = _CURES.get(response.status_code, "See https://docs.github.com/en/rest")
    return f"{what}: answered {response.status_code} {said or response.reason}. {cure}"
