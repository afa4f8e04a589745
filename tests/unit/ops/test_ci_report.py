"""What a pull request's comment and a drift issue say, at any size, and without a secret."""

from __future__ import annotations

import pytest

from ops.ci import markdown, report
from ops.ci.masking import masker
from ops.ci.step_record import StepRecord

PREVIEW = """\
Previewing update (dev):
 +  pulumi:pulumi:Stack tpu-gpu-fungibility-dev create
 +  gcp:container:Cluster cluster create
Policies:
    ✅ fungibility@v0.1.0 (local: policies)

Resources:
    + 31 to create
    ~ 2 to update
    33 changes. 4 unchanged
"""
COST = "### Cost\n\n| rung | idle |\n| --- | ---: |\n| v6e-1 | $1.20 |\n"
ORIGIN = report.Origin(commit="0123456789abcdef", run_url="https://github.com/o/r/actions/runs/7")


def record(name: str, *, stdout: str = "", stderr: str = "", status: int = 0) -> StepRecord:
    return StepRecord(name=name, command=("x",), status=status, seconds=3.2, stdout=stdout, stderr=stderr)


def steps(**stdout: str) -> dict[str, StepRecord]:
    return {name: record(name, stdout=text) for name, text in stdout.items()}


def test_comment_has_one_row_a_stack_with_changes_policies_preflight_and_cost() -> None:
    body = report.preview_comment({"dev": steps(preview=PREVIEW, preflight="all well", cost=COST), "prod": {}}, ORIGIN)
    assert body.startswith(report.PREVIEW_MARKER)
    assert "| `dev` | `+ 31 to create`<br>`~ 2 to update`<br>`33 changes. 4 unchanged` | passed | passed | passed |" in body
    assert "| `prod` | no preview: its job ended before | not run | not run | not run |" in body
    assert "commit 0123456789ab · [the run and its whole logs](https://github.com/o/r/actions/runs/7)" in body


def test_sections_come_in_the_reader_s_order_and_only_failed_ones_are_open() -> None:
    found = {"cost": record("cost", stdout=COST), "preflight": record("preflight", stdout="no quota", status=1)}
    body = report.preview_comment({"dev": {**found, **steps(preview=PREVIEW)}}, ORIGIN)
    assert body.index("dev: preview (passed") < body.index("dev: preflight (FAILED, exit status 1") < body.index("dev: cost")
    assert "<details open><summary>dev: preflight" in body
    assert "<details><summary>dev: preview" in body


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("    ❌ fungibility@v0.1.0 (local: policies)\n        - [mandatory]  no-public-control-plane", "**violated**"),
        ("    ⚠️ fungibility@v0.1.0 (local: policies)", "warnings"),
        ("    ✅ fungibility@v0.1.0 (local: policies)", "passed"),
    ],
)
def test_verdict_of_the_policies_is_pulumi_s(line: str, verdict: str) -> None:
    body = report.preview_comment({"dev": steps(preview=f"Policies:\n{line}\n\nResources:\n    1 unchanged\n")}, ORIGIN)
    assert f"| `dev` | `1 unchanged` | {verdict} |" in body


def test_a_preview_that_replaces_pools_or_the_cluster_says_so_in_words() -> None:
    lines = [
        " +-  gcp:container:NodePool l4 replace [diff: ~nodeConfig]",
        " ++  gcp:container:NodePool l4 create replacement [diff: ~nodeConfig]",
        " ~   gcp:container:NodePool v6e-1 update [diff: ~autoscaling]",
        " +-  gcp:container:Cluster cluster replace [diff: ~networkPolicy]",
    ]
    body = report.preview_comment({"dev": steps(preview="\n".join([*lines, "Resources:", "    +-2 to replace", ""]))}, ORIGIN)
    row = "| `+-2 to replace`<br>**replaces pool `l4`: its replicas end at once**<br>**replaces the cluster (`cluster`)** |"
    assert f"| `dev` {row} not run |" in body


def test_failed_preview_shows_its_standard_error_too() -> None:
    failed = record("preview", stdout="Previewing", stderr="error: no credentials", status=255)
    body = report.preview_comment({"dev": {"preview": failed}}, ORIGIN)
    assert "| `dev` | **failed** |" in body
    assert "Previewing\nerror: no credentials" in body


def test_cost_table_is_rendered_and_other_output_is_quoted() -> None:
    body = report.preview_comment({"dev": steps(cost=COST, preflight="| a |\n|---|\n<img src=x>")}, ORIGIN)
    assert f"</summary>\n\n{COST.strip()}\n\n</details>" in body
    assert "```text\n| a |\n|---|\n<img src=x>\n```" in body


def test_output_can_neither_end_its_fence_nor_pose_as_the_marker() -> None:
    text = f"```\n</details>\n````\n{report.marker('drift:dev')}\n<!-- open end"
    body = report.preview_comment({"dev": steps(preflight=text)}, ORIGIN)
    assert "`````text\n```\n</details>\n````\n" in body
    assert body.count("<!--") == 1


def test_terminal_colours_are_taken_out() -> None:
    body = report.preview_comment({"dev": steps(preflight="\x1b[1;31mred\x1b[0m\r\nplain\x07")}, ORIGIN)
    assert "```text\nred\nplain\n```" in body


@pytest.mark.parametrize("letter", ["x", "ü", "界", "🙂"])
def test_comment_never_exceeds_github_s_limit_and_keeps_the_ends(letter: str) -> None:
    long = "first\n" + "\n".join(letter * 80 for _ in range(5000)) + "\nerror: last"
    stacks = {
        name: {
            "preview": record("preview", stdout=long, status=1),
            "preflight": record("preflight", stdout=long),
            "cost": record("cost", stdout=COST),
        }
        for name in ("dev", "prod")
    }
    body = report.preview_comment(stacks, ORIGIN)
    assert len(body) <= markdown.size(body) <= 65_536
    assert markdown.size(body) > 60_000
    assert (body.count("first\n"), body.count("error: last")) == (4, 4)
    assert body.count("lines left out; the run's log has them") == 4
    assert body.count(COST.strip()) == 2


# --- drift


def test_drift_differs_from_a_failed_check() -> None:
    found, broken = record("drift", status=7, stdout="~ changed"), record("drift", status=255, stderr="error: no login")
    assert report.drift_found(found)
    assert not report.drift_found(broken)
    assert "is not what its settings say" in report.drift_issue("dev", found, ORIGIN)
    assert "could not be made (exit status 255)" in report.drift_issue("dev", broken, ORIGIN)
    assert "error: no login" in report.drift_issue("dev", broken, ORIGIN)


# --- masking


def test_secrets_of_the_environment_are_hidden_in_every_form() -> None:
    mask = masker({"MY_API_KEY": "correct horse", "HUGGING_FACE_TOKEN": "line one abc\nline two def", "HOME": "/home/me-myself"})
    assert mask("correct horse in /home/me-myself: line two def") == "[secret] in /home/me-myself: [secret]"


def test_paths_addresses_and_short_values_are_not_secrets() -> None:
    variables = {"GOOGLE_CREDENTIALS": "/tmp/credentials.json", "TOKEN_URL": "https://sts.googleapis.com", "A_TOKEN": "yes"}
    text = "/tmp/credentials.json https://sts.googleapis.com yes"
    assert masker(variables)(text) == text


@pytest.mark.parametrize(
    "secret",
    [
        "ghp_" + "a1" * 18,
        "ghs_" + "a1" * 18,
        "github_pat_" + "a1_" * 18,
        "ya29.c." + "x" * 40,
        "AIza" + "Sy" * 18,
        "hf_" + "aB" * 17,
        "pul-" + "0f" * 20,
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJyZXBvIn0.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_known_forms_of_secrets_are_hidden(secret: str) -> None:
    assert masker({})(f"before {secret} after") == "before [secret] after"
