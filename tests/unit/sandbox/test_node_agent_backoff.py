"""The delay before a container is started again."""

from sandbox.node_agent.backoff import BackOff


def delays(back_off: BackOff, count: int) -> list[float]:
    """The delays of a container that ends the moment it starts."""
    result, now = [], 1000.0
    for _ in range(count):
        ready = back_off.ready_at(now)
        result.append(round(ready - now, 6))
        now = ready
        back_off.tried(now)
    return result


def test_the_first_restart_is_immediate_and_later_ones_wait_ten_seconds_doubling_to_five_minutes() -> None:
    assert delays(BackOff(1.0), 8) == [0, 10, 20, 40, 80, 160, 300, 300]


def test_the_clock_shortens_the_delay_and_not_what_messages_say() -> None:
    back_off = BackOff(100.0)
    assert delays(back_off, 3) == [0, 0.1, 0.2]
    assert back_off.seconds == 40


def test_ten_minutes_of_peace_are_a_new_beginning() -> None:
    back_off = BackOff(1.0)
    delays(back_off, 4)
    back_off.tried(5000.0)
    assert back_off.ready_at(5000.0 + 599) > 5000.0 + 599
    assert back_off.ready_at(5000.0 + 601) == 5000.0 + 601
    back_off.tried(5601.0)
    assert back_off.seconds == 10
