"""The smoke test against a server that misbehaves in each way that a service does: each has a message and a fix of its own."""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from ops.smoke import __main__ as command
from ops.smoke import checks, target
from ops.smoke.checks import Limits, Report
from ops.smoke.service import KEY_VARIABLE
from ops.smoke.target import Target, TargetError
from tests.unit.misbehaving_server import (
    MODEL,
    TEXT,
    Reply,
    breaks_off,
    chat,
    closes,
    cut_short,
    echoes_credentials,
    in_turn,
    later,
    says,
    serving,
    stream_events,
    streams,
    trickles,
)
from tests.unit.ops.test_smoke_serving_pools import of_stack

KEY = "sk-nobody-may-see-this"

#: No wait is longer than a test needs.
QUICK = Limits(healthy=0.3, request=5.0, first_token=2.0, total=4.0)


def run(url: str, limits: Limits = QUICK, **options: Any) -> Report:
    return checks.run(Target(service_url=url, model=MODEL), limits=limits, **{"ask_cluster": False, **options})


def found(report: Report) -> dict[str, str]:
    return {each.field: each.status for each in report.checks}


def failure(report: Report, name: str) -> tuple[str, str]:
    """What the one check that failed found, and its fix."""
    (check,) = [each for each in report.checks if each.status == "failed"]
    assert check.field == name, report.checks
    assert check.fix, "a failure says what to do"
    return check.value, check.fix


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- what is good


def test_a_good_service_passes_every_check_and_the_report_names_the_pod() -> None:
    good = says(chat(), X_Sandbox_Pod="vllm-1", X_Sandbox_Node="node-1", X_Sandbox_Pool="l4-spot")
    with serving(chat=good) as server:
        what = Target(service_url=server.url, model=MODEL, pools=("v6e-1", "l4-spot"))
        report = checks.run(what, limits=QUICK)
    assert report.ok
    names = ["health", "model", "completion", "total", "stream", "first token", "pool"]
    assert found(report) == dict.fromkeys(names, "ok") | {"rungs": "skipped"}
    assert report.served_by == {"pool": "l4-spot", "priority": 2, "pod": "vllm-1", "node": "node-1"}


def test_a_model_without_a_chat_template_is_asked_by_completions() -> None:
    refused = says({"error": {"message": "default chat template is no longer allowed, so you must provide one"}}, 400)
    with serving(chat=refused, stream=refused) as server:
        fixes = [each.fix for each in run(server.url).checks if each.status == "failed"]
        assert fixes == ["the model has no chat template: `--api completions` asks it without one"] * 2
        assert run(server.url, api="completions").ok


def test_health_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_LOOK_SECONDS", 0.01)
    loading = says({"error": "loading"}, 503)
    with serving(health=in_turn(closes, loading, says(b"", kind="text/plain"))) as server:
        report = run(server.url, Limits(healthy=5.0))
    assert report.ok


def test_without_a_way_to_the_cluster_the_pool_is_not_checked_and_that_is_not_a_failure() -> None:
    with serving() as server:
        report = run(server.url, ask_cluster=True)
    assert report.ok
    assert found(report)["pool"] == "skipped"


def test_expected_pool_that_does_not_answer_fails() -> None:
    with serving(chat=says(chat(), X_Sandbox_Pool="l4")) as server:
        assert run(server.url, expected_pool="l4").ok
        cause, fix = failure(run(server.url, expected_pool="v6e-1"), "pool")
    assert "expected v6e-1" in cause
    assert "out of stock" in fix


# --- no service


def test_refused_connection() -> None:
    cause, fix = failure(run(f"http://127.0.0.1:{closed_port()}/v1"), "health")
    assert "refuses the connection" in cause
    assert "not healthy after" in cause
    assert "endpoints" in fix


def test_unknown_name_fails_at_once() -> None:
    report = run("http://no-such-host.invalid/v1", Limits(healthy=60.0))
    cause, fix = failure(report, "health")
    assert "no-such-host.invalid has no address" in cause or "name server" in fix
    assert "DNS" in fix or "name server" in fix


def test_a_silent_host_differs_from_one_that_refuses() -> None:
    # A listener whose queue is full: the kernel drops what comes then, as a firewall does.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(listener.getsockname())
            report = run(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", Limits(healthy=0.2, request=0.3))
        finally:
            for each in waiting:
                each.close()
    cause, fix = failure(report, "health")
    assert "does not take the connection within 0.3 s" in cause
    assert "loadBalancerSourceRanges" in fix


def test_plain_http_behind_an_https_url_is_named() -> None:
    with serving() as server:
        cause, fix = failure(run(server.url.replace("http:", "https:")), "health")
    assert "TLS" in cause
    assert "http://" in fix


def test_a_certificate_for_another_name_is_told_from_a_service_without_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("llm.example.com").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.crt"))
    with serving() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        cause, fix = failure(run(server.url.replace("http:", "https:")), "health")
    assert "not one to trust: IP address mismatch" in cause
    assert "gateway.hostName" in fix


# --- malformed answers and refusals

_HTML = says(b"<html>welcome to nginx</html>", kind="text/html")

_WRONG: list[tuple[str, str, Reply, str, str]] = [
    ("503", "chat", says({"error": {"message": "overloaded"}}, 503), "answers 503", "kubectl logs"),
    ("full", "chat", says({"error": {"message": "The engine is currently busy and cannot accept new requests."}}, 503), "answers 503",
        "maxQueuedRequests"),
    ("429", "chat", says({"error": "slow down"}, 429, Retry_After="7"), "answers 429", "try again in 7 s"),
    ("403", "models", says(b"denied", 403), "answers 403", "keeps you out"),
    ("404", "models", says({"detail": "Not Found"}, 404), "answers 404", "ending in /v1"),
    ("400", "chat", says({"error": {"message": "max_tokens too large"}}, 400), "answers 400", "message"),
    ("redirect", "models", says(b"", 302, Location="https://login.example/"), "login.example", "--url"),
    ("401 without a key", "models", says({"error": "Unauthorized"}, 401), "wants an API key", f"export {KEY_VARIABLE}"),
    ("other model listed", "models", says({"data": [{"id": "meta/llama"}]}), "serves meta/llama, not Qwen", "rollout"),
    ("models no list", "models", says({"data": "x"}), "not a list of models", "leads to vLLM"),
    ("model not known", "chat", says({"error": {"message": "The model `x` does not exist."}}, 404), f"has no model {MODEL}", "older update",
    ),
    ("other model answers", "chat", says(chat("meta/llama")), "answered by model meta/llama", "older update"),
    ("models change in a stream", "stream", streams(*stream_events()[:2], *stream_events("meta/llama")), "several models", "older update"),
    ("not JSON", "chat", _HTML, "it is not JSON", "leads to vLLM"),
    ("no choices", "chat", says({"model": MODEL, "choices": []}), "not an answer of this kind", "leads to vLLM"),
    ("no model", "chat", says({"choices": [{"message": {"content": "x"}}]}), "names no model", "leads to vLLM"),
    ("content a number", "chat", says({"model": MODEL, "choices": [{"message": {"content": 7}}]}), "is not a text", "leads"),
    ("empty answer", "chat", says(chat(text="  ")), "answer is empty", "weights"),
    ("empty stream", "stream", streams(*stream_events(text="")), "answer is empty", "weights"),
    ("cut short", "chat", cut_short(json.dumps(chat()).encode()), "breaks off in the middle", "restarts"),
    ("closed", "chat", closes, "closes it without an answer", "restarts"),
    ("no stream", "stream", says(chat()), "content type application/json", "gathers the stream"),
    ("stream breaks off", "stream", breaks_off(*stream_events()[:3]), "breaks off in the middle", "restarts"),
    ("stream without its end", "stream", streams(*stream_events()[:3]), "without finish_reason and [DONE]", "timeout"),
    ("stream of nonsense", "stream", streams(*stream_events()[:2], "{broken"), "event of the stream is malformed", "vLLM"),
    ("event without choices", "stream", streams({"model": MODEL}), "not an answer of this kind", "leads to vLLM"),
    ("error in a stream", "stream", streams(*stream_events()[:2], {"error": {"message": "EngineDeadError"}}), "EngineDeadError",
        "kubectl logs"),
    ("endless answer", "chat", says(b" " * (5 * 1024 * 1024)), "more than 4 MiB", "leads to vLLM"),
]  # fmt: skip

_CHECK_OF = {"models": "model", "chat": "completion", "stream": "stream"}


@pytest.mark.parametrize(("route", "reply", "cause", "fix"), [each[1:] for each in _WRONG], ids=[e[0] for e in _WRONG])
def test_each_fault_has_a_message_and_a_fix_of_its_own(route: str, reply: Reply, cause: str, fix: str) -> None:
    changes: dict[str, Reply] = {route: reply}
    with serving(**changes) as server:
        told, suggested = failure(run(server.url), _CHECK_OF[route])
    assert cause in told
    assert fix in suggested
    assert len(told) < 500


def test_what_cannot_be_asked_is_skipped_and_says_why() -> None:
    with serving(models=says(b"", 403)) as server:
        report = run(server.url)
    skipped = {each.field: each.reason for each in report.checks if each.status == "skipped"}
    assert skipped.pop("pool") == skipped.pop("rungs") == "not asked (--no-cluster)"
    assert skipped == dict.fromkeys(["completion", "total", "stream", "first token"], "model failed")


# --- slow


def test_server_that_hangs_is_given_up() -> None:
    with serving(chat=later(0.6, says(chat()))) as server:
        cause, fix = failure(run(server.url, Limits(healthy=1.0, request=0.2)), "completion")
    assert "has not begun to answer after 0.2 s" in cause
    assert "--request-timeout" in fix


def test_server_that_trickles_is_given_up_although_each_read_is_quick() -> None:
    with serving(chat=trickles(0.6)) as server:
        cause, _ = failure(run(server.url, Limits(healthy=1.0, request=0.2)), "completion")
    assert "is not done after 0.2 s" in cause


def test_stream_that_stops_in_the_middle_is_given_up() -> None:
    def stalls(handler: Any) -> None:
        breaks_off(*stream_events()[:3])(handler)
        later(0.5, lambda _: None)(handler)

    with serving(stream=stalls) as server:
        cause, _ = failure(run(server.url, Limits(healthy=1.0, request=0.2)), "stream")
    assert "and then no more after 0.2 s" in cause


def test_slow_completion_and_slow_first_token_are_failures_of_their_own() -> None:
    limits = Limits(healthy=1.0, request=5.0, first_token=0.01, total=0.02)
    with serving(chat=later(0.1, says(chat())), stream=streams(*stream_events(), pause=0.02)) as server:
        report = run(server.url, limits)
    reasons = {each.field: each.reason for each in report.checks if each.status == "failed"}
    assert reasons == {"total": "--max-total is 0.02 s", "first token": "--max-first-token is 0.01 s"}
    assert found(report)["completion"] == found(report)["stream"] == "ok"


def test_first_token_is_timed_at_the_first_text_and_not_at_the_first_event() -> None:
    events = stream_events()
    with serving(stream=streams(*events, pause=0.05)) as server:
        report = run(server.url)
    seconds = {each.field: each.seconds for each in report.checks}
    first, whole = seconds["first token"], seconds["stream"]
    assert first is not None
    assert whole is not None
    # The first event brings the role alone.
    assert 0.1 <= first < whole - 0.05 * (len(events) - 3)


# --- the key


def test_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with serving(chat=echoes_credentials(500)) as server:
        status = command.main(["--url", server.url, "--model", MODEL, "--timeout", "1", "--no-cluster"])
        sent = {headers.get("Authorization") for _, headers, _ in server.seen}
    assert sent == {f"Bearer {KEY}"}
    assert status == 1
    printed = "".join(capsys.readouterr())
    assert "bad header Bearer [key]" in printed
    assert KEY not in printed


def test_refused_key_differs_from_a_missing_one() -> None:
    with serving(models=echoes_credentials(401)) as server:
        cause, fix = failure(run(server.url, key=KEY), "model")
    assert f"refuses the API key of {KEY_VARIABLE}" in cause
    assert KEY not in cause + fix


def test_without_a_key_no_credential_is_sent_even_from_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serving() as server:
        assert run(server.url).ok
        assert not [headers for _, headers, _ in server.seen if "Authorization" in headers]


def test_a_key_that_a_header_cannot_hold_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, f"{KEY}\nX-Other: 1")
    assert command.main(["--url", "http://127.0.0.1:1/v1", "--model", MODEL]) == 2
    printed = "".join(capsys.readouterr())
    assert KEY_VARIABLE in printed
    assert KEY not in printed


def test_control_characters_of_a_server_do_not_reach_the_terminal() -> None:
    with serving(chat=says(b"\x1b[2J\x1b]0;title\x07bad", 500, kind="text/plain")) as server:
        cause, _ = failure(run(server.url), "completion")
    assert cause.isprintable()


# --- the command


def test_status_is_0_for_good_and_1_for_a_failed_check_and_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        asked = ["--url", server.url, "--model", MODEL, "--json", "--no-cluster"]
        assert command.main(asked) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["ok"] is True
        assert document["service_url"] == server.url
        assert {each["field"]: each["status"] for each in document["checks"]}["pool"] == "skipped"
        assert command.main([*asked[:3], "other/model", "--json", "--no-cluster"]) == 1
        assert json.loads(capsys.readouterr().out)["ok"] is False


def test_each_check_has_a_line_and_a_failed_one_its_fix(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(stream=streams(*stream_events()[:3])) as server:
        assert command.main(["--url", server.url, "--model", MODEL, "--no-cluster"]) == 1
    screen = capsys.readouterr().out
    for part in ("health", "completion", "without finish_reason", "fix: ", "failed: stream", TEXT[:10]):
        assert part in screen


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--url", "ftp://host/v1", "--model", MODEL], "not a URL with http"),
        (["--url", "http://host:port/v1", "--model", MODEL], "not a URL with http"),
        (["--url", "http://me:password@host/v1", "--model", MODEL], "user name or a password"),
        (["--url", "http://host/v1"], "needs the model"),
        (["--stack", "dev", "--model", MODEL], "leave --model or --stack out"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    printed = capsys.readouterr().err
    assert told in printed
    assert "Fix: " in printed
    assert "password@" not in printed


# --- a stack's outputs


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in pulumi's place."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def put(script: str) -> None:
        (tmp_path / "pulumi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "pulumi").chmod(0o755)

    return put


_KNOWN = vars(of_stack())
OUTPUTS = {name: value for name, value in _KNOWN.items() if name not in ("stack", "pools")}
OUTPUTS |= {"accelerator_pools": _KNOWN["pools"], "kubeconfig": "[secret]"}


def test_outputs_are_read_without_their_secrets(pulumi: Callable[[str], None], tmp_path: Path) -> None:
    pulumi(f"echo \"$@\" > {tmp_path}/arguments; cat <<'EOF'\n{json.dumps(OUTPUTS)}\nEOF")
    assert target.of_stack("dev", project_dir=tmp_path) == of_stack()
    arguments = (tmp_path / "arguments").read_text()
    assert "--stack dev" in arguments
    assert "--show-secrets" not in arguments


def test_stack_without_a_service_names_what_is_missing_and_what_there_is() -> None:
    with pytest.raises(TargetError, match=r"lack service_url and model \(there: kubeconfig\)\. Fix: `pulumi up"):
        target.of_outputs("dev", {"kubeconfig": "[secret]"})


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo \"error: no stack named 'x' found\" >&2; exit 6", "failed: error: no stack named"),
        ("echo nonsense", "printed no JSON"),
        ("echo '[]'", "no mapping"),
        (None, "pulumi is not on PATH: install it"),
    ],
)
def test_a_pulumi_that_fails_or_is_not_there_is_named(pulumi: Callable[[str], None], tmp_path: Path, script: str | None, told: str) -> None:
    if script:
        pulumi(script)
    with pytest.raises(TargetError, match=told):
        target.of_stack("dev", project_dir=tmp_path)
