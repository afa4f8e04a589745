"""What the bench of previews makes of an engine's log and of Python's report on its imports."""

from __future__ import annotations

import json

import pytest

from trials.bench.preview import describe, describe_imports, parts

LOG = [
    (0.0, "Root(...): start"),
    (1.0, "langhost[python].GetRequiredPlugins(root=/p) executing"),
    (3.0, "langhost[python].Run(pwd=/p) executing"),
    (3.5, "ResourceMonitor.SupportsFeature(id: secrets) = true"),
    (3.6, "ResourceMonitor.SupportsFeature(id: transforms) = true"),
    (7.5, "Waiting for outstanding RPCs to complete"),
    (7.6, "Provider[0x1].Check(urn:a) executing (#olds=1)"),
    (7.7, "Provider[0x2].Diff(urn:b,id): executing (#oldInputs=4)"),
    (7.9, "Provider[0x1].Check(urn:a) success: inputs=#1"),
    (8.0, "Provider[0x2].Diff(urn:b,id) success: changes=1"),
    (9.5, "run_pulumi_func completed"),
    (10.0, "langhost[python].Run(pwd=/p) success: progerr=, bail=false"),
    (99.0, "goodbye"),
]


def lines(entries: list[tuple[float, str]]) -> list[str]:
    return ["something that is no entry", *(json.dumps({"time": stamp(at), "msg": message}) for at, message in entries)]


def stamp(seconds: float) -> str:
    """The engine drops the last zeros of a second's fraction, and at a whole second all of it."""
    whole, _, fraction = f"{seconds:g}".partition(".")
    return f"2026-01-02T03:00:{whole:0>2}{'.' * bool(fraction)}{fraction}Z"


def test_a_preview_is_taken_apart_at_what_the_engine_says() -> None:
    found = parts(lines(LOG))
    assert list(found.values()) == pytest.approx([1.0, 2.0, 0.5, 4.0, 2.0, 0.5, 0.6])
    assert list(found)[-1] == "providers' answers"


def test_parts_are_said_as_shares_of_the_whole_beside_an_empty_programs() -> None:
    told = describe("dev", parts(lines(LOG)), parts(lines(LOG)))
    assert told[4].split(maxsplit=2)[:2] == ["40%", "(40%)"]
    assert told[-1].split(maxsplit=2)[:2] == ["6%", "(6%)"]


def test_an_engine_that_says_other_words_is_no_preview_of_no_time() -> None:
    with pytest.raises(ValueError, match="says nothing of 'the program: imports"):
        parts(lines(LOG[:3]))


def test_imports_are_told_by_package() -> None:
    output = [
        "    pulumi:pulumi:Stack s  import time:       100 |        100 | pulumi_gcp.container",
        "import time:        50 |        900 |   pulumi_gcp.container.outputs",
        "import time:        40 |         40 |   components.settings",
        "import time:        10 |         10 | json",
        "import time: self [us] | cumulative | imported package",
    ]
    assert describe_imports("dev", output) == [
        "Of what Python loads for dev: pulumi_gcp 75%, this program 20%, Python and what these need 5%."
    ]
    assert describe_imports("dev", []) == []
