"""A container's command line and environment, as the kubelet puts them together."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from sandbox.node_agent.environment import (
    ContainerConfigError,
    command_line,
    container_variables,
    expand,
    service_variables,
)

Object = dict[str, Any]

POD: Object = {
    "metadata": {
        "name": "vllm-abc",
        "namespace": "default",
        "uid": "u-1",
        "labels": {"app": "vllm", "a/b": "c"},
        "annotations": {"note": "hello"},
    },
    "spec": {
        "nodeName": "node-1",
        "serviceAccountName": "default",
        "containers": [
            {
                "name": "main",
                "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "1500m", "ephemeral-storage": "10Gi"}},
            }
        ],
    },
    "status": {"hostIP": "10.128.0.10", "podIP": "10.88.0.1", "podIPs": [{"ip": "10.88.0.1"}]},
}


def secret(namespace: str, name: str) -> Object | None:
    if (namespace, name) != ("default", "hf-secret"):
        return None
    return {"data": {"token": base64.b64encode(b"s3cret").decode(), "other": base64.b64encode(b"x").decode()}}


def config_map(namespace: str, name: str) -> Object | None:
    return {"data": {"LEVEL": "debug"}} if (namespace, name) == ("default", "settings") else None


def variables(*env: Object, env_from: list[Object] | None = None, services: dict[str, str] | None = None) -> dict[str, str]:
    container = {**POD["spec"]["containers"][0], "env": list(env), "envFrom": env_from or []}
    return container_variables(
        POD,
        container,
        services=services or {},
        secret=secret,
        config_map=config_map,
        allocatable={"cpu": "4", "memory": "16Gi"},
    )


def from_field(path: str) -> Object:
    return {"name": "V", "valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(NODE_IP):8353", "10.128.0.10:8353"),
        ("$$(NODE_IP)", "$(NODE_IP)"),
        ("$$$(NODE_IP)", "$10.128.0.10"),
        ("$(MISSING)/x", "$(MISSING)/x"),
        ("$NODE_IP and 5$", "$NODE_IP and 5$"),
        ("$(NODE_IP", "$(NODE_IP"),
        ("$(EMPTY)|", "|"),
    ],
)
def test_references_are_expanded_and_double_dollars_escape_them(text: str, expected: str) -> None:
    assert expand(text, {"NODE_IP": "10.128.0.10", "EMPTY": ""}) == expected


def test_expanded_text_is_not_expanded_again() -> None:
    assert expand("$(A)", {"A": "$(B)", "B": "no"}) == "$(B)"


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, ["/entry", "--default"]),
        ({"args": ["--a"]}, ["/entry", "--a"]),
        ({"command": ["sh"]}, ["sh"]),
        ({"command": ["sh"], "args": ["-c", "echo $(X) $$(X)"]}, ["sh", "-c", "echo 1 $(X)"]),
    ],
)
def test_command_replaces_entrypoint_and_cmd_while_args_replace_cmd_alone(container: Object, expected: list[str]) -> None:
    assert command_line(container, entrypoint=["/entry"], cmd=["--default"], variables={"X": "1"}) == expected


def test_the_images_own_command_line_is_not_expanded() -> None:
    assert command_line({}, entrypoint=["echo"], cmd=["$(X)"], variables={"X": "1"}) == ["echo", "$(X)"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "vllm-abc"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['a/b']", "c"),
        ("metadata.annotations['note']", "hello"),
        ("metadata.labels['absent']", ""),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "default"),
        ("status.hostIP", "10.128.0.10"),
        ("status.podIP", "10.88.0.1"),
        ("status.podIPs", "10.88.0.1"),
    ],
)
def test_fields_of_the_pod_reach_the_environment(path: str, expected: str) -> None:
    assert variables(from_field(path)) == {"V": expected}


def test_a_field_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ContainerConfigError, match=r"spec\.nothing"):
        variables(from_field("spec.nothing"))


def test_values_refer_to_variables_before_them_and_not_after() -> None:
    result = variables(
        {"name": "EARLY", "value": "$(NODE_IP)"},
        {"name": "NODE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        {"name": "URL", "value": "$(NODE_IP):8353"},
    )
    assert result == {"EARLY": "$(NODE_IP)", "NODE_IP": "10.128.0.10", "URL": "10.128.0.10:8353"}


def test_values_may_refer_to_services() -> None:
    result = variables({"name": "URL", "value": "http://$(API_SERVICE_HOST)"}, services={"API_SERVICE_HOST": "10.96.0.9"})
    assert result == {"API_SERVICE_HOST": "10.96.0.9", "URL": "http://10.96.0.9"}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ({"resource": "limits.memory"}, str(1024**3)),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "1024"),
        ({"resource": "requests.cpu"}, "2"),
        ({"resource": "requests.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "limits.cpu"}, "4"),
        ({"resource": "limits.memory", "divisor": "0"}, str(1024**3)),
        ({"resource": "requests.ephemeral-storage", "divisor": "1Gi", "containerName": "main"}, "10"),
    ],
)
def test_resources_are_divided_and_rounded_up_and_an_absent_limit_is_the_nodes(reference: Object, expected: str) -> None:
    assert variables({"name": "V", "valueFrom": {"resourceFieldRef": reference}}) == {"V": expected}


def test_keys_of_secrets_and_config_maps_reach_the_environment() -> None:
    result = variables(
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf-secret", "key": "token"}}},
        {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "LEVEL"}}},
    )
    assert result == {"TOKEN": "s3cret", "LEVEL": "debug"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"secretKeyRef": {"name": "absent", "key": "k"}}, 'secret "absent" not found'),
        ({"secretKeyRef": {"name": "hf-secret", "key": "k"}}, "couldn't find key k in Secret default/hf-secret"),
        ({"configMapKeyRef": {"name": "absent", "key": "k"}}, 'configmap "absent" not found'),
        ({"configMapKeyRef": {"name": "settings", "key": "k"}}, "couldn't find key k in ConfigMap default/settings"),
    ],
)
def test_what_is_missing_is_named_in_the_kubelets_words_unless_optional(source: Object, message: str) -> None:
    with pytest.raises(ContainerConfigError) as caught:
        variables({"name": "V", "valueFrom": source})
    assert str(caught.value) == message
    (kind, reference), *_ = source.items()
    assert variables({"name": "V", "valueFrom": {kind: {**reference, "optional": True}}}) == {}


def test_a_message_about_a_missing_key_does_not_tell_the_secrets_values() -> None:
    with pytest.raises(ContainerConfigError) as caught:
        variables({"name": "V", "valueFrom": {"secretKeyRef": {"name": "hf-secret", "key": "absent"}}})
    assert "s3cret" not in str(caught.value)
    assert base64.b64encode(b"s3cret").decode() not in str(caught.value)


def test_whole_sources_come_with_their_prefix_and_lose_to_single_variables() -> None:
    result = variables(
        {"name": "S_token", "value": "mine"},
        env_from=[
            {"prefix": "S_", "secretRef": {"name": "hf-secret"}},
            {"configMapRef": {"name": "settings"}},
            {"configMapRef": {"name": "absent", "optional": True}},
        ],
    )
    assert result == {"S_token": "mine", "S_other": "x", "LEVEL": "debug"}


@pytest.mark.parametrize(("kind", "word"), [("secretRef", "secret"), ("configMapRef", "configmap")])
def test_a_missing_source_is_named(kind: str, word: str) -> None:
    with pytest.raises(ContainerConfigError, match=f'{word} "absent" not found'):
        variables(env_from=[{kind: {"name": "absent"}}])


def test_services_with_an_address_become_service_links() -> None:
    services = [
        {
            "metadata": {"name": "vllm-service"},
            "spec": {
                "clusterIP": "10.96.1.2",
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"port": 81}],
            },
        },
        {"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}},
    ]
    assert service_variables(services) == {
        "VLLM_SERVICE_SERVICE_HOST": "10.96.1.2",
        "VLLM_SERVICE_SERVICE_PORT": "80",
        "VLLM_SERVICE_SERVICE_PORT_HTTP": "80",
        "VLLM_SERVICE_PORT": "tcp://10.96.1.2:80",
        "VLLM_SERVICE_PORT_80_TCP": "tcp://10.96.1.2:80",
        "VLLM_SERVICE_PORT_80_TCP_PROTO": "tcp",
        "VLLM_SERVICE_PORT_80_TCP_PORT": "80",
        "VLLM_SERVICE_PORT_80_TCP_ADDR": "10.96.1.2",
        "VLLM_SERVICE_PORT_81_TCP": "tcp://10.96.1.2:81",
        "VLLM_SERVICE_PORT_81_TCP_PROTO": "tcp",
        "VLLM_SERVICE_PORT_81_TCP_PORT": "81",
        "VLLM_SERVICE_PORT_81_TCP_ADDR": "10.96.1.2",
    }
