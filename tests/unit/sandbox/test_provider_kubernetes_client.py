"""Which cluster a kubeconfig stands for, and what is said when it stands for none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client.rest import ApiException
from urllib3.exceptions import NewConnectionError, ProtocolError, SSLError

from sandbox.providers.kubernetes_client import (
    ClusterClient,
    ClusterUnreachableError,
    CredentialsError,
    Kubeconfig,
    KubernetesApiError,
    _pause_before_retry,
    _require_credentials,
)


def document(**user: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "one", "cluster": {"server": "https://one", "certificate-authority": "ca.crt"}},
            {"name": "two", "cluster": {"server": "https://two"}},
        ],
        "users": [{"name": "me", "user": user or {"token": "very-secret-token"}}],
        "contexts": [
            {"name": "a", "context": {"cluster": "one", "user": "me"}},
            {"name": "b", "context": {"cluster": "two", "user": "me", "namespace": "team"}},
        ],
        "current-context": "a",
    }


def load(text: str | None, environment: dict[str, str] | None = None, **choice: str) -> Kubeconfig:
    return Kubeconfig.load(text, environment=environment or {}, **choice)


def test_text_in_yaml_and_in_json_is_one_kubeconfig() -> None:
    assert load(yaml.safe_dump(document())) == load(json.dumps(document()))


def test_a_file_is_read_and_its_relative_paths_are_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(document()))
    assert load(str(path)).server["certificate-authority"] == str(tmp_path / "ca.crt")


def test_context_and_cluster_can_be_chosen() -> None:
    text = yaml.safe_dump(document())
    assert load(text).server["server"] == "https://one"
    assert load(text).namespace == "default"
    assert load(text, context="b").server["server"] == "https://two"
    assert load(text, context="b").namespace == "team"
    assert load(text, cluster="two").server["server"] == "https://two"


def test_without_one_the_files_of_the_environment_count_the_first_first(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_text(yaml.safe_dump({"current-context": "b"}))
    second.write_text(yaml.safe_dump(document()))
    environment = {"KUBECONFIG": f"{first}:{tmp_path / 'missing'}:{second}"}
    assert load(None, environment).server["server"] == "https://two"
    home = tmp_path / ".kube" / "config"
    home.parent.mkdir()
    home.write_text(yaml.safe_dump(document()))
    assert load("", {"HOME": str(tmp_path)}).server["server"] == "https://one"


@pytest.mark.parametrize(
    ("text", "choice", "message"),
    [
        (None, {}, "Give the provider `kubeconfig`, or set KUBECONFIG"),
        ("/no/such/file", {}, "no file '/no/such/file'"),
        ("a: [very-secret-token\nb: 1", {}, "neither a file nor YAML"),
        ("- very-secret-token\n- b", {}, "clusters, users and contexts"),
        (yaml.safe_dump(document()), {"context": "c"}, "there is no context 'c'; known: a, b"),
        (yaml.safe_dump(document()), {"cluster": "c"}, "there is no cluster 'c'; known: one, two"),
        ("{}", {}, "known: none"),
    ],
)
def test_what_is_no_kubeconfig_is_told_without_its_contents(text: str | None, choice: dict[str, str], message: str) -> None:
    with pytest.raises(ClusterUnreachableError) as caught:
        load(text, {"HOME": "/nowhere"}, **choice)
    assert message in str(caught.value)
    assert "very-secret-token" not in str(caught.value)


def test_a_missing_exec_plugin_is_named_with_its_hint() -> None:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "no-such-plugin",
        "installHint": "Get it.",
    }
    with pytest.raises(ClusterUnreachableError, match=r"'no-such-plugin' is not on PATH. Get it."):
        ClusterClient(load(json.dumps(document(exec=plugin)))).check()


def test_a_refusal_has_kubernetes_words_and_no_headers() -> None:
    answer = ApiException(status=422, reason="Unprocessable Entity")
    answer.headers = {"Authorization": "Bearer very-secret-token"}
    answer.body = json.dumps({"message": "spec.x: field is immutable", "reason": "Invalid", "details": {"kind": "a"}})
    error = KubernetesApiError(answer)
    assert str(error) == "spec.x: field is immutable"
    assert (error.code, error.reason, error.immutable_field) == (422, "Invalid", True)


def test_a_refusal_without_a_status_object_still_says_something() -> None:
    assert str(KubernetesApiError(ApiException(status=500, reason="Internal Server Error"))) == "Internal Server Error"


def refusal(status: int, **headers: str) -> ApiException:
    error = ApiException(status=status, reason="x")
    error.headers = headers
    return error


@pytest.mark.parametrize(
    ("method", "error", "seconds"),
    [
        # What the server says is done, by any method.
        ("post", refusal(429, **{"Retry-After": "1"}), 1.0),
        ("patch", refusal(503, **{"Retry-After": "5"}), 5.0),
        ("get", refusal(500), None),
        ("get", refusal(503), None),
        ("get", refusal(409, **{"Retry-After": "1"}), None),
        # A broken connection may have changed something already.
        ("get", ProtocolError("Connection aborted."), 1.0),
        ("get", SSLError("EOF occurred in violation of protocol"), 1.0),
        ("get", SSLError("certificate verify failed"), None),
        ("post", ProtocolError("Connection aborted."), None),
        ("get", NewConnectionError(None, "refused"), None),  # type: ignore[arg-type]
    ],
)
def test_a_request_is_tried_again_where_client_go_does(method: str, error: Exception, seconds: float | None) -> None:
    assert _pause_before_retry(method, error) == seconds


@pytest.mark.parametrize(("code", "passing"), [(401, True), (429, True), (500, True), (503, True), (403, False), (409, False)])
def test_what_says_something_of_the_moment_alone_is_known(code: int, passing: bool) -> None:
    assert KubernetesApiError(ApiException(status=code)).passing is passing


def test_a_plugin_that_gives_no_credential_is_quoted(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text("#!/bin/sh\necho 'your login has expired: gcloud auth login' >&2\nexit 1\n")
    plugin.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": str(plugin)}}
    with pytest.raises(CredentialsError, match=r"getting credentials: .*your login has expired: gcloud auth login"):
        _require_credentials(document(**user))
    _require_credentials(document())
