"""Where a container finds its programs, and where it starts."""

import os
from pathlib import Path

import pytest

from sandbox.node_agent.images import in_image, search_path, working_directory


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    program = tmp_path / "rootfs" / "usr" / "local" / "bin" / "entrypoint"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    return tmp_path / "rootfs"


def test_an_absolute_program_is_the_images_own_if_it_has_one(rootfs: Path) -> None:
    own = str(rootfs / "usr/local/bin/entrypoint")
    assert in_image(rootfs, ["/usr/local/bin/entrypoint", "/usr/local/bin/entrypoint"]) == [own, "/usr/local/bin/entrypoint"]
    assert in_image(rootfs, ["/bin/sh", "-c", "true"]) == ["/bin/sh", "-c", "true"]
    assert in_image(rootfs, ["entrypoint"]) == ["entrypoint"]


def test_the_images_programs_come_first_then_the_sandboxs_python_then_the_machines(rootfs: Path) -> None:
    folders = search_path(rootfs, [Path("/venv/bin")], "/opt/tool/bin:/usr/local/bin").split(os.pathsep)
    order = [str(rootfs / "usr/local/bin"), "/venv/bin", "/opt/tool/bin", "/usr/local/bin", "/bin"]
    assert [each for each in folders if each in order] == order
    assert str(rootfs / "opt/tool/bin") not in folders


def test_a_container_starts_in_the_images_folder_or_in_its_own(rootfs: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    assert working_directory(rootfs, "/usr/local", own) == rootfs / "usr/local"
    assert working_directory(rootfs, "/", own) == own
    assert working_directory(rootfs, "/vllm-workspace", own) == own
