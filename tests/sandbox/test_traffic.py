"""Requests go on while the service is updated and preempted and while its servers hang: none fails, none is cut.

One short case each; the drill `load` has all events, with longer answers. The tests run in order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sandbox.cli.client import Sandbox
from sandbox.cli.traffic import Report
from trials.drills.events import load, preempt, replicas, restarts, serving, wait_until

#: Answers of the stand-in of 0.3 to 4 s; the longest of them is under way whenever a pod is told to end.
TOKENS = (16, 64, 200)


@contextmanager
def traffic(sandbox: Sandbox, *, keep_alive: bool = False) -> Iterator[Callable[[], Report]]:
    """Asks from a little before to a little after; gives the report."""
    with load(sandbox, tokens=TOKENS, keep_alive=keep_alive) as found:
        yield lambda: found.report


def assert_nothing_lost(report: Report, least: int = 20) -> None:
    document = json.dumps(report.as_document())
    assert report.count("answered") >= least, document
    assert report.count("failed") == report.count("cut") == 0, document


def test_the_command_counts_what_it_sends(sandbox: Sandbox) -> None:
    report = json.loads(sandbox.command("traffic", "--seconds", "2", "--rate", "5", "--json").stdout)
    assert report["sent"] == report["answered"] >= 10
    refused = sandbox.command("preempt", "v6e-1", check=False)
    assert refused.returncode == 1
    assert "v6e-1 is not a Spot, preemptible or flex-start node" in refused.stderr


def test_a_rolling_update_loses_no_request_though_clients_keep_their_connections(sandbox: Sandbox) -> None:
    sandbox.command("scale", "2")
    before = {pod["name"] for pod in sandbox.status()["pods"]}
    with traffic(sandbox, keep_alive=True) as report:
        sandbox.pulumi("up", "--yes", "--skip-preview", "--non-interactive", overrides={"replicas": 2, "maxModelLen": 4096})
    assert_nothing_lost(report())
    # A move up the pools may follow the update.
    sandbox.command("scale", "2")
    after = {pod["name"] for pod in sandbox.status()["pods"] if pod["ready"]}
    assert len(after) == 2
    assert not before & after
    assert report().pods.keys() - before


def test_preemption_with_notice_loses_no_request_of_less_than_ten_seconds(sandbox: Sandbox) -> None:
    sandbox.command("scale", "4")
    with traffic(sandbox) as report:
        preempt(sandbox, "l4-spot", notice=12)
    assert_nothing_lost(report())


def test_a_replica_whose_engine_hangs_leaves_traffic_and_one_that_crashes_on_every_start_is_replaced_by_hand(sandbox: Sandbox) -> None:
    sandbox.command("scale", "2")
    # The node that was preempted may have taken one of the two with it a moment ago.
    wait_until(lambda: len(serving(sandbox)) == 2, 60)
    hung, crashed = (pod["name"] for pod in replicas(sandbox) if pod["ready"])
    # Its server goes on to say that it is healthy. That it is restarted in the end takes a minute, which the drill waits for.
    sandbox.command("hang", hung, "--engine")
    sandbox.command("crash", crashed)
    wait_until(lambda: restarts(sandbox, crashed) > 1, 60)
    wait_until(lambda: not serving(sandbox), 60)
    events = sandbox.kubectl("get", "events", "--field-selector", f"involvedObject.name={hung}")
    assert "Readiness probe failed: not healthy: no step of the engine for" in events
    sandbox.kubectl("delete", "pod", crashed, hung)
    wait_until(lambda: len(serving(sandbox)) == 2, 60)
    with traffic(sandbox) as report:
        pass
    assert_nothing_lost(report(), least=10)


@pytest.mark.drill
def test_the_last_replica_is_kept_from_eviction_where_the_setting_says_so(sandbox: Sandbox) -> None:
    sandbox.pulumi("up", "--yes", "--non-interactive", overrides={"keepLastReplica": True})
    (node,) = serving(sandbox)
    refused = sandbox.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=8s", check=False)
    assert "violate the pod's disruption budget" in refused
    sandbox.kubectl("uncordon", node)
    assert list(serving(sandbox)) == [node]
