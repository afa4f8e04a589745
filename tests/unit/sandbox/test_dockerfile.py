"""The Dockerfile interpreter and the build context, against Docker's documented rules and the project's own files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sandbox.images.build_context import BuildContext, BuildContextError
from sandbox.images.dockerfile import DockerfileError, Image, base_images, build, expand, parse, write_files

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app" / "sub").mkdir(parents=True)
    for name, text in {"a.txt": "a", "b.txt": "b", "app/run.sh": "run", "app/sub/deep.txt": "deep"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644)
    return tmp_path


def context(folder: Path, *lines: str) -> BuildContext:
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
    return BuildContext(folder, folder / "Dockerfile")


def image(folder: Path, *lines: str, **options: Any) -> Image:
    return build(context(folder, *lines), args=options.pop("args", {}), **options)


def placed(folder: Path, *lines: str) -> dict[str, str]:
    return {path: file.content.decode() for path, file in image(folder, "FROM x", *lines).files.items()}


# --- the project's own


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_the_projects_images_have_their_entrypoint_and_say_whose_they_are(accelerator: str) -> None:
    built = build(
        BuildContext(ROOT / "images", ROOT / "images" / f"{accelerator}.Dockerfile"),
        args={"BASE_IMAGE": "docker.io/base:1"},
    )
    assert built.base == built.labels["org.opencontainers.image.base.name"] == "docker.io/base:1"
    assert built.entrypoint == ("/usr/local/bin/fungibility-entrypoint",)
    assert built.env["ACCELERATOR"] == accelerator
    for name in ("fungibility-entrypoint", "fungibility-health", "fungibility-drain"):
        file = built.files[f"/usr/local/bin/{name}"]
        assert file.content == (ROOT / "images" / name).read_bytes()
        assert file.mode == 0o755


# --- syntax


def test_lines_go_on_past_comments_and_blanks() -> None:
    (instruction,) = parse("# syntax=x\nLABEL a=1 \\\n  # a comment\n\n  b=2\n# end\n")
    assert (instruction.line, instruction.rest.split()) == (2, ["a=1", "b=2"])


def test_another_escape_character_continues_lines() -> None:
    (instruction,) = parse("# escape=`\nENV a=1 `\n b=2")
    assert instruction.rest.split() == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A", "1"),
        ("${A}b", "1b"),
        ("$NONE.", "."),
        ("${NONE:-d$A}", "d1"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${A:+x}", "x"),
        ("${NONE:+x}", ""),
        (r"\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A b"', "1 b"),
        (r'"a\b"', r"a\b"),
    ],
)
def test_words_are_expanded_as_dockers(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "EMPTY": ""}) == expanded


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["FORM x"], ":1: unknown instruction: FORM (did you mean FROM?)"),
        (["COPY a b"], ":1: no build stage in current context"),
        (["FROM x", "RUN apt-get update"], ":2: RUN cannot run here: base image 'x' is not on this machine"),
        (["FROM x", "ADD https://example.com/f /f"], ":2: ADD https://example.com/f: nothing is downloaded here"),
        (["FROM x", "ADD f.tar.gz /f/"], ":2: ADD f.tar.gz: archives are not unpacked here"),
        (["FROM x", "COPY --from=nginx /a /b"], ":2: COPY --from=nginx: no earlier stage has this name"),
        (["FROM x", "COPY nothing /b"], ':2: "/nothing": not found: it is not there'),
        (["FROM x", "COPY a.txt b.txt /dir"], ":2: When using COPY with more than one source file"),
        (["FROM x", "COPY --chmod=u+x a.txt /b"], ":2: --chmod=u+x is not an octal mode"),
        (["FROM x", "COPY --parents a.txt /b"], ":2: COPY --parents is not supported here"),
        (["FROM x", "COPY <<EOF /b", "text", "EOF"], ":2: COPY with a here-document is not supported here"),
        (["FROM x", "EXPOSE http"], ":2: invalid containerPort: http"),
        (["FROM x", "SHELL sh"], ":2: SHELL requires the arguments to be in JSON form"),
        (["FROM x", 'ENV a="b'], ":2: "),
        (["FROM ${NOTHING}"], ":1: base name (${NOTHING}) should not be blank"),
        (["# only a comment"], ": no build stage: a FROM instruction is missing"),
        (["FROM x", "HEALTHCHECK curl x"], ":2: Unknown type 'curl' in HEALTHCHECK"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_line(folder: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DockerfileError) as raised:
        image(folder, *lines)
    assert message in str(raised.value)


def test_a_missing_dockerfile_is_named(folder: Path) -> None:
    with pytest.raises(DockerfileError, match=r"cannot read .*/none\.Dockerfile"):
        build(BuildContext(folder, folder / "none.Dockerfile"), args={})


# --- arguments, environment, stages


def test_an_argument_before_from_has_a_default_that_a_build_overrides(folder: Path) -> None:
    lines = ["ARG BASE=one:1", "ARG TAG=${BASE}-x", "FROM ${TAG}"]
    assert image(folder, *lines).base == "one:1-x"
    assert image(folder, *lines, args={"BASE": "two:2"}).base == "two:2-x"


def test_a_stage_sees_an_outer_argument_only_once_it_declares_it(folder: Path) -> None:
    lines = ["ARG V=outer", "FROM x", "ENV before=[$V]", "ARG V", "ENV after=[$V]"]
    assert image(folder, *lines).env == {"before": "[]", "after": "[outer]"}


def test_an_undeclared_build_argument_has_no_effect(folder: Path) -> None:
    assert image(folder, "FROM x", "ENV a=[$V]", args={"V": "1"}).env == {"a": "[]"}


def test_the_environment_wins_over_an_argument_and_extends_the_path(folder: Path) -> None:
    built = image(folder, "FROM x", "ARG A=arg", "ENV A=env", "ENV B=$A PATH=/opt/x:$PATH", "ENV OLD form $A")
    assert built.env["B"] == "env"
    assert built.env["PATH"] == "/opt/x:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert built.env["OLD"] == "form env"


def test_the_platform_is_an_argument(folder: Path) -> None:
    built = image(folder, "FROM x", "ARG TARGETARCH", "LABEL arch=$TARGETARCH", platform="linux/arm64/v8")
    assert (built.labels, built.platform) == ({"arch": "arm64"}, "linux/arm64/v8")


def test_a_stage_builds_on_another_and_takes_its_files(folder: Path) -> None:
    lines = [
        "FROM base AS tools",
        "ENV T=1",
        "COPY a.txt /opt/a.txt",
        "FROM tools AS middle",
        "FROM scratch",
        "COPY --from=tools --chmod=0700 /opt/a.txt /b.txt",
        "COPY --from=0 /opt /copied/",
    ]
    built = image(folder, *lines)
    assert {path: oct(file.mode) for path, file in built.files.items()} == {
        "/b.txt": "0o700",
        "/copied/a.txt": "0o644",
    }
    middle = image(folder, *lines, target="middle")
    assert (middle.base, middle.env, list(middle.files)) == ("base", {"T": "1"}, ["/opt/a.txt"])


def test_an_unknown_target_is_named(folder: Path) -> None:
    with pytest.raises(DockerfileError, match="target stage 'none' could not be found"):
        image(folder, "FROM x AS y", target="none")


# --- configuration


def test_commands_have_two_forms_and_an_entrypoint_forgets_the_command(folder: Path) -> None:
    shell = image(folder, "FROM x", "CMD forgotten", "ENTRYPOINT echo $A", 'SHELL ["/bin/bash", "-c"]', "CMD b")
    assert shell.entrypoint == ("/bin/sh", "-c", "echo $A")
    assert shell.cmd == ("/bin/bash", "-c", "b")
    assert image(folder, "FROM x", "CMD forgotten", 'ENTRYPOINT ["e", "$A"]').cmd == ()


def test_everything_else_that_an_image_says_is_read(folder: Path) -> None:
    built = image(
        folder,
        "FROM x",
        "WORKDIR /srv",
        "WORKDIR app",
        "USER 1000:1000",
        "EXPOSE 80 53/udp",
        "STOPSIGNAL SIGINT",
        'VOLUME ["/data"]',
        'HEALTHCHECK --interval=5s CMD ["curl", "x"]',
        "MAINTAINER me",
        "ONBUILD RUN x",
    )
    assert (built.workdir, built.user, built.exposed) == ("/srv/app", "1000:1000", ("80/tcp", "53/udp"))
    assert (built.stop_signal, built.volumes) == ("SIGINT", ("/data",))
    assert built.healthcheck == ("--interval=5s", "CMD", "curl", "x")
    assert (built.labels, built.on_build) == ({"maintainer": "me"}, ("RUN x",))
    assert image(folder, "FROM x", "HEALTHCHECK NONE").healthcheck == ("NONE",)


# --- files


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("COPY a.txt /x.txt", {"/x.txt": "a"}),
        ("COPY a.txt /dir/", {"/dir/a.txt": "a"}),
        ("COPY a.txt /usr/local/bin", {"/usr/local/bin/a.txt": "a"}),
        ("COPY --link a.txt /usr/local/bin", {"/usr/local/bin": "a"}),
        ("COPY a.txt relative/", {"/relative/a.txt": "a"}),
        ("COPY *.txt /dir/", {"/dir/a.txt": "a", "/dir/b.txt": "b"}),
        ("COPY [ab].txt a.txt /dir/", {"/dir/a.txt": "a", "/dir/b.txt": "b"}),
        ('COPY ["a.txt", "/with space"]', {"/with space": "a"}),
        ("COPY app /dir", {"/dir/run.sh": "run", "/dir/sub/deep.txt": "deep"}),
        ("COPY /app/sub/../run.sh ../../escape /", None),
        ("ADD --chown=1:1 a.txt /x", {"/x": "a"}),
    ],
)
def test_files_land_where_docker_puts_them(folder: Path, line: str, files: dict[str, str] | None) -> None:
    if files is None:
        with pytest.raises(DockerfileError, match='"/escape": not found'):
            placed(folder, line)
    else:
        assert placed(folder, line) == files


def test_a_second_copy_goes_into_a_folder_that_the_first_made(folder: Path) -> None:
    assert set(placed(folder, "COPY app /dir", "COPY a.txt /dir")) == {"/dir/run.sh", "/dir/sub/deep.txt", "/dir/a.txt"}


def test_files_are_written_with_their_modes_and_links(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folder / "app" / "link").symlink_to("run.sh")
    out = tmp_path_factory.mktemp("rootfs")
    write_files(image(folder, "FROM x", "COPY --chmod=0711 app /opt/app"), out)
    assert os.readlink(out / "opt/app/link") == "run.sh"
    assert (out / "opt/app/run.sh").stat().st_mode & 0o777 == 0o711


# --- the context


@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        ("", {"a.txt", "b.txt", "app/run.sh", "app/sub/deep.txt"}),
        ("*.txt", {"app/run.sh", "app/sub/deep.txt"}),
        ("**/*.txt", {"app/run.sh"}),
        ("app", {"a.txt", "b.txt"}),
        ("/app/sub/", {"a.txt", "b.txt", "app/run.sh"}),
        ("*\n!b.txt", {"b.txt"}),
        ("*\n!app/sub\n# comment\n\n", {"app/sub/deep.txt"}),
        ("app/**\n!**/run.sh\n?.txt", {"app/run.sh"}),
        ("!a.txt\na.txt", {"b.txt", "app/run.sh", "app/sub/deep.txt"}),
    ],
)
def test_what_is_ignored_is_not_in_the_context(folder: Path, ignore: str, kept: set[str]) -> None:
    (folder / ".dockerignore").write_text(ignore)
    found = set(map(str, context(folder, "FROM x").files)) - {".dockerignore", "Dockerfile"}
    assert found == kept


def test_a_dockerfiles_own_ignore_file_comes_first(folder: Path) -> None:
    (folder / ".dockerignore").write_text("a.txt")
    (folder / "Dockerfile.dockerignore").write_text("b.txt")
    found = set(map(str, context(folder, "FROM x").files))
    assert "a.txt" in found
    assert "b.txt" not in found


def test_copying_an_ignored_file_says_that_it_is_ignored(folder: Path) -> None:
    (folder / ".dockerignore").write_text("a.txt")
    with pytest.raises(DockerfileError, match=r"it is kept out by \.dockerignore"):
        image(folder, "FROM x", "COPY a.txt /")


def test_the_contexts_digest_follows_what_a_build_can_see_and_nothing_else(folder: Path) -> None:
    (folder / ".dockerignore").write_text("app")
    before = context(folder, "FROM x").digest()
    (folder / "app" / "run.sh").write_text("changed, but ignored")
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


def test_a_context_that_is_no_folder_is_named(folder: Path) -> None:
    with pytest.raises(BuildContextError, match=r"nowhere' is not a folder"):
        BuildContext(folder / "nowhere", folder / "Dockerfile").digest()


def test_bases_of_every_stage_up_to_the_target_are_named_with_arguments_replaced(folder: Path) -> None:
    lines = ("ARG B=x:1", "FROM y:1 AS first", "FROM first AS second", "FROM ${B} AS third", "FROM z:1 AS last")
    assert base_images(context(folder, *lines), args={}) == {"x:1", "y:1", "z:1"}
    assert base_images(context(folder, *lines), args={"B": "x:2"}, target="third") == {"x:2", "y:1"}
