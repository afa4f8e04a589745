"""The end of the sandbox that the other files share; it runs after them all."""

from __future__ import annotations

import json
import time
from pathlib import Path

from sandbox.cli.client import Sandbox
from tests.sandbox.conftest import ROOT


def test_a_cluster_without_nodes_refuses_what_gke_s_own_pods_answer_for_and_the_stack_has_nothing_of_that_left(sandbox: Sandbox) -> None:
    """The system pool goes after every object that needs it: with the pool first, `up` and `destroy` would end here."""
    sandbox.pulumi("destroy", "--yes", "--non-interactive", "--target", "**::cluster-system", "--target-dependents")
    assert sandbox.status()["nodes"] == []
    monitoring = {
        "apiVersion": "monitoring.googleapis.com/v1",
        "kind": "PodMonitoring",
        "metadata": {"name": "late"},
        "spec": {"selector": {}, "endpoints": [{"port": 8000, "interval": "30s"}]},
    }
    refused = sandbox.kubectl("apply", "-f", "-", check=False, stdin=json.dumps(monitoring))
    assert 'failed calling webhook "validate.podmonitorings.gmp-operator' in refused
    sandbox.kubectl("create", "namespace", "late")
    sandbox.kubectl("delete", "namespace", "late", "--wait=false")
    said = ""
    deadline = time.monotonic() + 60
    while "metrics.k8s.io/v1beta1" not in said:
        assert time.monotonic() < deadline
        said = sandbox.kubectl("get", "namespace", "late", "-o", "jsonpath={.status.phase} {.status.conditions[*].message}")
    assert said.startswith("Terminating")


def test_destroy_leaves_nothing_in_the_cloud_and_down_no_process_and_no_file(sandbox: Sandbox) -> None:
    sandbox.pulumi("destroy", "--yes", "--non-interactive")
    assert list((sandbox.state / "clusters").iterdir()) == []
    # Nothing but the APIs that are switched on: another program of the project may rest on them.
    left = json.loads((sandbox.state / "cloud.json").read_text())
    # Beside what the bootstrap stack's test made in a project of its own, which protects what it has.
    kinds = {kind for kind, resources in left.items() if "sandbox-project" in json.dumps(resources)}
    assert kinds == {"gcp:projects/service:Service"}
    assert sandbox.status()["nodes"] == []
    sandbox.command("down")
    assert sandbox.processes() == []
    assert not sandbox.state.exists()
    assert "not running" in sandbox.command("status", check=False).stderr


def test_nothing_is_written_to_the_project_but_its_ignored_folder() -> None:
    assert not (ROOT / "Pulumi.sandbox.yaml").exists()
    assert not Path(ROOT / "Pulumi.changed.yaml").exists()
