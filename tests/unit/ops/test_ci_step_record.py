"""A step's record: what it printed, how it ended, and no secret."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ops.ci import __main__ as ci
from ops.ci.step_record import RecordError, StepRecord, read_folder

PYTHON = sys.executable


def run(folder: Path, code: str, **environment: str) -> int:
    return ci.main(["record", "--folder", str(folder), "preview", "--", PYTHON, "-c", code], environment)


def test_output_is_shown_and_kept_and_the_exit_status_is_the_command_s(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status = run(tmp_path / "dev", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")
    shown = capfd.readouterr()
    record = read_folder(tmp_path / "dev")["preview"]
    assert (status, record.status) == (7, 7)
    assert (record.stdout, record.stderr) == ("out\n", "err\n") == (shown.out, shown.err)


def test_a_secret_is_in_neither_the_terminal_nor_the_record(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "import os; print('it is ' + os.environ['A_TOKEN'])", A_TOKEN="correct-horse")
    assert capfd.readouterr().out == "it is [secret]\n"
    assert "correct-horse" not in (tmp_path / "preview.json").read_text()


def test_much_output_on_both_streams_does_not_block(tmp_path: Path) -> None:
    code = "import sys\nfor _ in range(5000): print('o' * 99); print('e' * 99, file=sys.stderr)"
    assert run(tmp_path, code) == 0
    record = read_folder(tmp_path)["preview"]
    assert (len(record.stdout), len(record.stderr)) == (500_000, 500_000)


def test_a_command_that_ends_by_a_signal_has_a_shell_s_exit_status(tmp_path: Path) -> None:
    assert run(tmp_path, "import os; os.kill(os.getpid(), 15)") == 143


def test_a_missing_command_is_recorded_too(tmp_path: Path) -> None:
    assert ci.main(["record", "--folder", str(tmp_path), "preview", "--", "/no/such/pulumi"], {}) == 127
    assert "/no/such/pulumi: cannot be run: No such file" in read_folder(tmp_path)["preview"].stderr


@pytest.mark.parametrize(("text", "said"), [("{", "cannot be read"), ("[]", "is not a step's record"), ('{"a": 1}', "keys")])
def test_a_broken_record_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "preview.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=said) as caught:
        StepRecord.read(path)
    assert str(path) in str(caught.value)


def test_a_step_s_name_cannot_leave_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        ci.main(["record", "--folder", str(tmp_path), "../evil", "--", "true"], {})
    assert caught.value.code == 2
    assert "is not a valid name of a step" in capsys.readouterr().err
