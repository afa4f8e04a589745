"""What the Dockerfiles promise, read from their text: quick, and needs no Docker.

Left out: style, which hadolint and shellcheck look after, and what only a build shows (test_containers.py).
"""

import re
import stat
from pathlib import Path

import pytest

from tests.images.image_fakes import DRAIN, ENTRYPOINT, HEALTH, IMAGES, MIDDLEWARE

ACCELERATORS = ("gpu", "tpu")


def instructions(accelerator: str) -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments, comments dropped and continued lines joined."""
    text = (IMAGES / f"{accelerator}.Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], " ".join(line.split()[1:])) for line in lines]


def copied(accelerator: str) -> list[str]:
    """The files of the context that the image gets."""
    copies = [arguments.split() for name, arguments in instructions(accelerator) if name == "COPY"]
    return [word for words in copies for word in words[:-1] if not word.startswith("--")]


def default_base(accelerator: str) -> str:
    (default,) = [arguments for name, arguments in instructions(accelerator) if name == "ARG" and "=" in arguments]
    return default.removeprefix("BASE_IMAGE=")


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_the_base_is_an_argument_with_a_pinned_default(accelerator: str) -> None:
    assert ("FROM", "${BASE_IMAGE}") in instructions(accelerator)
    assert re.fullmatch(r"docker\.io/vllm/vllm-(openai|tpu):v\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", default_base(accelerator))


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_nothing_is_installed_or_downloaded_by_a_build(accelerator: str) -> None:
    assert not {name for name, _ in instructions(accelerator)} & {"RUN", "ADD"}
    # A frontend of its own is an image to pull before the build starts.
    assert not re.search(r"^#\s*syntax=", (IMAGES / f"{accelerator}.Dockerfile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_files_are_copied_without_need_of_the_base(accelerator: str) -> None:
    copies = [arguments for name, arguments in instructions(accelerator) if name == "COPY"]
    assert copies
    # BuildKit ignores --link beside --chmod, and relative destinations need the base's working directory.
    assert all(arguments.split()[0] == "--link" for arguments in copies)
    assert not any("--chmod" in arguments for arguments in copies)
    assert all(arguments.split()[-1].startswith("/") for arguments in copies)


def test_the_context_holds_only_what_is_copied() -> None:
    lines = [line for line in (IMAGES / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines[1:]} == set(copied("gpu")) == set(copied("tpu"))
    assert {ENTRYPOINT.name, HEALTH.name, DRAIN.name, MIDDLEWARE.name} == set(copied("gpu"))


def test_the_images_differ_only_in_what_their_accelerator_is() -> None:
    def neutral(accelerator: str) -> list[tuple[str, str]]:
        other = {"gpu": "tpu", "tpu": "gpu"}[accelerator]
        named = {accelerator: "OWN", other: "OTHER"}

        def mask(text: str) -> str:
            text = text.replace(default_base(accelerator), "BASE").replace("an NVIDIA GPU", "a GPU")
            return re.sub(r"\b(gpu|tpu)\b", lambda match: named[match[0].lower()], text, flags=re.IGNORECASE)

        return [(name, mask(arguments)) for name, arguments in instructions(accelerator)]

    assert neutral("gpu") == neutral("tpu")


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_the_entrypoint_needs_no_shell_of_the_image_to_start(accelerator: str) -> None:
    assert ("ENTRYPOINT", f'["/usr/local/bin/{ENTRYPOINT.name}"]') in instructions(accelerator)
    assert ("ENV", f"ACCELERATOR={accelerator}") in instructions(accelerator)


@pytest.mark.parametrize("script", [ENTRYPOINT, HEALTH, DRAIN], ids=lambda script: script.name)
def test_the_scripts_run_as_they_are(script: Path) -> None:
    assert script.stat().st_mode & stat.S_IXUSR, f"{script.name} is not executable: chmod +x {script.name}"
    assert b"\r" not in script.read_bytes(), f"{script.name} has Windows line ends: a kernel looks for 'sh\\r'"
