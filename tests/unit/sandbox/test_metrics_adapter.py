"""The metrics adapter's image: what its command line means here, and which Deployments and images are it."""

import os
from pathlib import Path
from typing import Any

import pytest

from sandbox.images.image_store import ImageStore
from sandbox.metrics import adapter
from sandbox.metrics.collection import adapter_identity
from sandbox.metrics.published_images import published_images

CONNECTION = {"program": "/tools/prometheus-adapter", "prometheus": "http://127.0.0.1:9", "kubeconfig": "/k", "rules": "/r"}
FLAGS = ["--use-new-resource-model=true", "--fallback-for-container-metrics=true", "--secure-port=6443"]


def line(*flags: str) -> list[str]:
    return adapter.command_line(flags, CONNECTION, address="127.88.0.2", cert_dir="/certificates")


def test_the_flags_of_googles_manifest_are_taken_and_the_port_is_passed_on() -> None:
    argv = line(*FLAGS)
    assert argv[0] == "/tools/prometheus-adapter"
    assert {"--secure-port=6443", "--bind-address=127.88.0.2", "--prometheus-url=http://127.0.0.1:9"} <= set(argv)
    assert not any("resource-model" in each for each in argv)


def test_a_flag_that_the_real_adapter_lacks_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        line("--use-new-resource-modle=true")
    assert "--use-new-resource-modle" in capsys.readouterr().err


def test_a_port_that_needs_root_is_refused_with_the_fix(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit):
        line("--secure-port=443")
    assert "--secure-port=6443" in capsys.readouterr().err


@pytest.mark.parametrize("reference", [":v0.16.9-gke.0", f"@sha256:{'0' * 64}"])
def test_any_version_of_the_adapters_image_is_had_and_no_other_image(tmp_path: Path, reference: str) -> None:
    store = ImageStore(tmp_path, published_images())
    image = store.resolve(adapter.IMAGE_REPOSITORY + reference)
    assert image is not None
    assert os.access(image.rootfs / "adapter", os.X_OK)
    assert store.resolve(f"gcr.io/gke-release/prometheus{reference}") is None


def deployment(image: str, **spec: Any) -> dict[str, Any]:
    pod = {"containers": [{"name": "adapter", "image": image}], **spec}
    return {"metadata": {"namespace": "custom-metrics", "name": "a"}, "spec": {"template": {"spec": pod}}}


def test_the_adapter_is_known_by_its_image_and_is_its_service_account() -> None:
    found = deployment(f"{adapter.IMAGE_REPOSITORY}:v0.16.9-gke.0", serviceAccountName="csa")
    assert adapter_identity([deployment("vllm@sha256:bad"), found]) == ("custom-metrics", "csa")
    assert adapter_identity([deployment(adapter.IMAGE_REPOSITORY)]) == ("custom-metrics", "default")
    assert adapter_identity([deployment("docker.io/vllm/vllm-openai:v0.31.0")]) is None
