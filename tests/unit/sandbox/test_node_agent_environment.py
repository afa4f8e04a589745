"""A container's command line and environment, as the kubelet puts them together."""

import base64
from typing import Any

import pytest

from sandbox.node_agent.environment import ContainerConfigError, check_known, command_line, container_variables, expand

Object = dict[str, Any]

POD: Object = {
    "metadata": {"name": "vllm-abc", "namespace": "default", "uid": "u-1"},
    "spec": {"nodeName": "node-1"},
    "status": {"hostIP": "10.128.0.10", "podIP": "10.88.0.1"},
}


def secret(namespace: str, name: str) -> Object | None:
    if (namespace, name) != ("default", "hf-secret"):
        return None
    return {"data": {"token": base64.b64encode(b"s3cret").decode()}}


def variables(*env: Object, services: dict[str, str] | None = None) -> dict[str, str]:
    return container_variables(POD, {"name": "main", "env": list(env)}, services=services or {}, secret=secret)


def from_field(path: str, name: str = "V") -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(NODE_IP):8353", "10.128.0.10:8353"),
        ("$$(NODE_IP)", "$(NODE_IP)"),
        ("$(MISSING)/x", "$(MISSING)/x"),
        ("$NODE_IP and 5$ and $(NODE_IP", "$NODE_IP and 5$ and $(NODE_IP"),
        ("$(EMPTY)|$(OTHER)", "|$(NODE_IP)"),
    ],
)
def test_references_are_expanded_once_and_double_dollars_escape_them(text: str, expected: str) -> None:
    assert expand(text, {"NODE_IP": "10.128.0.10", "EMPTY": "", "OTHER": "$(NODE_IP)"}) == expected


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, ["/entry", "$(X)"]),
        ({"args": ["--a"]}, ["/entry", "--a"]),
        ({"command": ["sh"]}, ["sh"]),
        ({"command": ["sh"], "args": ["-c", "echo $(X) $$(X)"]}, ["sh", "-c", "echo 1 $(X)"]),
    ],
)
def test_command_replaces_entrypoint_and_cmd_while_args_only_replace_cmd(container: Object, expected: list[str]) -> None:
    assert command_line(container, entrypoint=["/entry"], cmd=["$(X)"], variables={"X": "1"}) == expected


def test_values_refer_to_services_and_to_variables_before_them_and_not_after() -> None:
    result = variables(
        {"name": "EARLY", "value": "$(NODE_IP)"},
        from_field("status.hostIP", "NODE_IP"),
        {"name": "URL", "value": "$(NODE_IP):8353"},
        {"name": "API", "value": "http://$(API_SERVICE_HOST)"},
        from_field("metadata.name", "NAME"),
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf-secret", "key": "token"}}},
        services={"API_SERVICE_HOST": "10.96.0.9", "NAME": "of a service"},
    )
    assert result == {
        "EARLY": "$(NODE_IP)", "NODE_IP": "10.128.0.10", "URL": "10.128.0.10:8353", "API": "http://10.96.0.9", "NAME": "vllm-abc",
        "TOKEN": "s3cret", "API_SERVICE_HOST": "10.96.0.9",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"name": "absent", "key": "k"}, 'secret "absent" not found'),
        ({"name": "hf-secret", "key": "k"}, "couldn't find key k in Secret default/hf-secret"),
    ],
)
def test_a_missing_secret_is_named_in_the_kubelets_words_unless_it_is_optional(reference: Object, message: str) -> None:
    with pytest.raises(ContainerConfigError) as caught:
        variables({"name": "V", "valueFrom": {"secretKeyRef": reference}})
    assert str(caught.value) == message
    assert variables({"name": "V", "valueFrom": {"secretKeyRef": {**reference, "optional": True}}}) == {}


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"fieldRef": {"fieldPath": "metadata.labels['app']"}}, r"unsupported fieldPath: metadata\.labels\['app'\]"),
        ({"configMapKeyRef": {"name": "settings", "key": "LEVEL"}}, "environment variable V: .* do not have configMapKeyRef"),
        ({"resourceFieldRef": {"resource": "limits.memory"}}, "environment variable V: .* do not have resourceFieldRef"),
    ],
)
def test_a_variable_from_what_the_sandbox_leaves_out_is_refused(origin: Object, message: str) -> None:
    with pytest.raises(ContainerConfigError, match=message):
        variables({"name": "V", "valueFrom": origin})


@pytest.mark.parametrize(
    ("spec", "container", "field"),
    [
        ({"initContainers": [{"name": "first"}]}, {}, r"spec\.initContainers"),
        ({"activeDeadlineSeconds": 1}, {}, r"spec\.activeDeadlineSeconds"),
        ({}, {"envFrom": [{"secretRef": {"name": "s"}}]}, r"spec\.containers\[main\]\.envFrom"),
        ({}, {"lifecycle": {"postStart": {"exec": {}}}}, r"spec\.containers\[main\]\.lifecycle\.postStart"),
    ],
)
def test_a_pod_that_uses_what_the_sandbox_leaves_out_is_refused_by_the_field(spec: Object, container: Object, field: str) -> None:
    with pytest.raises(ContainerConfigError, match=f"{field}: the sandbox's nodes do not have it"):
        check_known(spec, {"name": "main", **container})
    check_known({"initContainers": []}, {"name": "main", "lifecycle": {"preStop": {}}})
