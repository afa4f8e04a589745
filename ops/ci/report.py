"""The pull request's comment and the drift issue, as Markdown made of step records.

A stack's steps are `preview`, `preflight` and `cost`, named as their make targets; `drift` is the scheduled check's. Left out:
where the text goes (`ci.github`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ops.ci.markdown import BODY_LIMIT, code, fenced, folded, plain, shares, shorten, size
from ops.ci.step_record import StepRecord

#: Steps of a preview in the order in which a reader wants them.
PREVIEW_STEPS = ("preview", "preflight", "cost")

#: Exit status of `pulumi` with `--expect-no-changes` when there were some: ExitNoChanges in pkg/cmd/pulumi/cmd/exit_codes.go
#: of pulumi 3.250. Any other failure means that the check itself failed.
_CHANGES_FOUND = 7

#: A pool or cluster that the engine means to replace, in the lines of a preview: `+-` replace, `++` create replacement.
_REPLACED = re.compile(r"^ *(?:\+-|\+\+) +gcp:container:(NodePool|Cluster) +(\S+)", re.MULTILINE)

#: What a replacement does that the engine's word for it does not say (docs/operate.md).
_REPLACES = {"NodePool": "**replaces pool {}: its replicas end at once**", "Cluster": "**replaces the cluster ({})**"}

_HTML_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a report comes from."""

    commit: str
    #: Page of the pipeline's run; empty on a person's machine.
    run_url: str

    def __str__(self) -> str:
        commit = f"commit {self.commit[:12]}" if self.commit else "a local run"
        return f"{commit} · [the run and its whole logs]({self.run_url})" if self.run_url else commit


def marker(kind: str) -> str:
    """The line by which a comment or an issue is found again: invisible when rendered."""
    return f"<!-- tpu-gpu-fungibility:{kind} -->"


PREVIEW_MARKER = marker("preview")


def block(text: str, title: str) -> list[str]:
    """The indented lines below `title:` in what `pulumi` prints, without the margin; empty when there is none."""
    lines = plain(text).splitlines()
    starts = [index for index, line in enumerate(lines) if line.strip() == f"{title}:"]
    if not starts:
        return []
    found = []
    for line in lines[starts[-1] + 1 :]:
        if not line.startswith("    "):
            break
        found.append(line[4:].rstrip())
    return found


def preview_comment(stacks: Mapping[str, Mapping[str, StepRecord]], origin: Origin, *, limit: int = BODY_LIMIT) -> str:
    """One comment for all stacks, in their order; `stacks` is stack -> step -> record. At most `limit` bytes."""
    rows = [
        f"| {code(stack)} | {_changes(steps.get('preview'))} | {_policies(steps.get('preview'))} "
        f"| {_outcome(steps.get('preflight'))} | {_outcome(steps.get('cost'))} |"
        for stack, steps in stacks.items()
    ]
    head = "\n".join(
        [
            PREVIEW_MARKER,
            "## Preview",
            "",
            "| stack | changes | policies | preflight | cost |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"From {origin}. This comment is updated by every push.",
        ]
    )
    shown = [(stack, record) for stack, steps in stacks.items() for record in _in_order(steps)]
    texts = [_printed(record) for _, record in shown]
    frames = [size(_section(stack, record, "")) + 8 for stack, record in shown]
    limits = shares([size(text) for text in texts], limit - size(head) - sum(frames))
    sections = [
        _section(stack, record, shorten(text, allowed)) for (stack, record), text, allowed in zip(shown, texts, limits, strict=True)
    ]
    return "\n\n".join([head, *sections])


def drift_found(record: StepRecord) -> bool:
    """Whether a drift check that failed did so because there is drift, not because it could not be made."""
    return record.status == _CHANGES_FOUND


def drift_title(stack: str) -> str:
    return f"Stack {stack} has drifted"


def drift_issue(stack: str, record: StepRecord, origin: Origin, *, limit: int = BODY_LIMIT) -> str:
    """The body of the issue about a stack whose check was not clean. At most `limit` bytes."""
    if drift_found(record):
        said = f"What is deployed as {code(stack)} is not what its settings say: it was changed by hand, or an update ended half way."
        fix = (
            f"To put it back, run the workflow `up` again, or `make deploy STACK={stack}`. To keep the change, put it into "
            "the settings by a pull request. This issue is updated by every check and closes itself when one is clean."
        )
    else:
        said = f"The drift check of {code(stack)} could not be made (exit status {record.status}), so drift would go unnoticed."
        fix = "The end of its output says why. This issue closes itself when a check is clean."
    head = "\n\n".join([marker(f"drift:{stack}"), said, fix, f"From {origin}."])
    frame = size(_section(stack, record, "")) + 8
    return "\n\n".join([head, _section(stack, record, shorten(_printed(record), limit - size(head) - frame))])


def _in_order(steps: Mapping[str, StepRecord]) -> Sequence[StepRecord]:
    known = [steps[name] for name in PREVIEW_STEPS if name in steps]
    return [*known, *(record for name, record in steps.items() if name not in PREVIEW_STEPS)]


def _section(stack: str, record: StepRecord, text: str) -> str:
    ended = "passed" if record.status == 0 else f"FAILED, exit status {record.status}"
    title = f"{stack}: {record.name} ({ended}, {record.seconds:.0f} s)"
    return folded(title, text if _is_table(text) else fenced(text), is_open=record.status != 0)


def _printed(record: StepRecord) -> str:
    """What the step printed; a healthy one's notes on standard error are of no interest."""
    out = _HTML_COMMENT.sub("", plain(record.stdout)).strip("\n")
    if record.status == 0:
        return out
    return "\n".join(part for part in (out, plain(record.stderr).strip("\n")) if part)


def _is_table(text: str) -> bool:
    """Whether it is Markdown of our own making, to be rendered and not quoted: nothing but a table and plain lines."""
    return re.search(r"^\|[ :-]*---", text, re.MULTILINE) is not None and "`" * 3 not in text and "<" not in text


def _changes(record: StepRecord | None) -> str:
    if record is None:
        return "no preview: its job ended before"
    if record.status != 0:
        return "**failed**"
    found = block(record.stdout, "Resources")
    replaced = dict.fromkeys(_REPLACED.findall(plain(record.stdout)))
    lines = [*(code(line.strip()) for line in found), *(_REPLACES[kind].format(code(name)) for kind, name in replaced)]
    return "<br>".join(lines) if found else "see below"


def _policies(record: StepRecord | None) -> str:
    """Pulumi heads each policy pack's violations with its own verdict."""
    verdicts = block(record.stdout, "Policies") if record is not None else []
    if any("❌" in line for line in verdicts):
        return "**violated**"
    if any("⚠" in line for line in verdicts):
        return "warnings"
    return "passed" if any("✅" in line for line in verdicts) else "not run"


def _outcome(record: StepRecord | None) -> str:
    if record is None:
        return "not run"
    return "passed" if record.status == 0 else "**failed**"
