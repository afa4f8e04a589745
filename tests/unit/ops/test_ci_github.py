"""GitHub's API as the pipelines use it, against a local server: one comment, one issue, a clear message for every refusal."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from urllib3.util import Retry

from ops.ci import __main__ as ci
from ops.ci import report
from ops.ci.github import WORKFLOW_AUTHOR, GitHub, GitHubError
from ops.ci.step_record import StepRecord

TOKEN = "ghs_a-token-that-nobody-may-see"
MARK = report.marker("preview")


@dataclass
class FakeGitHub:
    """What GitHub keeps of one repository, and how it misbehaves."""

    url: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    #: Answers that come before any real one: status, headers, body.
    faults: list[tuple[int, Mapping[str, str], str]] = field(default_factory=list)

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        def page(items: list[dict[str, Any]], kind: str) -> tuple[int, Any]:
            return 200, [self.addressed(each, kind) for each in items]

        parts = path.removeprefix("/repos/owner/name/").split("/")
        match method, parts:
            case "GET", ["issues", _, "comments"]:
                return page(self.comments, "issues/comments")
            case "POST", ["issues", number, "comments"]:
                self.comments.append(self.item(len(self.comments) + 1, **body, of=number))
                return 201, self.addressed(self.comments[-1], "issues/comments")
            case "PATCH", ["issues", "comments", number]:
                return 200, self.change(self.comments, "id", number, body)
            case "GET", ["issues"]:
                opened = [each for each in self.issues if each["state"] == query["state"]]
                return page([each for each in opened if each["user"]["login"] == query["creator"]], "issues")
            case "GET", ["issues", number]:
                return 200, self.addressed(self.issues[int(number) - 1], "issues")
            case "POST", ["issues"]:
                self.issues.append(self.item(len(self.issues) + 1, **body, state="open"))
                return 201, self.addressed(self.issues[-1], "issues")
            case "PATCH", ["issues", number]:
                return 200, self.change(self.issues, "number", number, body)
            case "GET", ["deployments"]:
                return page([each for each in self.deployments if each["environment"] == query["environment"]], "deployments")
            case "GET", ["deployments", number, "statuses"]:
                (found,) = [each for each in self.deployments if each["id"] == int(number)]
                return 200, [{"state": found["state"]}] if found["state"] else []
        return 404, {"message": "Not Found"}

    def addressed(self, item: dict[str, Any], kind: str) -> dict[str, Any]:
        """With the URL at which its own requests go."""
        return {**item, "url": f"{self.url}/repos/owner/name/{kind}/{item['id']}"}

    def item(self, number: int, *, login: str = WORKFLOW_AUTHOR, **rest: Any) -> dict[str, Any]:
        url = f"https://github.com/owner/name/{number}"
        return {"id": number, "number": number, "html_url": url, "user": {"login": login}, **rest}

    def change(self, items: list[dict[str, Any]], key: str, number: str, body: dict[str, Any]) -> dict[str, Any]:
        (found,) = [each for each in items if each[key] == int(number)]
        found.update(body)
        return found


@pytest.fixture
def server() -> Iterator[FakeGitHub]:
    fake = FakeGitHub()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            fake.requests.append(f"{self.command} {url.path}")
            assert self.headers["authorization"] == f"token {TOKEN}"
            headers: Mapping[str, str] = {}
            if fake.faults:
                status, headers, text = fake.faults.pop(0)
                if status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
            else:
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                try:
                    status, document = fake.answer(self.command, url.path, query, body)
                except ConnectionResetError:
                    self.connection.close()
                    return
                text = json.dumps(document)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PATCH = _serve

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        fake.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        http.shutdown()
        thread.join()


@pytest.fixture
def github(server: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    monkeypatch.setattr(Retry, "sleep", lambda *_: None)
    return GitHub(api_url=server.url, repository="owner/name", token=TOKEN)


@pytest.fixture
def environment(server: FakeGitHub) -> dict[str, str]:
    return {"GITHUB_API_URL": server.url, "GITHUB_REPOSITORY": "owner/name", "GITHUB_TOKEN": TOKEN}


def write_record(folder: Path, name: str, status: int = 0, stdout: str = "") -> None:
    StepRecord(name=name, command=("x",), status=status, seconds=1.0, stdout=stdout, stderr="").write(folder)


# --- the pull request's comment


def test_comment_is_made_once_and_then_updated_in_place(github: GitHub, server: FakeGitHub) -> None:
    actions = [github.put_comment(12, MARK, f"{MARK} {text}").action for text in ("one", "two", "two")]
    assert actions == ["created", "updated", "unchanged"]
    assert [each["body"] for each in server.comments] == [f"{MARK} two"]
    assert server.comments[0]["of"] == "12"


def test_another_users_comment_is_never_touched_even_with_the_marker(github: GitHub, server: FakeGitHub) -> None:
    server.comments = [server.item(1, body=f"quoted: {MARK}", login="somebody")]
    assert github.put_comment(12, MARK, f"{MARK} new").action == "created"
    assert server.comments[0]["body"] == f"quoted: {MARK}"


def test_comment_command_writes_the_records_of_all_stacks(server: FakeGitHub, environment: dict[str, str], tmp_path: Path) -> None:
    write_record(tmp_path / "dev", "preview", stdout=f"Resources:\n    3 unchanged\nleaked {TOKEN}\n")
    arguments = ["comment", "--reports", str(tmp_path), "--pull-request", "12", "dev", "prod"]
    assert ci.main(arguments, environment) == 0
    (comment,) = server.comments
    assert "| `dev` | `3 unchanged` |" in comment["body"]
    assert "| `prod` | no preview" in comment["body"]
    assert TOKEN not in comment["body"]


def test_comment_is_printed_without_a_pull_request_and_needs_no_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ci.main(["comment", "--reports", str(tmp_path), "dev"], {}) == 0
    assert "## Preview" in capsys.readouterr().out


# --- the drift issue


def test_drift_opens_one_issue_that_is_updated_and_closed_when_clean(
    server: FakeGitHub, environment: dict[str, str], tmp_path: Path
) -> None:
    def check(status: int, stdout: str) -> None:
        write_record(tmp_path / "dev", "drift", status, stdout)
        assert ci.main(["drift-issue", "--reports", str(tmp_path), "dev"], environment) == 0

    check(0, "")
    assert server.issues == []
    check(7, "~ taints")
    check(7, "~ labels")
    (issue,) = server.issues
    assert issue["title"] == "Stack dev has drifted"
    assert "~ labels" in issue["body"]
    check(255, "no login")
    assert issue["title"] == "Drift check of stack dev fails"
    check(0, "")
    assert (issue["state"], issue["state_reason"]) == ("closed", "completed")
    assert server.comments[-1]["body"].startswith("Clean again")
    check(7, "~ again")
    assert [each["state"] for each in server.issues] == ["closed", "open"]


def test_issues_of_two_stacks_are_kept_apart(github: GitHub, server: FakeGitHub) -> None:
    for stack in ("dev", "prod"):
        mark = report.marker(f"drift:{stack}")
        github.put_issue(mark, stack, mark)
    assert github.close_issue(report.marker("drift:dev"), "clean") is not None
    assert [each["state"] for each in server.issues] == ["closed", "open"]


def test_drift_issue_without_a_check_says_how_to_make_one(
    environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ci.main(["drift-issue", "--reports", str(tmp_path), "dev"], environment) == 2
    assert f"make drift STACK=dev REPORT={tmp_path}" in capsys.readouterr().err


# --- what was deployed


def _deployments(*states: str) -> list[dict[str, Any]]:
    return [{"id": number, "environment": "prod", "sha": f"{number:040x}", "state": state} for number, state in enumerate(states, 1)]


@pytest.mark.parametrize(
    ("states", "commit"), [(("waiting", "failure", "success", "inactive"), f"{3:040x}"), (("", "failure"), ""), ((), "")]
)
def test_deployed_commit_is_the_last_success_s(
    server: FakeGitHub, environment: dict[str, str], tmp_path: Path, states: tuple[str, ...], commit: str
) -> None:
    server.deployments = [*_deployments(*states), {"id": 99, "environment": "dev", "sha": "f" * 40, "state": "success"}]
    output = tmp_path / "output"
    assert ci.main(["deployed-commit", "prod"], {**environment, "GITHUB_OUTPUT": str(output)}) == 0
    assert output.read_text() == f"commit={commit}\n"


def test_an_invalid_commit_never_reaches_the_next_step(
    server: FakeGitHub, environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.deployments = [{"id": 1, "environment": "prod", "sha": "main\nother=1", "state": "success"}]
    assert ci.main(["deployed-commit", "prod"], {**environment, "GITHUB_OUTPUT": str(tmp_path / "output")}) == 2
    assert not (tmp_path / "output").exists()


# --- faults


@pytest.mark.parametrize(
    ("status", "message", "fix"),
    [
        (401, "Bad credentials", "pass the workflow's own as GITHUB_TOKEN"),
        (403, "Resource not accessible by integration", "pull-requests: write"),
        (404, "Not Found", "check GITHUB_REPOSITORY"),
        (422, "Validation Failed", "does not take these values"),
    ],
)
def test_a_refusal_says_what_was_asked_why_and_what_to_do(github: GitHub, server: FakeGitHub, status: int, message: str, fix: str) -> None:
    server.faults = [(status, {}, json.dumps({"message": message}))]
    with pytest.raises(GitHubError, match=f"comment on pull request 12: GitHub answered {status} {message}") as caught:
        github.put_comment(12, MARK, MARK)
    assert fix in str(caught.value)
    assert TOKEN not in str(caught.value)


_FAULTS: list[tuple[tuple[int, Mapping[str, str], str], str]] = [
    ((503, {}, "<html>"), "answered 503 .*has a fault"),
    ((429, {"retry-after": "7"}, "{}"), "rate limit is used up"),
    ((0, {}, ""), r"no answer from GitHub \(ConnectionError\)"),
]


@pytest.mark.parametrize(("fault", "said"), _FAULTS)
def test_a_busy_or_broken_github_is_asked_again_and_given_up_in_the_end(
    github: GitHub, server: FakeGitHub, fault: tuple[int, Mapping[str, str], str], said: str
) -> None:
    server.faults = [fault]
    assert github.put_comment(12, MARK, MARK).action == "created"
    server.faults = [fault] * 10
    with pytest.raises(GitHubError, match=said):
        github.put_comment(12, MARK, MARK)
    assert len(server.faults) == 6


def test_a_new_comment_whose_answer_was_lost_is_not_written_twice(github: GitHub, server: FakeGitHub) -> None:
    real = server.answer

    def lose(method: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        found = real(method, path, query, body)
        if method == "POST":
            raise ConnectionResetError
        return found

    server.answer = lose  # type: ignore[method-assign]
    with pytest.raises(GitHubError, match="no answer"):
        github.put_comment(12, MARK, MARK)
    assert len(server.comments) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda variables: variables.pop("GITHUB_TOKEN"), "GITHUB_TOKEN: is not set. Fix: "),
        (lambda variables: variables.pop("GITHUB_REPOSITORY"), "GITHUB_REPOSITORY: is not set. Fix: "),
        (lambda variables: variables.update(GITHUB_REPOSITORY="name"), '"name" is not a repository'),
    ],
)
def test_missing_variables_are_named(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, str]], object], said: str
) -> None:
    change(environment)
    assert ci.main(["deployed-commit", "dev"], environment) == 2
    assert said in capsys.readouterr().err
