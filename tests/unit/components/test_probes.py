"""Probes: long patience at the start, short afterwards."""

from __future__ import annotations

import re

from components.serving.probes import IDLE_REQUESTS_PER_SECOND, container_probes, seconds_to_notice
from tests.images.image_fakes import HEALTH

#: The slowest start that was seen (on a TPU), in seconds.
SLOWEST_START = 337


def _patience(probe: dict[str, int]) -> int:
    return probe["period_seconds"] * probe["failure_threshold"]


def test_a_start_may_take_as_long_as_the_setting_says_and_the_default_is_three_times_the_slowest_seen() -> None:
    from tests.unit.program import default_of

    default = default_of("serverStartupSeconds")
    assert default > 3 * SLOWEST_START
    for seconds in (default, 601):
        probe = container_probes(startup_seconds=seconds)["startup_probe"]
        assert seconds <= _patience(probe) < seconds + probe["period_seconds"]


def test_a_probe_outlasts_all_that_the_health_command_waits_for() -> None:
    limits = re.findall(r'timeout "\$\{HEALTH_\w+_SECONDS:-(\d+)\}"', HEALTH.read_text())
    assert len(limits) == 2
    probes = container_probes(startup_seconds=1200)
    assert all(probes[name]["timeout_seconds"] > sum(map(int, limits)) for name in probes)


def test_alerts_know_how_often_an_idle_server_is_asked_for_a_token() -> None:
    (idle,) = re.findall(r"\$\{HEALTH_IDLE_SECONDS:-(\d+)\}", HEALTH.read_text())
    assert int(idle) * IDLE_REQUESTS_PER_SECOND == 1


def test_a_server_that_hangs_leaves_traffic_within_a_quarter_of_a_minute_and_is_restarted_within_one() -> None:
    probes = container_probes(startup_seconds=1200)
    assert seconds_to_notice(probes["readiness_probe"], answer_seconds=5) == 15
    assert seconds_to_notice(probes["liveness_probe"], answer_seconds=5) <= 60


def test_an_attempt_that_takes_longer_than_a_period_delays_the_next() -> None:
    probe = {"period_seconds": 5, "failure_threshold": 3}
    assert seconds_to_notice(probe, answer_seconds=0) == 15
    assert seconds_to_notice(probe, answer_seconds=7) == 5 + 3 * 7
