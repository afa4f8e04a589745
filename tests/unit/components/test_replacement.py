"""A change that replaces the cluster: its successor comes beside it, and a name that is in the way is explained."""

from __future__ import annotations

from unittest import mock

import pulumi
import pytest

from tests.unit.program import Run, run_program

CLUSTER = "gcp:container/cluster:Cluster"
SUBNETWORK = "gcp:compute/subnetwork:Subnetwork"

TAKEN = {
    CLUSTER: "googleapi: Error 409: Already exists: projects/p/locations/r/clusters/serving., alreadyExists",
    SUBNETWORK: "googleapi: Error 409: The resource 'projects/p/regions/r/subnetworks/serving' already exists, alreadyExists",
}


@pytest.fixture(scope="module")
def prod() -> Run:
    return run_program(stack="prod")


@pytest.mark.parametrize(
    "type_token",
    [
        CLUSTER,
        SUBNETWORK,
        "gcp:compute/network:Network",
        "gcp:compute/router:Router",
        "gcp:compute/routerNat:RouterNat",
        "gcp:serviceaccount/account:Account",
        "gcp:projects/iAMMember:IAMMember",
    ],
)
def test_the_successor_of_what_moves_with_a_cluster_is_made_before_anything_is_deleted(prod: Run, type_token: str) -> None:
    assert {each.delete_before_replace for each in prod.of_type(type_token)} == {False}


def test_a_pool_whose_name_stays_is_left_to_the_provider_which_deletes_it_first(prod: Run) -> None:
    pools = prod.of_type("gcp:container/nodePool:NodePool")
    assert {each.delete_before_replace for each in pools} == {None}


def _said(run: Run, type_token: str, error: str, operation: str = "create") -> str | None:
    """What the program says of a failure; it never tries again by itself."""
    ((name, _),) = {tuple(each.error_hooks) for each in run.of_type(type_token)}
    failure = pulumi.ErrorHookArgs(
        urn="", id="", name="x", type=type_token, failed_operation=operation, errors=[error], new_inputs={"name": "serving"}
    )
    with mock.patch("pulumi.log.warn") as warn:
        assert run.error_hooks[name](failure) is False
    return str(warn.call_args[0][0]) if warn.called else None


@pytest.mark.parametrize(("type_token", "kind"), [(CLUSTER, "Cluster"), (SUBNETWORK, "Subnetwork")])
def test_a_name_that_is_taken_is_explained_with_the_setting_that_makes_way(prod: Run, type_token: str, kind: str) -> None:
    said = _said(prod, type_token, TAKEN[type_token])
    assert said is not None
    assert said.startswith(f"{kind} serving is there already")
    assert "change clusterName in the same update" in said
    assert "nothing was deleted" in said


def test_other_failures_of_the_cluster_speak_for_themselves(prod: Run) -> None:
    assert _said(prod, CLUSTER, "googleapi: Error 403: Insufficient regional quota, forbidden") is None
    assert _said(prod, CLUSTER, TAKEN[CLUSTER], operation="delete") is None
