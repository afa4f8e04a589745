"""What Cloud Monitoring's API refuses of a dashboard or of an alert policy.

Sources: the discovery document of the API (monitoring.v1 for dashboards), the reference of projects.dashboards and
projects.alertPolicies, https://docs.cloud.google.com/monitoring/quotas, and google/services/monitoring/ of
hashicorp/terraform-provider-google. The messages for a single field are Google's, those of rules are ours. PromQL is parsed
by promql-parser, which accepts what Prometheus does. Left out: whether a metric, a label or a notification channel exists.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import promql_parser

from sandbox.providers import discovery
from sandbox.providers.discovery import snake_case

_LAYOUTS = ("columnLayout", "gridLayout", "mosaicLayout", "rowLayout")
#: Fields of a widget that are not its content.
_NO_CONTENT = frozenset({"id", "timeRange", "title", "visibilityCondition"})
#: Fields of a query that say how to show it, not what to ask.
_NO_QUERY = frozenset({"outputFullDuration", "unitOverride"})

_MAX_COLUMNS = 48
_MAX_WIDGETS = 100
_MAX_CONDITIONS = 6
_MIN_AUTO_CLOSE = 1800
_MAX_DOCUMENTATION = (8192, 10240)

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_CHANNEL = re.compile(r"projects/[^/]+/notificationChannels/[^/]+")


def dashboard_problems(properties: Mapping[str, Any]) -> list[str]:
    """What is wrong with the resource's `dashboardJson`, which is JSON."""
    document = json.loads(properties["dashboardJson"])
    found = discovery.problems("monitoring.v1", "Dashboard", document, "dashboard")
    # Rules make sense of a document alone that has the right form.
    return found or list(_dashboard_rules(document))


def alert_policy_problems(properties: Mapping[str, Any]) -> list[str]:
    """What is wrong with the resource's properties, which have the SDK's types."""
    return list(_alert_policy_rules(properties))


def same_dashboard(old: str, new: str) -> bool:
    """Whether the provider sees no difference between what the API answers to `old` and `new`, both JSON.

    As resource_monitoring_dashboard.go does it: a key that only the answer has is taken for a default of the API's, so one that the
    program takes away makes no difference. A zero, which the answer leaves out, makes one for ever
    (hashicorp/terraform-provider-google#7242).
    """
    before, after = _answered(json.loads(old)), json.loads(new)
    return bool(_without_computed(before, after) == after)


def _answered(value: Any) -> Any:
    """What the API gives back: `xPos` and others of 0 are not among it."""
    if isinstance(value, Mapping):
        return {key: _answered(each) for key, each in value.items() if each is False or each != 0}
    if isinstance(value, list):
        return [_answered(each) for each in value]
    return value


def _without_computed(old: Any, new: Any) -> Any:
    """`old` without the keys that `new` does not have."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {key: _without_computed(each, new[key]) for key, each in old.items() if key in new}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_without_computed(*pair) for pair in zip(old, new, strict=True)]
    return old


def _field(path: str, value: Any, rule: str) -> str:
    return f"Field {path} had an invalid value of {json.dumps(value)}: {rule}."


def _dashboard_rules(document: Mapping[str, Any]) -> Iterator[str]:
    if not document.get("displayName"):
        yield _field("dashboard.display_name", document.get("displayName", ""), "must not be empty")
    layouts = [layout for layout in _LAYOUTS if layout in document]
    if len(layouts) > 1:
        yield f"Field dashboard has more than one layout: {', '.join(map(snake_case, layouts))}."
    if "mosaicLayout" in document:
        yield from _mosaic_rules(document["mosaicLayout"])
    widgets = list(_named(document, "widget", "dashboard")) + [
        (f"{path}[{index}]", each) for path, several in _named(document, "widgets", "dashboard") for index, each in enumerate(several)
    ]
    if len(widgets) > _MAX_WIDGETS:
        yield f"Field dashboard has {len(widgets)} widgets, and at most {_MAX_WIDGETS} are allowed."
    for path, widget in widgets:
        yield from _widget_rules(path, widget)
    for path, query in _named(document, "timeSeriesQuery", "dashboard"):
        yield from _query_rules(path, query)


def _mosaic_rules(layout: Mapping[str, Any]) -> Iterator[str]:
    path = "dashboard.mosaic_layout"
    columns = int(layout.get("columns", 0))
    if not 1 <= columns <= _MAX_COLUMNS:
        yield _field(f"{path}.columns", columns, f"must be between 1 and {_MAX_COLUMNS}, inclusive")
        return
    boxes = []
    for index, tile in enumerate(layout.get("tiles", [])):
        x, y, width, height = (int(tile.get(key, 0)) for key in ("xPos", "yPos", "width", "height"))
        where = f"{path}.tiles[{index}]"
        if width < 1 or height < 1:
            yield f"Field {where} must have a minimum width and height of 1."
        if min(x, y) < 0 or x + width > columns:
            yield f"Field {where} must be contained within the {columns} columns of the grid."
        boxes.append((where, x, y, x + width, y + height))
    for (first, *a), (second, *b) in combinations(boxes, 2):
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]:
            yield f"Field {second} overlaps with {first}."


def _widget_rules(path: str, widget: Mapping[str, Any]) -> Iterator[str]:
    content = sorted(set(widget) - _NO_CONTENT)
    if len(content) != 1:
        what = "none" if not content else ", ".join(map(snake_case, content))
        yield f"Field {path} must have exactly one content, and has {what}."
    chart = widget.get("xyChart")
    if chart is None:
        return
    if not chart.get("dataSets"):
        yield _field(f"{path}.xy_chart.data_sets", chart.get("dataSets", []), "must not be empty")
    for index, threshold in enumerate(chart.get("thresholds", [])):
        for key in ("color", "direction"):
            if key in threshold:
                yield _field(f"{path}.xy_chart.thresholds[{index}].{key}", threshold[key], "is not allowed in an XyChart")


def _query_rules(path: str, query: Mapping[str, Any]) -> Iterator[str]:
    sources = sorted(set(query) - _NO_QUERY)
    if len(sources) != 1:
        what = "none" if not sources else ", ".join(map(snake_case, sources))
        yield f"Field {path} must have exactly one source, and has {what}."
    if "prometheusQuery" in query:
        yield from _promql_rules(f"{path}.prometheus_query", query["prometheusQuery"])


def _promql_rules(path: str, query: str) -> Iterator[str]:
    # The dashboard's own variables are no PromQL: intervals are known, filters of the user are not.
    text = query.replace("${__interval}", "1m")
    if "${" in text:
        return
    try:
        promql_parser.parse(text)
    except ValueError as error:
        yield _field(path, query, f"cannot be parsed as PromQL: {error}")


def _named(value: Any, name: str, path: str) -> Iterator[tuple[str, Any]]:
    """Every value of a key of this name, at any depth, with its path."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            below = f"{path}.{snake_case(key)}"
            if key == name:
                yield below, each
            yield from _named(each, name, below)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _named(each, name, f"{path}[{index}]")


def _alert_policy_rules(policy: Mapping[str, Any]) -> Iterator[str]:
    path = "alert_policy"
    if not policy.get("displayName") or len(policy["displayName"]) > 512:
        yield _field(f"{path}.display_name", policy.get("displayName", ""), "must have 1 to 512 characters")
    conditions = policy.get("conditions") or []
    if not 1 <= len(conditions) <= _MAX_CONDITIONS:
        yield f"Field {path}.conditions must have 1 to {_MAX_CONDITIONS} elements, and has {len(conditions)}."
    for index, condition in enumerate(conditions):
        yield from _condition_rules(f"{path}.conditions[{index}]", condition, alone=len(conditions) == 1)
    documentation = policy.get("documentation") or {}
    content = documentation.get("content") or ""
    characters, size = _MAX_DOCUMENTATION
    if len(content) > characters or len(content.encode()) > size:
        yield f"Field {path}.documentation.content may not exceed {characters} characters or {size} bytes."
    if documentation.get("mimeType") not in (None, "text/markdown"):
        yield _field(f"{path}.documentation.mime_type", documentation["mimeType"], 'must be "text/markdown"')
    for index, channel in enumerate(policy.get("notificationChannels") or []):
        if not _CHANNEL.fullmatch(channel):
            rule = "must be of the form projects/[PROJECT_ID]/notificationChannels/[CHANNEL_ID]"
            yield _field(f"{path}.notification_channels[{index}]", channel, rule)
    auto_close = (policy.get("alertStrategy") or {}).get("autoClose")
    if auto_close is not None and (_seconds(auto_close) or 0) < _MIN_AUTO_CLOSE:
        yield _field(f"{path}.alert_strategy.auto_close", auto_close, "must be at least 30 minutes")
    for key, value in (policy.get("userLabels") or {}).items():
        if not _LABEL.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            rule = "labels have up to 63 lowercase letters, numerals, underscores and dashes, a letter first in the key"
            yield _field(f"{path}.user_labels", {key: value}, rule)


def _condition_rules(path: str, condition: Mapping[str, Any], *, alone: bool) -> Iterator[str]:
    kinds = [key for key, each in condition.items() if key.startswith("condition") and each is not None]
    if len(kinds) != 1:
        what = "none" if not kinds else ", ".join(map(snake_case, kinds))
        yield f"Field {path} must have exactly one condition type, and has {what}."
    prometheus = condition.get("conditionPrometheusQueryLanguage")
    if prometheus is None:
        return
    path = f"{path}.condition_prometheus_query_language"
    if not alone:
        yield f"Field {path} must be the only condition of its policy."
    if not prometheus.get("query"):
        yield _field(f"{path}.query", prometheus.get("query", ""), "must not be empty")
    else:
        yield from _promql_rules(f"{path}.query", prometheus["query"])
    interval = prometheus.get("evaluationInterval")
    seconds = 30 if interval is None else _seconds(interval)
    if seconds is None or seconds <= 0 or seconds % 30:
        yield _field(f"{path}.evaluation_interval", interval, "must be a positive multiple of 30 seconds")
    seconds = _seconds(prometheus.get("duration") or "0s")
    if seconds is None or seconds < 0:
        yield _field(f"{path}.duration", prometheus["duration"], "must be zero or positive")
    rule = prometheus.get("alertRule")
    if rule and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", rule):
        yield _field(f"{path}.alert_rule", rule, "must be a valid Prometheus label name")


def _seconds(duration: str) -> float | None:
    return float(duration[:-1]) if re.fullmatch(r"-?\d+(\.\d+)?s", duration) else None
