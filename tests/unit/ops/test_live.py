"""The ladder as it is now: a snapshot of a cluster -> history and view; who may open the page; what the terminal shows."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from ops.live.chat import Chat
from ops.live.history import KEPT_SECONDS, History
from ops.live.meter import Meter
from ops.live.objects import Object, Snapshot
from ops.live.rungs import Pool
from ops.live.server import LiveServer, Refused
from ops.live.terminal import rendered
from ops.live.view import view

NOW = 1_800_000_000.0
POOLS = tuple(
    Pool(name=name, machine_type=machine, provisioning=provisioning, region="asia-northeast1")
    for name, machine, provisioning in (
        ("v6e-1", "ct6e-standard-1t", "on-demand"),
        ("l4-spot", "g2-standard-4", "spot"),
        ("l4-old", "g2-standard-4", "on-demand"),
    )
)


def _at(ago: float) -> str:
    return datetime.fromtimestamp(NOW - ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _node(name: str, pool: str, *, going: bool = False) -> Object:
    return {
        "metadata": {"name": name, "labels": {"cloud.google.com/gke-nodepool": pool}, "creationTimestamp": _at(300)},
        "spec": {"taints": [{"key": "cloud.google.com/impending-node-termination"}] if going else []},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def _pod(name: str, node: str | None = None, *, ready: bool = False, ending: bool = False, phase: str = "Running") -> Object:
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": _at(40)}]
    if node:
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": _at(55)})
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": _at(60),
            # The API's time is the end of the grace period.
            **({"deletionTimestamp": _at(-25), "deletionGracePeriodSeconds": 30} if ending else {}),
        },
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": conditions},
    }


def _snapshot(pods: tuple[Object, ...] = (), nodes: tuple[Object, ...] = (), status: tuple[Any, ...] = (), events: Any = ()) -> Snapshot:
    return Snapshot(
        nodes=nodes,
        pods=pods,
        events=events,
        deployment={"spec": {"replicas": 3, "template": {"spec": {"nodeSelector": {"cloud.google.com/compute-class": "ours"}}}}},
        classes=(
            {"metadata": {"name": "other"}, "spec": {"priorities": [{"nodepools": ["another"]}]}},
            {
                "metadata": {"name": "ours"},
                "spec": {"priorities": [{"nodepools": ["v6e-1"]}, {"nodepools": ["l4-spot"]}]},
                "status": {"priorityStatuses": [{"identifier": "1", "conditions": list(status)}]},
            },
        ),
    )


def _seen(*snapshots: Snapshot) -> tuple[dict[str, Any], list[str]]:
    """The view after these, a second apart, and all sentences."""
    history = History()
    for second, snapshot in enumerate(snapshots):
        history.observe(snapshot, NOW + second)
    return view(snapshots[-1], history, Meter(), NOW + len(snapshots) - 1, POOLS), [event.text for event in history.events]


TPU, SPOT = _node("gke-a", "v6e-1"), _node("gke-b", "l4-spot")


@pytest.mark.parametrize(
    ("pods", "state", "badge"),
    [
        ([_pod("vllm-x")], "pending", None),
        ([_pod("vllm-x", "gke-a")], "starting", "1 starting"),
        ([_pod("vllm-x", "gke-a", ready=True)], "serving", "1 serving"),
        ([_pod("vllm-x", "gke-a", ready=True, ending=True)], "draining", "1 draining"),
        ([_pod("vllm-x", "gke-a", ready=True), _pod("vllm-x", "gke-a")], "failing", "1 not answering"),
        ([_pod("vllm-x", "gke-a", phase="Failed")], "ended", "1 idle"),
    ],
)
def test_a_replica_is_shown_in_its_state_on_its_rung(pods: list[Object], state: str, badge: str | None) -> None:
    document, _ = _seen(*(_snapshot((pod,), (TPU,)) for pod in pods))
    assert document["ways"][0]["segments"][-1]["state"] == state
    assert [rung["name"] for rung in document["rungs"]] == ["v6e-1", "l4-spot", "l4-old"]
    assert (badge or "1 idle") in [each["text"] for each in document["rungs"][0]["badges"]]
    assert [each["short"] for each in document["waiting"]] == (["x"] if state == "pending" else [])


def test_a_replica_that_was_not_watched_from_its_start_has_its_whole_way() -> None:
    document, told = _seen(_snapshot((_pod("vllm-x", "gke-a", ready=True, ending=True),), (TPU,)))
    way = [(each["state"], round(NOW - each["since"]), round(NOW - each["until"])) for each in document["ways"][0]["segments"]]
    assert way == [("pending", 60, 55), ("starting", 55, 40), ("serving", 40, 5), ("draining", 5, 0)]
    assert told[1:] == [
        "Replica x waits for a node.",
        "Replica x starts on v6e-1 after 5 s of waiting.",
        "Replica x serves on v6e-1, 20 s after it was made.",
        "Replica x on v6e-1 drains: it finishes its requests and takes no new ones.",
    ]


def test_replicas_and_nodes_that_go_are_told_and_kept_for_a_while() -> None:
    history = History()
    there = _snapshot((_pod("vllm-x", "gke-b", ready=True),), (TPU, _node("gke-b", "l4-spot", going=True)))
    for moment, snapshot in ((NOW, there), (NOW + 0.5, there), (NOW + 1, _snapshot((), (TPU,))), (NOW + 2, _snapshot((), (TPU,)))):
        history.observe(snapshot, moment)
    told = [event.text for event in history.events]
    assert "Google takes node b of l4-spot back, with a notice of seconds." in told
    assert told[-3:] == [
        # Not ready, since it is told to end: no failure of its own.
        "Replica x on l4-spot drains: it finishes its requests and takes no new ones.",
        "Node b left l4-spot.",
        "Replica x has left l4-spot.",
    ]
    assert [(life.rung, life.until) for life in history.lives.values()] == [("l4-spot", NOW + 1)]
    history.observe(_snapshot(), NOW + KEPT_SECONDS + 2)
    assert not history.lives


def test_a_rung_without_stock_and_one_that_grows_say_why() -> None:
    backoff = "failed due to the OutOfResources error. In backoff until 2026-12-01 15:03:10 UTC."
    status = (
        {"type": "ProvisioningConstrained", "status": "True", "reason": "OutOfResources", "message": backoff},
        {"type": "NodeProvisioningInProgress", "status": "True", "reason": "PodPending", "message": "..."},
    )
    why = {"reason": "NotTriggerScaleUp", "message": "no room", "involvedObject": {"name": "vllm-x"}, "metadata": {"uid": "1"}}
    trying, refused = (_snapshot((_pod("vllm-x"),), (TPU, SPOT), said, (why,)) for said in (status[1:], status))
    document, told = _seen(refused, trying, refused)
    texts = ["1 idle", "node on its way: a replica waits", "out of stock, tried again at 15:03:10 UTC"]
    assert [each["text"] for each in document["rungs"][1]["badges"]] == texts
    # Once, as long as it goes on.
    assert sorted(told[-2:]) == [
        "A node for l4-spot is on its way: a replica waits.",
        "l4-spot: out of stock, tried again at 15:03:10 UTC.",
    ]
    assert document["waiting"][0]["why"] == "no room"
    # A pool that the class leaves out is out of service.
    assert document["rungs"][2]["badges"][0]["text"] == "out of service (enabled: false)"


def test_each_warning_of_kubernetes_is_told_once() -> None:
    warning = {"type": "Warning", "reason": "BackOff", "message": "restarting", "lastTimestamp": _at(1)}
    events = ({**warning, "involvedObject": {"name": "vllm-x"}, "metadata": {"uid": "1"}},)
    _, told = _seen(_snapshot(events=events), _snapshot(events=events))
    assert told == ["Kubernetes of x: BackOff, restarting"]


def test_a_rung_costs_its_nodes_and_the_total_is_unknown_where_one_is() -> None:
    document, _ = _seen(_snapshot((), (TPU, SPOT, _node("gke-c", "l4-spot"))))
    each = [rung["usd_each"] for rung in document["rungs"]]
    assert [rung["usd"] for rung in document["rungs"]] == [each[0], 2 * each[1], 0]
    assert document["total"]["usd"] == each[0] + 2 * each[1]
    history = History()
    assert view(_snapshot((), (TPU,)), history, Meter(), NOW)["total"]["usd"] is None


def _metrics(done: int, first: float, *, waiting: int = 0) -> str:
    lines = [f'vllm:request_success_total{{finished_reason="{reason}"}} {done}' for reason in ("stop", "length")]
    lines += [f"vllm:num_requests_waiting {waiting}", "vllm:num_requests_running 1"]
    return "\n".join(["# TYPE vllm:request_success counter", *lines, *_histogram(done, first), ""])


def _histogram(count: int, total: float) -> list[str]:
    name = "vllm:time_to_first_token_seconds"
    return [f"# TYPE {name} histogram", f'{name}_bucket{{le="+Inf"}} {count}', f"{name}_sum {total}", f"{name}_count {count}"]


def test_a_rungs_load_is_that_of_its_servers_over_the_last_seconds() -> None:
    meter = Meter()
    for pod in ("a", "b"):
        meter.add(pod, _metrics(10, 5.0), 100.0)
        meter.add(pod, _metrics(20, 7.0, waiting=3), 110.0)
    load = meter.load(["a", "b", "unheard"], 111.0)
    assert load is not None
    # Two reasons of finishing, ten of each, in ten seconds, on two servers.
    assert (load.requests_a_second, load.waiting, load.running, load.first_token) == (4.0, 6, 2, 0.2)
    # Started again: the counts begin anew, and no rate is negative.
    meter.add("a", _metrics(0, 0.0), 112.0)
    after = meter.load(["a"], 112.0)
    assert after is not None
    assert (after.requests_a_second, after.first_token) == (0.0, None)
    assert meter.load(["a", "b"], 200.0) is None
    meter.forget(["b"])
    assert meter.load(["a"], 112.0) is None


def test_the_terminal_shows_the_same() -> None:
    document, _ = _seen(_snapshot((_pod("vllm-x", "gke-a", ready=True), _pod("vllm-y")), (TPU,)))
    console = Console(width=140, record=True)
    console.print(rendered(document | {"notes": ["pods: the API server answers 403 Forbidden"]}))
    text = console.export_text()
    for part in ("1 of 3 replicas serve", "1 serving", "y waits", "Replica x serves on v6e-1", "403 Forbidden", "serving for 40 s"):
        assert part in text


def _press(asked: Any) -> str:
    if asked.get("action") != "scale":
        raise Refused("no such button")
    return f"{asked['replicas']} replicas"


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    document, _ = _seen(_snapshot((_pod("vllm-x", "gke-a", ready=True),), (TPU,)))
    chat = Chat("", lambda: document)
    found = LiveServer(lambda: document | {"version": 1, "notes": []}, chat, {"title": "t"}, getattr(request, "param", _press))
    thread = threading.Thread(target=found.run)
    thread.start()
    yield found
    found.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()


def _request(server: LiveServer, method: str, path: str, body: str | None = None, **headers: str) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    if response.headers["Content-Type"] == "text/event-stream; charset=utf-8":
        return response, response.readline().decode()
    return response, response.read().decode()


def _entered(server: LiveServer) -> dict[str, str]:
    """The headers of the page's own requests."""
    parts = urlsplit(server.url)
    response, _ = _request(server, "GET", f"/?{parts.query}")
    cookie = response.headers["Set-Cookie"]
    assert (response.status, response.headers["Location"]) == (303, "/")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    return {"Cookie": cookie.partition(";")[0], "Origin": f"http://127.0.0.1:{server.port}"}


def test_only_the_address_with_the_token_opens_the_page(server: LiveServer, capfd: pytest.CaptureFixture[str]) -> None:
    own = _entered(server)
    paths = ("/", "/page.js", "/page.css", "/icon.svg", "/events")
    answers = [_request(server, "GET", path, **own)[0] for path in paths]
    assert [answer.status for answer in answers] == [200] * len(paths)
    assert all(answer.headers["Content-Security-Policy"].startswith("default-src 'none'") for answer in answers)
    assert all(_request(server, "GET", path)[0].status == 403 for path in (*paths, "/?token=wrong"))
    # A page of another host, which its name server leads here.
    assert _request(server, "GET", "/", **own, Host="evil.example")[0].status == 421
    assert _request(server, "POST", "/do", "{}", **own | {"Origin": "http://evil.example"})[0].status == 403
    token = urlsplit(server.url).query.partition("=")[2]
    assert token not in "".join(capfd.readouterr())


def test_the_page_gets_documents_and_its_buttons_answer(server: LiveServer) -> None:
    own = _entered(server)
    document = json.loads(_request(server, "GET", "/events", **own)[1].removeprefix("data: "))
    assert (document["title"], document["controls"], document["replicas"]) == ("t", True, {"wanted": 3, "serving": 1})
    for path, body, status, said in (
        ("/do", '{"action": "scale", "replicas": 2}', 200, "2 replicas"),
        ("/do", '{"action": "dance"}', 409, "no such button"),
        ("/do", "[", 409, "no such button"),
        ("/ask", '{"question": " "}', 400, "1 to 2000 characters"),
        ("/ask", '{"question": "Why?"}', 200, "no address yet"),
    ):
        response, text = _request(server, "POST", path, body, **own)
        assert (response.status, said in text) == (status, True), text


@pytest.mark.parametrize("server", [None], indirect=True)
def test_a_real_clusters_page_has_no_buttons(server: LiveServer) -> None:
    own = _entered(server)
    assert json.loads(_request(server, "GET", "/events", **own)[1].removeprefix("data: "))["controls"] is False
    assert _request(server, "POST", "/do", '{"action": "scale", "replicas": 2}', **own)[0].status == 404
