"""What a tool beside the engine reads of a stack's file is what the engine hands to the program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.settings import stack_files
from components.settings.settings import load_stack
from components.settings.stack_files import ENCRYPTED, PROJECT_NAME, StackFileError, configuration, values

# Written in a stack's file -> what the engine hands over. tests/sandbox/test_settings_voice.py asks the engine itself for the same.
AS_THE_ENGINE: dict[str, Any] = {
    "plain text": "plain text", "yes": "yes", "no": "no", "on": "on", "Y": "Y", "true": "true", "TRUE": "true", "False": "false",
    "": "", "~": "", "null": "", '""': "", "'5'": "5", "5": "5", "+5": "5", "010": "8", "089": "89", "0o10": "8", "0b11": "3", "0x10": "16",
    "1_000": "1000", "1.0": "1", "1.50": "1.5", "1e3": "1000", "1:30": "1:30", "22:30:00": "22:30:00", "0.5": "0.5", "v1.2": "v1.2",
    "2026-01-03": "2026-01-03 00:00:00 +0000 UTC", "2026-01-03T15:00:00Z": "2026-01-03 15:00:00 +0000 UTC",
    "2026-01-03 15:00:00": "2026-01-03 15:00:00 +0000 UTC", "2026-01-03T15:00:00+02:00": "2026-01-03 15:00:00 +0200 +0200",
    "2026-01-03T15:00:00.5Z": "2026-01-03 15:00:00.5 +0000 UTC", "2026-13-45": "2026-13-45",
    "[yes, 010, 2026-01-03, null, 1.0]": ["yes", 8, "2026-01-03 00:00:00 +0000 UTC", None, 1],
    "{a: no, 2: 3, true: 1_0}": {"a": "no", "2": 3, "true": 10}, "[]": [], "{}": {}, "<a & b>": "<a & b>",
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "Pulumi.x.yaml"


@pytest.mark.parametrize("written", AS_THE_ENGINE)
def test_scalars_and_structures_are_the_engine_s(written: str, file: Path) -> None:
    file.write_text(f"config:\n  key: {written}\n")
    expected = AS_THE_ENGINE[written]
    text = values("x", file=file, project_dir=file.parent)[f"{PROJECT_NAME}:key"]
    assert (text if isinstance(expected, str) else json.loads(text)) == expected


@pytest.mark.parametrize("text", ["config:\r\n  key: |\r\n    a\r\n    b\r\n", "\ufeffconfig:\n  key: |\n    a\n    b\n"])
def test_line_ends_and_marks_of_windows_make_no_difference(text: str, file: Path) -> None:
    file.write_bytes(text.encode())
    assert values("x", file=file, project_dir=file.parent) == {f"{PROJECT_NAME}:key": "a\nb\n"}


def test_keys_with_and_without_a_namespace_are_the_same_and_overrides_come_last(file: Path) -> None:
    file.write_text("config:\n  a: 1\n  tpu-gpu-fungibility:b: 2\n  tpu-gpu-fungibility:config:c: 3\n  gcp:project: p\n")
    expected = {f"{PROJECT_NAME}:a": "1", f"{PROJECT_NAME}:b": "2", f"{PROJECT_NAME}:c": "3", "gcp:project": "p"}
    assert values("x", file=file, project_dir=file.parent) == expected
    assert values("x", {"a": None, "b": [5], "gcp:project": "q"}, file=file, project_dir=file.parent) == {
        f"{PROJECT_NAME}:b": "[5]",
        f"{PROJECT_NAME}:c": "3",
        "gcp:project": "q",
    }


def test_values_of_the_project_come_before_the_stack_s(file: Path) -> None:
    (file.parent / "Pulumi.yaml").write_text(
        "config:\n  a: 1\n  b: {default: [x]}\n  c: {default: {}}\n  gcp:project: {value: p}\n  d: {type: string}\n"
    )
    file.write_text("config:\n  a: 2\n")
    expected = {f"{PROJECT_NAME}:a": "2", f"{PROJECT_NAME}:b": '["x"]', f"{PROJECT_NAME}:c": "{}", "gcp:project": "p"}
    assert values("x", file=file, project_dir=file.parent) == expected


@pytest.mark.parametrize("written", ["{secure: v1:abc}", "[a, {secure: v1:abc}]", "[{a: {b: {secure: v1:abc}}}]"])
def test_what_is_encrypted_even_in_part_is_marked_and_never_shown(written: str, file: Path) -> None:
    file.write_text(f"config:\n  key: {written}\n")
    assert values("x", file=file, project_dir=file.parent) == {f"{PROJECT_NAME}:key": ENCRYPTED}


def test_a_mapping_that_has_a_key_secure_is_not_encrypted_for_that(file: Path) -> None:
    file.write_text("config:\n  key: {secure: 5}\n")
    assert values("x", file=file, project_dir=file.parent) == {f"{PROJECT_NAME}:key": '{"secure": 5}'}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("config: [1", "cannot be read as YAML"),
        ("- a", "no `config:`"),
        ("config: 3", "no `config:`"),
        ("config:\n  model: a/b\n  model: c/d\n", "model is given twice"),
        ("config:\n  labels: {a: b, a: c}\n", "a is given twice"),
        ("config:\n  model: a/b\n  tpu-gpu-fungibility:model: c/d\n", "tpu-gpu-fungibility:model is given twice"),
        ("environment: [team]\nconfig:\n  model: a/b\n", "takes values from environments"),
        ("config:\n  model: !python/object:os.system x\n", "cannot be read as YAML"),
    ],
)
def test_a_broken_file_is_named(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(StackFileError, match=said) as caught:
        configuration(file)
    assert str(file) in str(caught.value)


def test_stacks_are_found_by_their_short_and_full_names() -> None:
    assert values("organization/tpu-gpu-fungibility/dev") == values("dev")
    assert load_stack("dev", {"gcp:project": "my-project", "replicas": 3}).scaling.replicas == 3
    with pytest.raises(StackFileError, match=r"stack staging: there is no Pulumi\.staging\.yaml .*known: .*dev"):
        stack_files.values("staging")
