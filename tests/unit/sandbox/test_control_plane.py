"""The control plane's own objects, on an API server that is busy."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from kubernetes import client, utils

from sandbox.control_plane import control_plane
from sandbox.control_plane.control_plane import ControlPlaneError, create

CRD: dict[str, Any] = {"kind": "CustomResourceDefinition", "metadata": {"name": "gateways"}}


@pytest.mark.parametrize(
    ("answers", "made"), [([504, 409], True), ([429, 503, 0], True), ([409], True), ([403], False), ([504] * 9, False)]
)
def test_an_object_is_made_in_spite_of_a_busy_api_server(monkeypatch: pytest.MonkeyPatch, answers: list[int], made: bool) -> None:
    left = iter(answers)
    clock = iter(range(99))
    monkeypatch.setattr(control_plane, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None))

    def asked(*_: object) -> None:
        if status := next(left):
            raise utils.FailToCreateError([client.ApiException(status=status, reason="said")])

    monkeypatch.setattr(utils, "create_from_dict", asked)
    if made:
        create(cast(client.ApiClient, None), CRD, seconds=5)
    else:
        with pytest.raises(ControlPlaneError, match="CustomResourceDefinition gateways could not be made"):
            create(cast(client.ApiClient, None), CRD, seconds=5)
    assert made or answers == [403] or next(left, 0)
