"""The commands' screens, each of which says that it is a sandbox."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ops.smoke.service import Answer
from sandbox.servers import model_server

#: Width when stdout is not a terminal; node names fit into it.
_PIPE_WIDTH = 132

console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)

_NOTICES = {
    model_server.STAND_IN: ("This is a sandbox: real engine, API server, scheduler and controllers; simulated hardware, cloud and model."),
    model_server.VLLM: (
        "This is a sandbox: real engine, API server, scheduler, controllers and vLLM (on this machine's CPU, with a tiny "
        "model of random weights, whose answers are noise); simulated hardware and cloud."
    ),
}


#: They work in a fresh shell, which does not know the virtual environment.
_NEXT = (
    "make live                                     the ladder as a live page, with buttons that make trouble",
    ".venv/bin/python -m sandbox scale 3           three replicas, each on the best pool that has room",
    '.venv/bin/python -m sandbox chat "Why is the sky blue?"',
    'eval "$(.venv/bin/python -m sandbox env)"     then kubectl get pods -o wide, pulumi preview, ...',
    "make down                                     ends everything",
)


@contextmanager
def progress(console: Console = console) -> Iterator[Callable[[str, float | None], None]]:
    """Shows the progress: a bar on a terminal, elsewhere one line for each new piece of work."""
    if not console.is_terminal:
        last = ""

        def say(text: str, fraction: float | None) -> None:
            nonlocal last
            if text != last:
                console.print(f"  {text}")
                last = text

        yield say
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(text: str, fraction: float | None) -> None:
            if bar.tasks[0].description != text:
                bar.reset(task, description=text)
            bar.update(task, total=None if fraction is None else 1.0, completed=fraction or 0.0)

        yield show


def notice(server: str) -> str:
    """What is real and what is not, with `server` of `model_server.NAMES`."""
    return _NOTICES[server]


def cluster_table(document: dict[str, Any], pool_order: list[str]) -> Table:
    """Nodes by pool, best first, with the pods that run on each."""
    table = Table(title_justify="left", expand=False)
    for column in ("pool", "node", "machine", "ready", "pods"):
        table.add_column(column, overflow="fold")
    rank = {name: index for index, name in enumerate(pool_order)}
    for node in sorted(document["nodes"], key=lambda each: (rank.get(each["pool"], len(rank)), each["name"])):
        pods = [
            f"{pod['name']} {sum(each['ready'] for each in pod['containers'])}/{len(pod['containers'])}"
            for pod in document["pods"]
            if pod["node"] == node["name"]
        ]
        table.add_row(node["pool"], node["name"], node["machine_type"], "yes" if node["ready"] else "no", "\n".join(pods) or "-")
    for pod in document["pods"]:
        if pod["node"] is None:
            table.add_row("-", "(pending)", "-", "-", pod["name"])
    return table


def stock_line(document: dict[str, Any]) -> str:
    """The pools that are out of stock, in one line; empty if there are none."""
    words = {"out": "out of stock", "hold": "requests are held"}
    return ", ".join(f"{pool}: {words[supply]}" for pool, supply in document["out_of_stock"].items())


def traffic_table(report: dict[str, Any]) -> Table:
    """The results of `python -m sandbox traffic`."""
    table = Table("sent", "answered", "failed", "cut", "longest gap", "p50", "p99", "problems", "answers by pod")
    table.add_row(
        *(str(report[key]) for key in ("sent", "answered", "failed", "cut")),
        *(f"{report[key]:.2f} s" for key in ("longest_gap_seconds", "seconds_p50", "seconds_p99")),
        "\n".join(f"{name}: {count}" for name, count in report["problems"].items()) or "-",
        "\n".join(f"{name}: {count}" for name, count in report["pods"].items()) or "-",
    )
    return table


def summary(document: dict[str, Any], pool_order: list[str], answer: Answer | None, server: str) -> None:
    """The summary at the end of `up`."""
    console.print()
    console.print(cluster_table(document, pool_order))
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")
    lines.add_row("Service", str(document["service_url"]))
    if short := stock_line(document):
        lines.add_row("Stock", short)
    for label, how in _images(document):
        lines.add_row(label, how)
    if answer is not None:
        # Only the stand-in reports where it runs.
        place = f"pod {answer.pod} on {answer.node} (pool {answer.pool}) " if answer.pod else ""
        lines.add_row("Answered", f"{place}in {answer.seconds:.2f} s")
        lines.add_row("", Text(answer.text, style="italic"))
    for label, command in zip_longest(["Try"], _NEXT, fillvalue=""):
        lines.add_row(label, command)
    lines.add_row("Note", notice(server))
    console.print(Panel(lines, title="tpu-gpu-fungibility sandbox", expand=False))


def _images(document: dict[str, Any]) -> list[tuple[str, str]]:
    """One row for each way in which images were built; none if the stack only runs prebuilt ones."""
    names: dict[str, list[str]] = {}
    for name, note in document["images"].items():
        names.setdefault(note["how"], []).append(name.rpartition("/")[2])
    rows = [(f"{', '.join(sorted(each))}: {how}") for how, each in names.items()]
    return [("" if index else "Images", row) for index, row in enumerate(sorted(rows))]
