"""The drill `door`: what each client may lose."""

import pytest

from sandbox.cli.traffic import Exchange, Report
from trials.drills import door


def _report(*results: tuple[str, bool]) -> Report:
    found = [Exchange(sent=0, ended=1, result=result, problem="", pod="", stream=stream) for result, stream in results]  # type: ignore[arg-type]
    return Report(exchanges=tuple(found))


@pytest.mark.parametrize(
    ("client", "planned", "lost_stream", "bad"),
    [
        ("gateway, HTTP/2", True, True, True),
        ("Service, HTTP/1.1 kept open", True, True, False),
        ("gateway, HTTP/2", False, False, False),
        ("gateway, HTTP/1.1, 5 retries", False, True, False),
        ("gateway, HTTP/1.1, 5 retries", False, False, True),
    ],
)
def test_a_client_with_retries_may_lose_streams_alone_and_one_without_nothing_that_was_planned(
    client: str, planned: bool, lost_stream: bool, bad: bool
) -> None:
    report = _report(("answered", False), ("answered", True), ("cut", lost_stream))
    result = door._result("an event", report, "it came back", client, planned=planned)
    assert (result.tried, result.lost, result.bad) == (3, 1, bad)
