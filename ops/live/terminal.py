"""The same document on a terminal, for a person without a browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

_STYLES = {
    **{"serving": "green", "starting": "cyan", "pending": "yellow", "draining": "magenta", "failing": "bold red"},
    **{"short": "red", "going": "red", "growing": "cyan", "ended": "dim", "idle": "dim", "off": "dim", "empty": "dim"},
}
_TONES = {"good": "green", "bad": "red", "plain": ""}
_STRIP = 30
_MOST_EVENTS = 8
_LOOK_SECONDS = 0.5


def rendered(document: dict[str, Any]) -> RenderableType:
    """Rungs from top to bottom, then each replica's way, and the latest events."""
    if not document:
        return Text("reading the cluster", style="dim")
    ladder = Table("", "rung", "machine", "nodes", "now", "req/s", "waiting", "1st token", "USD/h", expand=False)
    for number, rung in enumerate(document["rungs"], 1):
        badges = Text("\n").join(Text(each["text"], style=_STYLES[each["kind"]]) for each in rung["badges"])
        figures = (_figure(rung["requests"], 1), _figure(rung["queued"], 0), _figure(rung["first_token"], 2, " s"), _figure(rung["usd"], 2))
        machine = f"{rung['machine']}\n{rung['provisioning']}"
        ladder.add_row(str(number), rung["name"], machine, str(len(rung["nodes"])), badges, *figures)
    ways = Table("replica", "rung", "the last minutes", "now", expand=False)
    begin = min((way["segments"][0]["since"] for way in document["ways"]), default=0.0)
    for way in document["ways"]:
        last = way["segments"][-1]
        now = f"{last['state']} for {last['until'] - last['since']:.0f} s" if way["there"] else "gone"
        ways.add_row(way["short"], way["rung"] or "-", _strip(way, max(begin, document["now"] - 600), document["now"]), now)
    pending = [Text(f"{each['short']} waits: {each['why'] or 'no node has room'}", style="yellow") for each in document["waiting"]]
    notes = [Text(note, style="red") for note in document.get("notes", [])]
    return Group(_head(document), ladder, *notes, *pending, ways, *map(_event, document["events"][-_MOST_EVENTS:]))


def _head(document: dict[str, Any]) -> Text:
    replicas, total = document["replicas"], document["total"]
    wanted = replicas["wanted"] if replicas["wanted"] is not None else "?"
    load = f"{_figure(total['requests'], 1)} requests a second, {_figure(total['queued'], 0)} waiting"
    return Text(f"{replicas['serving']} of {wanted} replicas serve, {load}, {_figure(total['usd'], 2)} USD an hour", style="bold")


def _event(event: dict[str, Any]) -> Text:
    return Text(f"{time.strftime('%H:%M:%S', time.localtime(event['at']))}  {event['text']}", style=_TONES[event["tone"]])


def _strip(way: dict[str, Any], begin: float, end: float) -> Text:
    """A cell for each part of the time, in the colour and with the first letter of its state."""
    strip = Text()
    for cell in range(_STRIP):
        at = begin + (cell + 0.5) * (end - begin) / _STRIP
        here = next((each["state"] for each in way["segments"] if each["since"] <= at < each["until"]), "")
        strip.append(here[:1] or "\N{MIDDLE DOT}", style=_STYLES.get(here, "dim"))
    return strip


def _figure(value: float | None, digits: int, unit: str = "") -> str:
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def watch(document: Callable[[], dict[str, Any]], console: Console | None = None) -> None:
    """Until SIGINT."""
    console = console or Console()
    with Live(rendered(document()), console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.update(rendered(document()), refresh=True)
            time.sleep(_LOOK_SECONDS)
