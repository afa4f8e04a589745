"""Which cluster a kubeconfig stands for, and what is said when it stands for none."""

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
from tests.unit.sandbox.helpers import install


def document(**user: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "one", "cluster": {"server": "https://one"}}],
        "users": [{"name": "me", "user": user or {"token": "very-secret-token"}}],
        "contexts": [{"name": "a", "context": {"cluster": "one", "user": "me"}}],
        "current-context": "a",
    }


def test_text_in_yaml_and_in_json_is_one_kubeconfig_of_its_current_context() -> None:
    found = Kubeconfig.load(yaml.safe_dump(document()))
    assert found == Kubeconfig.load(json.dumps(document()))
    assert found.server["server"] == "https://one"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the provider has no kubeconfig"),
        ("/no/such/file", "give the text itself, not the name of a file"),
        ("a: [very-secret-token\nb: 1", "not YAML at line 2"),
        ("- very-secret-token\n- b", "not a YAML mapping"),
        (yaml.safe_dump({**document(), "current-context": "c"}), "there is no context 'c'; known: a"),
    ],
)
def test_what_is_not_a_kubeconfig_is_told_without_its_contents(text: str, message: str) -> None:
    with pytest.raises(ClusterUnreachableError) as caught:
        Kubeconfig.load(text)
    assert message in str(caught.value)
    assert "very-secret-token" not in str(caught.value)


def test_a_missing_exec_plugin_is_named_with_its_hint() -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "no-such-plugin", "installHint": "Get it."}
    with pytest.raises(ClusterUnreachableError, match=r"'no-such-plugin' is not on PATH. Get it."):
        ClusterClient(Kubeconfig.load(json.dumps(document(exec=plugin)))).check()


def test_a_refusal_has_kubernetes_message_and_no_headers() -> None:
    answer = ApiException(status=422, reason="Unprocessable Entity")
    answer.headers = {"Authorization": "Bearer very-secret-token"}
    answer.body = json.dumps({"message": "spec.x: field is immutable", "reason": "Invalid", "details": {"kind": "a"}})
    error = KubernetesApiError(answer)
    assert str(error) == "spec.x: field is immutable"
    assert (error.code, error.reason, error.immutable_field) == (422, "Invalid", True)


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


def test_a_plugin_without_a_credential_is_quoted(tmp_path: Path) -> None:
    plugin = install(tmp_path / "plugin", "#!/bin/sh\necho 'your login has expired: gcloud auth login' >&2\nexit 1\n")
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": str(plugin)}}
    with pytest.raises(CredentialsError, match=r"getting credentials: .*your login has expired: gcloud auth login"):
        _require_credentials(document(**user))
    _require_credentials(document())
