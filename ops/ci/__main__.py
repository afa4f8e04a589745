"""`python -m ops ci`: what the make targets of the pipelines call."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.settings.problems import Problem
from ops.ci import report, step_record
from ops.ci.github import GitHub, GitHubError
from ops.ci.masking import masker
from ops.ci.step_record import RecordError


class UsageError(Exception):
    """A variable or an argument is missing or wrong; the message is the problem."""

    def __init__(self, field: str, value: Any, reason: str, fix: str) -> None:
        super().__init__(str(Problem(field, value, reason, fix)))


def main(argv: list[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Exit status: 0 done (of `record`: the command's own), 1 GitHub or a record failed with a message, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.action == "record":
            return step_record.run(arguments.name, arguments.command, arguments.folder, environment).status
        if arguments.action == "comment":
            return _comment(arguments, environment)
        if arguments.action == "drift-issue":
            return _drift_issue(arguments, environment)
        return _deployed_commit(arguments, environment)
    except UsageError as error:
        print(f"ci: {error}", file=sys.stderr)
        return 2
    except (GitHubError, RecordError) as error:
        print(f"ci: {error}", file=sys.stderr)
        return 1


def _comment(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    stacks = {stack: step_record.read_folder(arguments.reports / stack) for stack in arguments.stacks}
    body = masker(environment)(report.preview_comment(stacks, _origin(environment)))
    if arguments.pull_request is None:
        print(body)
        return 0
    written = _github(environment).put_comment(arguments.pull_request, report.PREVIEW_MARKER, body)
    print(f"{written.action}: {written.url}")
    return 0


def _drift_issue(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    steps = step_record.read_folder(arguments.reports / arguments.stack)
    if "drift" not in steps:
        fix = f"make one first: make drift STACK={arguments.stack} REPORT={arguments.reports}"
        raise UsageError("--reports", str(arguments.reports / arguments.stack), "has no record of a drift check", fix)
    record, origin = steps["drift"], _origin(environment)
    github, mark = _github(environment), report.marker(f"drift:{arguments.stack}")
    if record.status == 0:
        closed = github.close_issue(mark, f"Clean again, as of {origin}.")
        print(f"closed: {closed.url}" if closed else f"stack {arguments.stack} has not drifted")
        return 0
    body = masker(environment)(report.drift_issue(arguments.stack, record, origin))
    title = report.drift_title(arguments.stack)
    if not report.drift_found(record):
        title = f"Drift check of stack {arguments.stack} fails"
    written = github.put_issue(mark, title, body)
    print(f"{written.action}: {written.url}")
    return 0


def _deployed_commit(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    commit = _github(environment).deployed_commit(arguments.stack) or ""
    if commit and not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        reason = f"is what GitHub's deployment to {arguments.stack} names, and is not a commit"
        raise UsageError("commit", commit, reason, "look at the repository's deployments, and deploy again")
    print(commit or f"nothing was ever deployed to {arguments.stack}")
    # What later steps of a GitHub job read: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
    if file := environment.get("GITHUB_OUTPUT"):
        with Path(file).open("a") as output:
            output.write(f"commit={commit}\n")
    return 0


def _origin(environment: Mapping[str, str]) -> report.Origin:
    server, repository, run = (environment.get(name, "") for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"))
    return report.Origin(
        # In a pull request GITHUB_SHA is a merge commit that exists nowhere else.
        commit=environment.get("HEAD_COMMIT") or environment.get("GITHUB_SHA", ""),
        run_url=f"{server}/{repository}/actions/runs/{run}" if server and repository and run else "",
    )


def _github(environment: Mapping[str, str]) -> GitHub:
    missing = [name for name in ("GITHUB_TOKEN", "GITHUB_REPOSITORY") if not environment.get(name)]
    if missing:
        fix = "a workflow sets GITHUB_REPOSITORY itself and passes GITHUB_TOKEN by `env`; by hand: GITHUB_REPOSITORY=OWNER/NAME "
        raise UsageError(" and ".join(missing), None, "is not set", f"{fix}GITHUB_TOKEN=$(gh auth token)")
    repository = environment["GITHUB_REPOSITORY"]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError("GITHUB_REPOSITORY", repository, "is not a repository", "give OWNER/NAME")
    return GitHub(
        api_url=environment.get("GITHUB_API_URL") or "https://api.github.com", repository=repository, token=environment["GITHUB_TOKEN"]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops ci", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    record = actions.add_parser("record", help="run a command and keep its output and exit status")
    record.add_argument("--folder", type=Path, required=True, help="where NAME.json goes")
    record.add_argument("name", type=_step_name)
    record.add_argument("command", nargs="+", help="after --")
    comment = actions.add_parser("comment", help="write the pull request's comment from the stacks' records")
    comment.add_argument("--reports", type=Path, required=True, help="folder of one folder a stack")
    comment.add_argument("--pull-request", type=int, help="its number; without one the comment is printed")
    comment.add_argument("stacks", nargs="+")
    drift = actions.add_parser("drift-issue", help="open, update or close the issue about a stack's drift")
    drift.add_argument("--reports", type=Path, required=True, help="folder of one folder a stack")
    drift.add_argument("stack")
    deployed = actions.add_parser("deployed-commit", help="print the commit that a stack was last deployed from")
    deployed.add_argument("stack", help="which is the name of its GitHub environment too")
    return parser


def _step_name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid name of a step: use lower-case letters, digits and hyphens")
    return text


if __name__ == "__main__":
    sys.exit(main())
