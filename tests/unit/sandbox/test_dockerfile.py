"""The Dockerfile reader and the build context, against Docker's documented rules and the project's own files."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from sandbox.images.build_context import BuildContext, BuildContextError
from sandbox.images.dockerfile import DockerfileError, Image, base_image, build, write_files

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name, text in {"a.txt": "a", "b.txt": "b", "sub/run.sh": "run"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to("a.txt")
    return tmp_path


def context(folder: Path, *lines: str) -> BuildContext:
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
    return BuildContext(folder, folder / "Dockerfile")


def image(folder: Path, *lines: str, args: Mapping[str, str] | None = None) -> Image:
    return build(context(folder, *lines), args=args or {})


# --- the project's own


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_the_projects_images_have_their_entrypoint_and_say_whose_they_are(accelerator: str) -> None:
    built = build(BuildContext(ROOT / "images", ROOT / "images" / f"{accelerator}.Dockerfile"), args={"BASE_IMAGE": "docker.io/base:1"})
    config = built.config
    assert config.base_image == config.labels["org.opencontainers.image.base.name"] == "docker.io/base:1"
    assert config.entrypoint == ("/usr/local/bin/fungibility-entrypoint",)
    assert config.env == {"ACCELERATOR": accelerator}
    assert config.labels["org.opencontainers.image.title"] == f"vllm-fungibility {accelerator.upper()}"
    assert built.files["/usr/local/lib/fungibility/fungibility_drain.py"] == ROOT / "images" / "fungibility_drain.py"
    for name in ("fungibility-entrypoint", "fungibility-health", "fungibility-drain"):
        file = built.files[f"/usr/local/bin/{name}"]
        assert file == ROOT / "images" / name
        assert file.stat().st_mode & 0o777 == 0o755


# --- what is read


def test_lines_continue_past_comments_and_blanks_to_the_end_of_the_file(folder: Path) -> None:
    built = image(folder, "FROM x", "LABEL a=1 \\", "  # a comment", "", '  b="2 3" \\')
    assert built.config.labels == {"a": "1", "b": "2 3"}


def test_an_argument_before_from_has_a_default_that_a_build_overrides(folder: Path) -> None:
    lines = ["ARG BASE=one:1", "ARG TAG=${BASE}-x", "FROM $TAG"]
    assert image(folder, *lines).config.base_image == "one:1-x"
    assert image(folder, *lines, args={"BASE": "two:2"}).config.base_image == "two:2-x"


def test_files_are_written_into_their_folder_with_their_modes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folder / "sub/run.sh").chmod(0o711)
    out = tmp_path_factory.mktemp("rootfs")
    write_files(image(folder, "FROM x", "COPY --link a.txt sub/run.sh /opt/app/"), out)
    assert (out / "opt/app/a.txt").read_text() == "a"
    assert (out / "opt/app/run.sh").stat().st_mode & 0o777 == 0o711


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["ARG A=1"], ": there is no build stage: a FROM instruction is missing"),
        (["COPY a /b/", "FROM x"], ":1: COPY: it stands before the first FROM"),
        (["FROM x", "", "FORM y"], ":3: FORM: it is not read without Docker: install Docker 23 or later"),
        (["FROM x", "RUN true"], ":2: RUN: the base image 'x' is not on this machine: put what RUN makes into a file and COPY that"),
        (["FROM x AS y", "FROM z"], ":1: FROM: more than one stage, or a stage with a name or a platform, is not read"),
        (["FROM ${NOTHING}"], ":1: FROM: NOTHING has no value: declare it above by ARG or ENV"),
        (["FROM x", "ENV a=${A:-b}"], ":2: ENV: '${A:-b}' is not read without Docker"),
        (["FROM x", "ENV a b"], ":2: ENV: 'a b' is not of the form NAME=VALUE"),
        (["FROM x", "COPY --chmod=755 a.txt /b/"], ":2: COPY: --chmod=755 is not read without Docker"),
        (["FROM x", "COPY nothing /b/"], ":2: COPY: 'nothing' is not a file in the build context"),
        (["FROM x", "COPY a.txt /usr/bin"], ":2: COPY: 'a.txt /usr/bin' does not name files and then a folder as /FOLDER/"),
        (["FROM x", "ENTRYPOINT run"], ":2: ENTRYPOINT: 'run', which is not a JSON list of words, is not read"),
    ],
)
def test_what_is_not_read_is_refused_with_its_line(folder: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DockerfileError) as raised:
        image(folder, *lines)
    assert message in str(raised.value)


def test_the_base_is_named_in_spite_of_other_instructions(folder: Path) -> None:
    lines = ("ARG B=x:1", "FROM ${B}", "RUN true", "WORKDIR /")
    assert base_image(context(folder, *lines), {}) == "x:1"
    assert base_image(context(folder, *lines), {"B": "x:2"}) == "x:2"


# --- the context


def test_only_what_is_let_in_is_in_the_context(folder: Path) -> None:
    (folder / ".dockerignore").write_text("# a list\n*\n!b.txt\n\n!sub\n")
    assert list(map(str, context(folder, "FROM x").files)) == ["b.txt", "sub/run.sh"]
    with pytest.raises(DockerfileError, match=r"'a\.txt' is not a file in the build context '.*' that its \.dockerignore lets in"):
        image(folder, "FROM x", "COPY a.txt /b/")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (".dockerignore", "a.txt", r"is not a list of what is let in: write `\*` and then a line `!NAME`"),
        (".dockerignore", "*\n!*.txt", r"is not a list of what is let in"),
        ("Dockerfile.dockerignore", "*", r"Dockerfile\.dockerignore is not read: name .*/\.dockerignore so"),
    ],
)
def test_another_list_of_what_is_kept_out_is_refused(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(BuildContextError, match=message):
        context(folder, "FROM x").digest()


def test_the_contexts_digest_follows_what_a_build_can_see_and_nothing_else(folder: Path) -> None:
    before = context(folder, "FROM x").digest()
    os.utime(folder / "a.txt", (1, 1))
    assert context(folder, "FROM x").digest() == before
    digests = [before, context(folder, "FROM y").digest()]
    (folder / "a.txt").chmod(0o600)
    digests.append(context(folder, "FROM x").digest())
    (folder / "a.txt").write_text("changed")
    digests.append(context(folder, "FROM x").digest())
    (folder / "a.txt").rename(folder / "c.txt")
    digests.append(context(folder, "FROM x").digest())
    assert len(set(digests)) == 5
