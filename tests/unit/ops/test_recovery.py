"""The recovery's decisions, on states as a killed engine left them, with pulumi played by a stack of dictionaries."""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ops.pulumi_command import PulumiError
from ops.recovery import backend_folder, orphans, state
from ops.recovery.identifiers import CLUSTER, IMPORT_IDS, NODE_POOL, REPEATABLE, import_id
from ops.recovery.locks import Lock, is_left_over, locks_in
from ops.recovery.monitoring import ALERT_POLICY, DASHBOARD, TYPES, ListingError
from ops.recovery.pulumi_stack import Locked, PulumiStack
from ops.recovery.recover import Refused, recover
from tests.unit.program import run_program

HERE = Path(__file__).parents[1]
#: Recorded: `pulumi stack export` after a SIGKILL while node pools were being made; most resources are left out.
RECORDED = json.loads((HERE / "recorded" / "killed_up.json").read_text())

POOL = "urn:pulumi:sandbox::tpu-gpu-fungibility::fungibility:index:AcceleratorPools$gcp:container/nodePool:NodePool::l4"
POOL_ID = "projects/sandbox-project/locations/asia-northeast1/clusters/tpu-gpu-fungibility/nodePools/l4"
PREFIX = "urn:pulumi:sandbox::tpu-gpu-fungibility::"

LOCKED = (
    "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the lock file with "
    "`pulumi cancel`.\n  gs://bucket/.pulumi/locks/organization/p/dev/1.json: created by me@builder (pid 4711) at "
    "2026-11-25T16:08:38Z"
)


def nothing_there(type_token: str, inputs: Mapping[str, Any], project: str) -> list[str]:
    return []


def pending(type_token: str, name: str, inputs: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    resource = {"urn": f"{PREFIX}{type_token}::{name}", "custom": True, "type": type_token, "inputs": dict(inputs), **more}
    return {"type": "creating", "resource": resource}


def document(*operations: Mapping[str, Any], resources: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    return {"version": 3, "deployment": {"resources": list(resources), "pending_operations": list(operations)}}


class FakeStack(PulumiStack):
    """What pulumi does with a state, and a cloud: import id -> outputs, or an error."""

    def __init__(self, known: dict[str, Any], cloud: Mapping[str, Any] | None = None) -> None:
        super().__init__("dev", {"PULUMI_BACKEND_URL": "gs://bucket"}, Path())
        self.state = copy.deepcopy(known)
        self.cloud = dict(cloud or {})
        self.locked: Lock | None = None
        self.cancelled = 0
        self.refreshed: list[list[str]] = []

    def export(self) -> dict[str, Any]:
        return copy.deepcopy(self.state)

    def replace(self, document: Mapping[str, Any]) -> None:
        self.state = copy.deepcopy(dict(document))

    def cancel(self) -> None:
        self.cancelled += 1
        self.locked = None

    def refresh(self, targets: Sequence[str] = ()) -> dict[str, str]:
        if self.locked:
            raise Locked("locked", [self.locked])
        self.refreshed.append(list(targets))
        failed: dict[str, str] = {}
        kept = []
        for resource in copy.deepcopy(self.state["deployment"]["resources"]):
            if not targets or resource["urn"] in targets:
                found = self.cloud.get(resource.get("id", ""))
                if isinstance(found, str):
                    failed[resource["urn"]] = found
                elif resource.get("id") and found is None:
                    continue
                elif found:
                    resource["outputs"] = dict(found)
            kept.append(resource)
        if failed:
            return failed
        operations = self.state["deployment"].get("pending_operations", [])
        self.state["deployment"]["pending_operations"] = [each for each in operations if each["type"] == "creating"]
        self.state["deployment"]["resources"] = kept
        return {}

    def urns(self) -> list[str]:
        return [each["urn"] for each in self.state["deployment"]["resources"]]


def recovered(stack: FakeStack, listing: state.Listing = nothing_there, **more: Any) -> Any:
    return recover(stack, listing=listing, say=lambda _: None, sleep=lambda _: None, **more)


# --- pending creates


def test_recorded_pending_creates_get_their_import_ids() -> None:
    plan = state.plan(RECORDED, nothing_there, {})
    assert not plan.undecided
    assert {urn.rpartition("::")[2]: id for urn, id in plan.look_for.items()} == {
        "cluster-system": POOL_ID.removesuffix("l4") + "system",
        "l4": POOL_ID,
        "l4-spot": f"{POOL_ID}-spot",
        "v6e-1": POOL_ID.removesuffix("l4") + "v6e-1",
    }


def test_a_resource_that_is_there_is_imported_with_its_dependencies_and_one_that_is_not_is_left_to_the_next_update() -> None:
    cloud = {each["id"]: {"name": "known"} for each in RECORDED["deployment"]["resources"] if each.get("id")}
    stack = FakeStack(RECORDED, {**cloud, POOL_ID: {"version": "v1"}})
    outcome = recovered(stack)
    assert outcome.imported == {f"{NODE_POOL} l4": POOL_ID}
    assert set(outcome.dropped) == {f"{NODE_POOL} {each}" for each in ("cluster-system", "l4-spot", "v6e-1")}
    assert not stack.state["deployment"]["pending_operations"]
    imported = stack.state["deployment"]["resources"][-1]
    assert (imported["urn"], imported["id"], imported["outputs"]) == (POOL, POOL_ID, {"version": "v1"})
    assert any(each.endswith("Cluster::cluster") for each in imported["dependencies"])
    assert "4 of which" not in outcome.text("dev")
    assert POOL_ID in outcome.text("dev")


def test_an_importer_s_404_means_that_it_was_not_made_and_the_others_are_still_imported() -> None:
    known = document(
        pending(CLUSTER, "a", {"project": "p", "location": "r", "name": "a"}),
        pending(CLUSTER, "b", {"project": "p", "location": "r", "name": "b"}),
    )
    stack = FakeStack(
        known,
        {
            "projects/p/locations/r/clusters/a": "googleapi: Error 404: Not found: projects/p/..., notFound",
            "projects/p/locations/r/clusters/b": {"name": "b"},
        },
    )
    outcome = recovered(stack)
    assert list(outcome.imported) == [f"{CLUSTER} b"]
    assert outcome.dropped == {f"{CLUSTER} a": "was not made"}


def test_a_recovery_that_was_killed_is_followed_by_another() -> None:
    known = document(pending(CLUSTER, "a", {"project": "p", "location": "r", "name": "a"}))
    stack = FakeStack(known, {"projects/p/locations/r/clusters/a": "googleapi: Error 404: Not found"})
    # Between the two steps of the first: what it looked for is in the state already.
    stack.replace(state.to_import(known, state.plan(known, nothing_there, {})))
    assert stack.urns()
    recovered(stack)
    assert stack.urns() == []


def test_a_provider_that_cannot_say_leaves_the_state_as_it_was() -> None:
    known = document(pending(CLUSTER, "a", {"project": "p", "location": "r", "name": "a"}))
    stack = FakeStack(known, {"projects/p/locations/r/clusters/a": "googleapi: Error 403: permission denied"})
    with pytest.raises(PulumiError, match="403"):
        recovered(stack)
    assert stack.state == known


def test_what_only_the_provider_knows_comes_from_the_program() -> None:
    inputs = {"project": "p", "location": "r", "name": "a", "deletionProtection": False}
    stack = FakeStack(document(pending(CLUSTER, "a", inputs)), {"projects/p/locations/r/clusters/a": {"deletionProtection": True}})
    recovered(stack)
    [cluster] = stack.state["deployment"]["resources"]
    # Else `pulumi destroy` would be refused.
    assert cluster["outputs"]["deletionProtection"] is False


def test_what_is_nothing_in_the_cloud_is_dropped() -> None:
    component = pending("fungibility:index:Cluster", "cluster", {})
    component["resource"]["custom"] = False
    plan = state.plan(
        document(component, pending("pulumi:providers:gcp", "gcp", {}), pending("docker:index/image:Image", "i", {})), nothing_there, {}
    )
    assert len(plan.drop) == 3
    assert not plan.look_for
    assert not plan.undecided


def test_an_unknown_type_is_left_to_a_person_who_can_name_it() -> None:
    known = document(pending("gcp:kms/keyRing:KeyRing", "keys", {"name": "k"}))
    stack = FakeStack(known, {"projects/p/keyRings/k": {"name": "k"}})
    outcome = recovered(stack)
    [urn] = outcome.undecided
    assert f"--id '{urn}=ID'" in outcome.text("dev")
    assert stack.state == known
    assert recovered(stack, given={urn: "projects/p/keyRings/k"}).imported == {"gcp:kms/keyRing:KeyRing keys": "projects/p/keyRings/k"}


@pytest.mark.parametrize("type_token", [ALERT_POLICY, DASHBOARD])
def test_what_google_numbers_is_found_by_its_name_unless_the_state_has_it(type_token: str) -> None:
    def listing(asked: str, inputs: Mapping[str, Any], project: str) -> list[str]:
        assert (asked, project) == (type_token, "p")
        return ["projects/p/x/1", "projects/p/x/2"]

    operation = pending(type_token, "new", {"project": "p", "displayName": "n"})
    known = {"urn": "urn:other", "type": type_token, "id": "projects/p/x/1"}
    plan = state.plan(document(operation, resources=[known]), listing, {})
    assert list(plan.look_for.values()) == ["projects/p/x/2"]
    ambiguous = state.plan(document(operation), listing, {})
    assert "there are 2 that look the same" in next(iter(ambiguous.undecided.values()))


def test_a_list_that_cannot_be_had_decides_nothing() -> None:
    def listing(type_token: str, inputs: Mapping[str, Any], project: str) -> list[str]:
        raise ListingError("Cloud Monitoring does not say what there is: 403")

    plan = state.plan(document(pending(ALERT_POLICY, "new", {"project": "p"})), listing, {})
    assert "403" in next(iter(plan.undecided.values()))


def test_a_replacement_takes_the_place_of_what_it_replaces() -> None:
    operation = pending(CLUSTER, "a", {"project": "p", "location": "r", "name": "a"})
    urn = operation["resource"]["urn"]
    old = {"urn": urn, "type": CLUSTER, "id": "old", "outputs": {"a": 1}}
    after = {"urn": "urn:after", "type": "x", "outputs": {}}
    plan = state.Plan(look_for={urn: "new"})
    waiting = state.to_import(document(operation, resources=[{**old, "pendingReplacement": True}, after]), plan)
    assert [each.get("id") for each in state.resources(waiting)] == ["new", None]
    both = state.to_import(document(operation, resources=[old, after]), plan)
    assert [(each.get("id"), each.get("delete")) for each in state.resources(both)] == [("old", True), (None, None), ("new", None)]


def killed_replacement() -> tuple[dict[str, Any], dict[str, Any]]:
    """Cluster a, and the state of an update that was killed while it made cluster b in a's place."""
    operation = pending(CLUSTER, "cluster", {"project": "p", "location": "r", "name": "b"})
    serving = {
        "urn": operation["resource"]["urn"],
        "type": CLUSTER,
        "id": "projects/p/locations/r/clusters/a",
        "inputs": {},
        "outputs": {"n": 1},
    }
    return serving, document(operation, resources=[serving])


@pytest.mark.parametrize("answer", [None, "googleapi: Error 404: Not found: b, notFound"])
def test_what_was_to_be_replaced_stays_when_its_successor_was_not_made(answer: str | None) -> None:
    serving, killed = killed_replacement()
    stack = FakeStack(killed, {serving["id"]: {"n": 1}, "projects/p/locations/r/clusters/b": answer})
    outcome = recovered(stack)
    assert (outcome.imported, outcome.dropped) == ({}, {f"{CLUSTER} cluster": "was not made"})
    assert state.resources(stack.state) == [serving]


def test_what_is_being_replaced_goes_when_its_successor_is_there_and_only_that_is_imported() -> None:
    _, killed = killed_replacement()
    stack = FakeStack(killed, {f"projects/p/locations/r/clusters/{name}": {"n": 1} for name in "ab"})
    assert recovered(stack).imported == {f"{CLUSTER} cluster": "projects/p/locations/r/clusters/b"}
    assert [(each["id"][-1], each.get("delete")) for each in state.resources(stack.state)] == [("a", True), ("b", None)]


def test_a_resource_that_an_earlier_update_had_yet_to_delete_is_not_a_successor() -> None:
    serving, killed = killed_replacement()
    earlier = {**serving, "id": "projects/p/locations/r/clusters/older", "delete": True}
    killed["deployment"]["resources"].insert(0, earlier)
    stack = FakeStack(killed, {each["id"]: {"n": 1} for each in (earlier, serving)})
    assert recovered(stack).imported == {}
    assert state.resources(stack.state) == [earlier, serving]


def test_a_successor_exists_under_the_id_that_its_provider_gives_it() -> None:
    member = "gcp:projects/iAMMember:IAMMember"
    operation = pending(member, "reader", {"project": "p", "role": "r", "member": "user:b"})
    urn = operation["resource"]["urn"]
    old = {"urn": urn, "type": member, "id": "p/r/user:a", "outputs": {"n": 1}}

    class Renaming(FakeStack):
        def refresh(self, targets: Sequence[str] = ()) -> dict[str, str]:
            failed = super().refresh(targets)
            for each in self.state["deployment"]["resources"]:
                each["id"] = each["id"].replace(" ", "/")
            return failed

    stack = Renaming(document(operation, resources=[old]), {"p/r/user:a": {"n": 1}, "p r user:b": {"n": 2}})
    assert recovered(stack).imported == {f"{member} reader": "p/r/user:b"}
    assert [each.get("delete") for each in state.resources(stack.state)] == [True, None]


def test_a_successor_is_not_imported_again_because_what_it_replaced_was_being_deleted() -> None:
    old = {"urn": "urn:a::c", "type": CLUSTER, "id": "a", "custom": True, "delete": True, "outputs": {"n": 1}}
    new = {**old, "id": "b", "delete": False}
    stack = FakeStack(document({"type": "deleting", "resource": old}, resources=[old, new]), {"a": {"n": 1}, "b": {"n": 2}})
    recovered(stack)
    assert [each["outputs"] for each in state.resources(stack.state)] == [{"n": 1}, {"n": 2}]
    assert stack.refreshed == [[]]


def test_every_type_of_the_program_can_be_found_again() -> None:
    made = {each.type: each.inputs for stack in ("dev", "prod") for each in run_program(stack=stack).resources.values()}
    assert len(made) > 15
    for type_token, inputs in made.items():
        if type_token.startswith(("pulumi:", "fungibility:")) or type_token in TYPES | REPEATABLE:
            continue
        # What an account's own name gives is not in a mock's inputs.
        defaults = {"project": "p", "region": "r"}
        if "metadata" in inputs:
            # The provider's check names what the program does not, before the engine notes what it begins to make.
            inputs = {**inputs, "metadata": {"name": "generated", **inputs["metadata"]}}
        assert import_id(type_token, inputs, defaults), type_token


def test_bindings_are_imported_by_their_parts_and_objects_by_namespace_and_name() -> None:
    member = {"project": "p", "role": "roles/r", "member": "serviceAccount:a"}
    assert import_id("gcp:projects/iAMMember:IAMMember", member, {}) == "p roles/r serviceAccount:a"
    named = {"metadata": {"name": "vllm", "namespace": "default"}}
    assert import_id("kubernetes:apps/v1:Deployment", named, {}) == "default/vllm"
    assert import_id("kubernetes:core/v1:Namespace", {"metadata": {"name": "n"}}, {}) == "n"
    assert "gcp:projects/service:Service" in IMPORT_IDS


# --- what was being deleted


def test_a_deletion_that_google_has_finished_is_taken_over() -> None:
    pool = {"urn": "urn:a::pool", "type": NODE_POOL, "id": "pool", "custom": True, "inputs": {}, "outputs": {"a": 1}}
    deleting = {"type": "deleting", "resource": pool}

    class Google(FakeStack):
        """The pool is still there when it is read, and gone when the importer has waited."""

        def refresh(self, targets: Sequence[str] = ()) -> dict[str, str]:
            self.cloud["pool"] = "googleapi: Error 404: Not found" if targets else {"a": 1}
            return super().refresh(targets)

    stack = Google(document(deleting, resources=[pool]))
    outcome = recovered(stack)
    assert outcome.gone == [f"{NODE_POOL} pool"]
    assert stack.urns() == []


def test_an_object_whose_deletion_has_begun_is_waited_for() -> None:
    deployment = {
        "urn": "urn:a::d",
        "type": "kubernetes:apps/v1:Deployment",
        "id": "default/d",
        "custom": True,
        "outputs": {"metadata": {"deletionTimestamp": "2026-11-25T16:00:00Z"}},
    }

    class Cluster(FakeStack):
        def refresh(self, targets: Sequence[str] = ()) -> dict[str, str]:
            self.cloud["default/d"] = deployment["outputs"] if len(self.refreshed) < 3 else None
            return super().refresh(targets)

    stack = Cluster(document({"type": "deleting", "resource": deployment}, resources=[deployment]))
    assert recovered(stack).gone == ["kubernetes:apps/v1:Deployment d"]
    assert stack.urns() == []


# --- locks


def test_pulumi_s_refusal_says_whose_lock_it_is() -> None:
    assert locks_in(LOCKED) == [Lock(user="me", host="builder", pid=4711, time="2026-11-25T16:08:38Z")]
    assert locks_in("error: something else") == []
    assert locks_in("error: [409] Conflict: Another update is currently in progress.") == [Lock()]


@pytest.mark.parametrize(
    ("host", "name", "left_over"),
    [("builder", None, True), ("builder", "bash", True), ("builder", "pulumi", False), ("elsewhere", None, False)],
)
def test_a_lock_is_left_over_when_its_process_is_known_to_be_gone(host: str, name: str | None, left_over: bool) -> None:
    [lock] = locks_in(LOCKED)
    assert is_left_over(lock, host=host, process_name=lambda pid: name) is left_over


def test_a_running_update_is_left_alone_until_a_person_says_that_it_does_not_run() -> None:
    stack = FakeStack(document())
    [stack.locked] = locks_in(LOCKED)
    with pytest.raises(Refused, match=r"process 4711 of me on builder.*--take-lock") as refused:
        recovered(stack, left_over=lambda lock: False)
    assert "Nothing was changed" in str(refused.value)
    assert stack.cancelled == 0
    outcome = recovered(stack, left_over=lambda lock: False, take_lock=True)
    assert stack.cancelled == 1
    assert "took away the lock of process 4711" in outcome.text("dev")


def test_a_stack_without_a_killed_update_is_only_refreshed() -> None:
    stack = FakeStack(document())
    assert recovered(stack).text("dev") == "stack dev: no update was killed; its state is refreshed"
    assert stack.refreshed == [[]]


# --- the backend's folder


def test_empty_attributes_go_and_everything_else_stays(tmp_path: Path) -> None:
    stacks = tmp_path / ".pulumi" / "stacks" / "p"
    stacks.mkdir(parents=True)
    for name, text in {"dev.json": "{}", "dev.json.attrs": "", "prod.json.attrs": "{}", "dev.json.1.tmp": "{"}.items():
        (stacks / name).write_text(text)
    assert backend_folder.folder_of(f"file://{tmp_path}?no_tmp_dir=true") == tmp_path
    assert [each.name for each in backend_folder.mend(tmp_path)] == ["dev.json.attrs"]
    backend_folder.remove_leftovers(tmp_path, "organization/p/dev")
    assert sorted(each.name for each in stacks.iterdir()) == ["dev.json", "prod.json.attrs"]


def test_half_of_a_lock_goes_and_one_that_is_just_being_written_stays(tmp_path: Path) -> None:
    locks = tmp_path / ".pulumi" / "locks" / "organization" / "p" / "dev"
    locks.mkdir(parents=True)
    for name in ("whole.json", "half.json.18eb.tmp", "coming.json.18ec.tmp"):
        (locks / name).touch()
    os.utime(locks / "half.json.18eb.tmp", (0, 0))
    assert [each.name for each in backend_folder.mend(tmp_path)] == ["half.json.18eb.tmp"]
    assert sorted(each.name for each in locks.iterdir()) == ["coming.json.18ec.tmp", "whole.json"]


# --- plugins


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], subprocess.Popen[bytes]]:
    """Starts a program that looks like a provider plugin of the engine at an address."""
    program = tmp_path / "pulumi-resource-recoverytest"
    shutil.copy("/bin/sh", program)

    def start(address: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([program, "-c", "while :; do sleep 0.1; done", address])

    return start


def test_a_plugin_without_engine_is_ended_and_one_with_its_engine_is_not(plugin: Callable[[str], subprocess.Popen[bytes]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as engine, socket.create_server(("127.0.0.1", 0)) as gone:
        alive = plugin(f"127.0.0.1:{engine.getsockname()[1]}")
        address = f"127.0.0.1:{gone.getsockname()[1]}"
        gone.close()
        orphan = plugin(address)
        try:
            deadline = time.monotonic() + 10
            while not (found := [each for each in orphans.find() if each.process.pid in (alive.pid, orphan.pid)]):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert [each.process.pid for each in found] == [orphan.pid]
            assert str(found[0]) == f"pulumi-resource-recoverytest (process {orphan.pid})"
            orphans.end(found)
            assert not found[0].process.is_running()
            assert alive.poll() is None
        finally:
            for each in (alive, orphan):
                each.kill()
                each.wait()
