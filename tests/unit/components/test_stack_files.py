"""What a tool beside the engine reads of a stack is what the engine would hand to the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.settings import stack_files
from components.settings.problems import SettingsError
from components.settings.settings import load_stack
from components.settings.stack_files import StackFileError
from tests.unit import program


def test_values_are_those_that_the_engine_hands_over() -> None:
    assert stack_files.values("dev", {"gcp:project": "my-project"}) == program.config()


def test_a_full_name_of_a_stack_reads_the_same_file() -> None:
    assert stack_files.values("organization/tpu-gpu-fungibility/dev") == stack_files.values("dev")


def test_settings_are_checked_as_the_program_checks_them() -> None:
    with pytest.raises(SettingsError) as caught:
        load_stack("dev", {"gcp:project": "my-project", "replicas": 0})
    assert "replicas" in str(caught.value)


def test_settings_of_a_stack_come_typed() -> None:
    loaded = load_stack("dev", {"gcp:project": "my-project", "replicas": 3})
    assert loaded.scaling.replicas == 3
    assert [pool.name for pool in loaded.accelerators.pools] == ["v6e-1", "l4-spot", "l4"]


def test_an_unknown_stack_names_those_that_there_are() -> None:
    with pytest.raises(StackFileError, match=r"stack staging: there is no Pulumi\.staging\.yaml .*known: .*dev"):
        stack_files.values("staging")


@pytest.mark.parametrize(
    ("text", "said"), [("config: [1", "cannot be read as YAML"), ("- a", "no `config:`"), ("config: 3", "no `config:`")]
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    file.write_text(text)
    with pytest.raises(StackFileError, match=said) as caught:
        stack_files.values("x", file=file)
    assert str(file) in str(caught.value)


def test_encrypted_values_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    file.write_text("config:\n  tpu-gpu-fungibility:huggingFaceToken:\n    secure: v1:abc\n")
    found = stack_files.values("x", file=file)
    assert found["tpu-gpu-fungibility:huggingFaceToken"] == ""
    assert "v1:abc" not in str(found)
