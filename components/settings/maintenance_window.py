"""When GKE may upgrade the cluster by itself: the setting `maintenanceWindow`, and what GKE would refuse of it.

https://docs.cloud.google.com/kubernetes-engine/docs/concepts/maintenance-windows-and-exclusions. Left out: exclusions, which end
on a date and so belong to an operation (`gcloud container clusters update --add-maintenance-exclusion-name`), not to a stack.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from components.settings.problems import Problem, counted, nearest

_KEYS = ("startTime", "endTime", "recurrence")

#: GKE's own limits: a window of 4 hours at least, and 48 hours of windows in any 32 days.
MIN_HOURS = 4.0
MIN_HOURS_IN_32_DAYS = 48.0

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_RECURRENCE = re.compile(r"FREQ=(DAILY|WEEKLY)(?:;BYDAY=((?:MO|TU|WE|TH|FR|SA|SU)(?:,(?:MO|TU|WE|TH|FR|SA|SU))*))?")


@dataclass(frozen=True, kw_only=True)
class MaintenanceWindow:
    """Start and end of the first window in UTC (RFC 3339), and its recurrence (RFC 5545)."""

    start: str
    end: str
    recurrence: str


def _time(text: str) -> datetime:
    """Raises `ValueError`, also for what only Python takes for such a time (days of one digit)."""
    time = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    if time.strftime(_TIME) != text:
        raise ValueError(text)
    return time


def parse_maintenance_window(value: Any, field: str = "maintenanceWindow") -> tuple[MaintenanceWindow | None, list[Problem]]:
    """The window, or None for an empty mapping (GKE chooses the time) and after a problem."""
    if not isinstance(value, Mapping):
        return None, [Problem(field, value, "is not a mapping", f"give {', '.join(_KEYS)}, or {{}} for any time")]
    if not value:
        return None, []
    problems = [
        Problem(f"{field}.{key}", value[key], "is not a key of a maintenance window", nearest(key, _KEYS))
        for key in value
        if key not in _KEYS
    ]
    times = {}
    for key in _KEYS[:2]:
        try:
            times[key] = _time(str(value.get(key)))
        except ValueError:
            reason = "is missing" if value.get(key) is None else "is not a time in UTC"
            problems.append(Problem(f"{field}.{key}", value.get(key), reason, 'give one such as "2026-01-03T15:00:00Z", in quotes'))
    recurrence = str(value.get("recurrence") or "")
    match = _RECURRENCE.fullmatch(recurrence)
    if match is None:
        problems.append(
            Problem(
                f"{field}.recurrence",
                value.get("recurrence"),
                "is not a recurrence of days",
                "give FREQ=DAILY, or FREQ=WEEKLY;BYDAY=SA,SU with the days that you want",
            )
        )
    if len(times) == 2 and match is not None:
        hours = (times["endTime"] - times["startTime"]).total_seconds() / 3600
        days = set((match[2] or "MO").split(",")) if match[1] == "WEEKLY" or match[2] else set(range(7))
        # 32 days hold four of each day of the week for certain.
        total = hours * len(days) * 4 if len(days) < 7 else hours * 32
        if not MIN_HOURS <= hours <= 24:
            problems.append(
                Problem(
                    f"{field}.endTime",
                    value["endTime"],
                    f"is {counted(hours, 'hour')} after startTime, and GKE wants 4 to 24",
                    "move one of the two",
                )
            )
        elif total < MIN_HOURS_IN_32_DAYS:
            problems.append(
                Problem(
                    f"{field}.recurrence",
                    recurrence,
                    f"gives {counted(total, 'hour')} in 32 days with windows of {counted(hours, 'hour')}, and GKE wants 48",
                    "add days, or make the window longer",
                )
            )
    if problems:
        return None, problems
    return MaintenanceWindow(start=value["startTime"], end=value["endTime"], recurrence=recurrence), []
