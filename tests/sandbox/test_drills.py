"""A part of every drill, on sandboxes of their own; `python -m trials drills` runs the whole of them."""

from __future__ import annotations

import pytest

from trials import report, runner
from trials.drills.__main__ import DRILLS
from trials.results import Options

pytestmark = pytest.mark.drill

_SHARE = 0.2


@pytest.mark.parametrize("name", DRILLS)
def test_a_drill_loses_no_more_than_it_has_to(name: str) -> None:
    (section,) = runner.run("drills", DRILLS, [name], Options(share=_SHARE), runner.console())
    assert not section.failed
    assert [line for result in section.results if result.bad for line in report.lines(result)] == []
