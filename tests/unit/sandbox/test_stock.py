"""Google's stock in the sandbox: what is kept, what a pool's creation and a single machine make of it, and what the program says."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pulumi
import pytest

from components.cluster.pool_failures import explanation
from components.settings.accelerator_pool import AcceleratorPool, parse_pools
from sandbox import __main__ as commands
from sandbox.cli.status import ClusterView, ServiceError
from sandbox.gke.node_pool import NodePool
from sandbox.gke.node_pools import NodePools
from sandbox.gke.scaling_messages import Backoff, Growth, class_conditions, priority_statuses
from sandbox.google.latencies import LATENCIES, Clock
from sandbox.google.stock import OutOfStockError, Stock, StockError, require_pool
from sandbox.host.paths import Paths
from sandbox.providers.gcp_kinds import NODE_POOL
from tests.unit.program import run_program
from tests.unit.sandbox.test_autoscaler import RULES, ladder, pool

ZONE = "asia-northeast1-b"


# --- what is kept


def test_stock_is_kept_for_the_next_process_and_forgotten_when_it_is_back(tmp_path: Path) -> None:
    stock = Stock(tmp_path / "state" / "stock.json")
    assert stock.of("v6e-1") == "in"
    stock.set("v6e-1", "out")
    stock.set("l4", "hold")
    assert Stock(tmp_path / "state" / "stock.json").short() == {"v6e-1": "out", "l4": "hold"}
    stock.set("v6e-1", "in")
    assert (stock.of("v6e-1"), stock.short()) == ("in", {"l4": "hold"})


def test_stock_can_be_set_before_the_first_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_STATE", str(tmp_path / "state"))
    assert commands.main(["stock", "v6e-1", "out"]) == 0
    assert Stock(Paths.from_environment().stock).short() == {"v6e-1": "out"}


def test_an_unknown_pool_is_refused_with_the_names_of_all_pools(tmp_path: Path) -> None:
    paths = Paths(cache=tmp_path, state=tmp_path)
    with pytest.raises(StockError, match=r"v6e: no accelerator pool of that name; pools are l4, l4-spot, v6e-1"):
        require_pool(paths, "v6e")
    pools = tmp_path / "clusters" / "c" / "pools"
    pools.mkdir(parents=True)
    for name in ("v6e", "system"):
        (pools / f"{name}.json").touch()
    require_pool(paths, "v6e")
    with pytest.raises(StockError, match="system"):
        require_pool(paths, "system")


# --- machines and pools


class _Machines(NodePools):
    """A cluster without a control plane, whose nodes are Ready once they register."""

    def __init__(self, stock: Stock, state: Path, speed: float) -> None:
        self._cluster, self._project, self._zones = "c", "p", [ZONE]
        self.clock = Clock(speed)
        self.by_name: dict[str, NodePool] = {}
        self.lock = threading.RLock()
        self._stock = stock
        self._ending = threading.Event()
        self._dir = state

    def _register(self, pool: NodePool, node: str, zone: str) -> None:
        pass

    def _wait_until_ready(self, node: str) -> None:
        pass

    def _place_system_pods(self) -> None:
        pass

    def _zone_of(self, pool: NodePool, node: str) -> str:
        return ZONE


INPUTS: dict[str, Any] = {
    "autoscaling": {"minNodeCount": 1, "maxNodeCount": 2},
    "initialNodeCount": 2,
    "nodeConfig": {"machineType": "ct6e-standard-1t"},
}


@pytest.fixture
def stock(tmp_path: Path) -> Stock:
    return Stock(tmp_path / "stock.json")


@pytest.mark.parametrize("supply", ["out", "hold"])
def test_creation_without_stock_is_given_up_in_the_end_and_leaves_the_pool_in_the_error_state(
    stock: Stock, tmp_path: Path, supply: Any
) -> None:
    stock.set("v6e-1", supply)
    cluster = _Machines(stock, tmp_path, speed=10_000.0)
    with pytest.raises(OutOfStockError, match=r"after 2160s\. Expected 2, running 0, transitioning 2\. .*\[GCE_STOCKOUT\]"):
        cluster.create("v6e-1", INPUTS)
    pool = cluster.by_name["v6e-1"]
    assert (pool.nodes, pool.joining, pool.held, pool.in_operation) == ([], {}, set(), False)
    assert "'projects/p/zones/asia-northeast1-b' does not have enough resources" in (pool.error or "")
    stock.set("v6e-1", "in")
    assert cluster.add_node("v6e-1") in pool.nodes
    assert pool.error is None


class _Returning(Stock):
    """Is back once two machines have been asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.answers: list[str] = []
        self._lock = threading.Lock()

    def of(self, pool: str) -> Any:
        with self._lock:
            supply = super().of(pool)
            self.answers.append(supply)
            if len(self.answers) == 2:
                self.set(pool, "in")
            return supply


@pytest.mark.parametrize("supply", ["out", "hold"])
def test_stock_that_comes_back_in_time_completes_the_creation(tmp_path: Path, supply: Any) -> None:
    stock = _Returning(tmp_path / "stock.json")
    stock.set("v6e-1", supply)
    # Google's 36 minutes are 3.6 seconds, four minutes between two attempts are 0.4.
    cluster = _Machines(stock, tmp_path, speed=600.0)
    cluster.create("v6e-1", INPUTS)
    assert stock.answers == [supply] * 2 + ["in"] * 2
    assert len(cluster.by_name["v6e-1"].nodes) == 2


# --- the autoscaler's words


def _backoff(*, out_of_stock: bool = True) -> Backoff:
    since = datetime(2026, 11, 25, 16, 0, tzinfo=UTC)
    return Backoff(until=0.0, since=since, ends=since.replace(minute=5), out_of_stock=out_of_stock)


def test_a_rule_whose_pool_has_no_machines_is_constrained_and_never_suspended() -> None:
    pools = ladder(0, 0, 0)
    backoffs = {"v6e-1": _backoff(), "l4": _backoff(out_of_stock=False)}
    growths = {"l4-spot": Growth(trigger="PodPending", since=datetime(2026, 11, 25, 16, 1, tzinfo=UTC))}
    statuses = priority_statuses(RULES.rules, pools, backoffs, growths)
    shown = [(each["identifier"], each["conditions"][0]["type"], each["conditions"][0]["reason"]) for each in statuses]
    assert shown == [
        ("0", "ProvisioningConstrained", "OutOfResources"),
        ("1", "NodeProvisioningInProgress", "PodPending"),
        ("2", "ProvisioningConstrained", "InternalError"),
    ]
    first = statuses[0]["conditions"][0]
    assert first["message"].endswith("In backoff until 2026-11-25 16:05:00 UTC.")
    assert first["lastTransitionTime"] == "2026-11-25T16:00:00Z"


@pytest.mark.parametrize(
    ("rules", "unnamed", "said"),
    [
        (RULES.rules, [], {"Health": "True"}),
        # Out of service on purpose: GKE leaves this condition out of the class's health.
        (RULES.rules[1:], ["v6e-1"], {"NodepoolMisconfigured": "True", "Health": "True"}),
        ((*RULES.rules, ("gone",)), [], {"CrdMisconfigured": "True", "Health": "False"}),
    ],
)
def test_a_class_is_healthy_unless_one_of_its_priorities_names_no_pool(rules: Any, unnamed: list[str], said: dict[str, str]) -> None:
    assert {each["type"]: each["status"] for each in class_conditions(rules, ladder(1, 0, 0), unnamed)} == said


# --- what the program says


def _pool() -> AcceleratorPool:
    value = {"name": "v6e-1", "machineType": "ct6e-standard-1t", "maxNodeCount": 2}
    (pool,), problems = parse_pools([value], region="asia-northeast1", zone=ZONE)
    assert not problems
    return pool


def _explained(*errors: str, others: tuple[str, ...] = ("l4",)) -> str | None:
    return explanation(_pool(), errors, others=others, cluster="c", location="asia-northeast1")


@pytest.mark.parametrize(
    "error",
    [
        'NodePool v6e-1 was created in the error state "RUNNING_WITH_ERROR"',
        "Current errors: [GCE_STOCKOUT]: Instance 'x' creation failed",
        "[ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS]: ...",
        'NodePool "v6e-1" has state "PROVISIONING" with message ""',
    ],
)
def test_a_pool_without_machines_is_named_with_the_reason_and_the_fixes(error: str) -> None:
    said = _explained(error) or ""
    for part in (
        "Accelerator pool v6e-1",
        "ct6e-standard-1t (on-demand) in asia-northeast1-b",
        "none is free there now",
        "gcloud container node-pools describe v6e-1 --cluster=c --location=asia-northeast1",
        "other pools have (l4)",
        "zones",
        "`enabled: false`",
        "run the same update again",
        "docs/operate.md",
    ):
        assert part in said


def test_a_quota_differs_from_a_stock_out_and_other_errors_are_left_as_they_are() -> None:
    said = _explained("googleapi: Error 403: Insufficient regional quota to satisfy request, forbidden") or ""
    assert "quota does not allow" in said
    assert "make preflight" in said
    assert _explained("googleapi: Error 403: Permission 'container.nodePools.create' denied") is None


def test_the_program_explains_the_failure_of_each_of_its_accelerator_pools_and_never_tries_again_by_itself() -> None:
    run = run_program()
    hooked = {each.name for each in run.of_type(NODE_POOL) if "accelerator-pool-failure" in each.error_hooks}
    assert hooked == {"v6e-1", "l4-spot", "l4"}
    failure = pulumi.ErrorHookArgs(
        urn="",
        id="",
        name="l4-spot",
        type=NODE_POOL,
        failed_operation="create",
        errors=["RUNNING_WITH_ERROR"],
        new_inputs={"cluster": "c", "location": "r"},
    )
    hook = run.error_hooks["accelerator-pool-failure"]
    with mock.patch("pulumi.log.warn") as warn:
        assert hook(failure) is False
        failure.failed_operation = "delete"
        assert hook(failure) is False
    ((said,), _) = warn.call_args
    assert warn.call_count == 1
    assert "Accelerator pool l4-spot" in said
    assert "(v6e-1, l4)" in said


@pytest.mark.parametrize(
    ("machine_type", "config", "minutes"),
    [
        ("ct6e-standard-1t", {}, 600),
        ("ct6e-standard-1t", {"spot": True}, 600),
        ("ct6e-standard-1t", {"flexStart": True}, 30),
        ("g2-standard-4", {}, 15),
    ],
)
def test_a_machine_that_does_not_come_is_waited_for_as_long_as_the_autoscaler_says(machine_type: str, config: Any, minutes: int) -> None:
    assert LATENCIES[pool("p", machine_type, nodes=0, **config).provision_time] == minutes * 60


@pytest.mark.parametrize("way", ["spot", "preemptible", "flex-start"])
def test_nodes_that_google_takes_away_can_be_taken_away(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    view = object.__new__(ClusterView)
    nodes = [("a", {f"cloud.google.com/gke-{way}": "true"}), ("b", {"cloud.google.com/gke-provisioning": "standard"})]
    monkeypatch.setattr(view, "nodes", lambda: [{"name": f"gke-{pool}", "pool": pool, "labels": labels} for pool, labels in nodes])
    monkeypatch.setattr(view, "pods", list)
    assert view.preemptible_node("a") == "gke-a"
    with pytest.raises(ServiceError, match="b is not a Spot, preemptible or flex-start node; pools with such nodes now: a"):
        view.preemptible_node("b")
