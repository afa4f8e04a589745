"""The sandbox's clock: what is waited for, and what the cluster's creation is made of."""

import pytest

from sandbox.google.latencies import LATENCIES, Clock


class Time:
    """This machine's clock, which only passes during waits and work."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waited: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    result = Time()
    monkeypatch.setattr("sandbox.google.latencies.time", result)
    return result


@pytest.mark.parametrize(("speed", "waited"), [(2.0, (LATENCIES["node_join"] + LATENCIES["node_pool_create"]) / 2 - 5), (1000.0, 0.0)])
def test_an_operation_takes_its_time_divided_by_the_speed_less_what_is_done_meanwhile(time: Time, speed: float, waited: float) -> None:
    with Clock(speed).during("node_join", "node_pool_create"):
        time.now += 5
    assert time.waited == [waited]


def test_what_fails_is_not_waited_for(time: Time) -> None:
    with pytest.raises(OSError), Clock(1.0).during("cluster_create"):
        raise OSError
    assert time.waited == []
