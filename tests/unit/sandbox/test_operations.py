"""The stand-in cloud's operations continue without their client, and the next one on the same resource waits."""

import threading
from collections.abc import Callable

from sandbox.google.operations import Operations

CLUSTER = "projects/p/locations/r/clusters/c"
POOL = f"{CLUSTER}/nodePools/a"


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ends(thread: threading.Thread) -> bool:
    thread.join(timeout=30)
    return not thread.is_alive()


def test_the_next_operation_on_a_resource_waits_for_the_one_before() -> None:
    operations = Operations()
    order: list[str] = []

    def second() -> None:
        with operations.running(CLUSTER):
            order.append("second")

    with operations.running(CLUSTER):
        assert operations.runs(CLUSTER)
        waiting = started(second)
        order.append("first")
    assert ends(waiting)
    assert order == ["first", "second"]
    assert not operations.runs(CLUSTER)


def test_a_cluster_s_end_waits_for_its_pools_and_another_operation_does_not() -> None:
    operations = Operations()
    deleted = threading.Event()

    def delete() -> None:
        with operations.running(CLUSTER, below=True):
            deleted.set()

    with operations.running(POOL):
        with operations.running(CLUSTER):
            pass
        waiting = started(delete)
        assert not deleted.wait(timeout=0.1)
    assert ends(waiting)
    assert deleted.is_set()
