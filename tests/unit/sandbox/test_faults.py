"""Which requests get a faulty answer."""

from pathlib import Path

import pytest

from sandbox.__main__ import main
from sandbox.google.faults import CLOUD, KUBERNETES, FaultStore, Rule


def hits(store: FaultStore, count: int, *, api: str = CLOUD, writes: bool = True) -> list[bool]:
    return [store.draw(api, f"request {number}", writes=writes) is not None for number in range(count)]


def test_a_burst_begins_after_the_requests_before_it_and_ends(tmp_path: Path) -> None:
    store = FaultStore(tmp_path)
    store.set(Rule(api=CLOUD, answer="503", burst=2, after=3))
    assert hits(store, 8) == [False, False, False, True, True, False, False, False]


@pytest.mark.parametrize("answer", ["409", "lost"])
def test_a_conflict_and_a_lost_change_need_a_change(tmp_path: Path, answer: str) -> None:
    store = FaultStore(tmp_path)
    store.set(Rule(api=CLOUD, answer=answer, rate=1.0))
    assert hits(store, 1, writes=False) == [False]
    assert hits(store, 1, writes=True) == [True]


def test_a_new_rule_starts_over_and_a_cleared_one_no_longer_affects_running_requests(tmp_path: Path) -> None:
    asking, commands = FaultStore(tmp_path), FaultStore(tmp_path)
    commands.set(Rule(api=CLOUD, answer="503", burst=1))
    assert hits(asking, 2) == [True, False]
    commands.set(Rule(api=CLOUD, answer="503", burst=1))
    assert hits(asking, 2) == [True, False]
    commands.set(Rule(api=CLOUD, answer="503", burst=9))
    assert hits(asking, 1) == [True]
    commands.clear()
    assert hits(asking, 1) == [False]
    assert [each["request"] for each in commands.given()] == ["request 0"] * 3


def test_faults_are_set_shown_and_cleared_by_command_before_there_is_a_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SANDBOX_STATE", str(tmp_path / "state"))
    assert main(["faults", "set", "--api", "cloud", "--answer", "429", "--rate", "0.05"]) == 0
    assert main(["faults", "set", "--api", "kubernetes", "--answer", "slow", "--burst", "3", "--after", "7"]) == 0
    assert main(["faults", "show"]) == 0
    shown = capsys.readouterr().out
    assert "5% of the requests to the cloud API are answered: 429; given 0 times so far" in shown
    assert "3 requests after the next 7 to the kubernetes API are answered: slow; given 0 times so far" in shown
    assert main(["faults", "clear", "--api", "cloud"]) == 0
    assert [rule.api for rule in FaultStore(tmp_path / "state").rules()] == [KUBERNETES]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (["--rate", "5"], "above 0 and up to 1, such as 0.05"),
        (["--burst", "0"], "give 1 or more"),
        ([], "one of the arguments --rate --burst is required"),
        (["--rate", "1", "--burst", "1"], "not allowed with argument"),
    ],
)
def test_a_wrong_argument_is_refused_with_its_rule(wrong: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["faults", "set", "--api", "cloud", "--answer", "500", *wrong])
    assert ended.value.code == 2
    assert word in capsys.readouterr().err
