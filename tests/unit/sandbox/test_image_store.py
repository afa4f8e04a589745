"""The sandbox's image store: digests say what is in an image, tags move, and nothing half-made is ever found."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.images.image_store import ImageConfig, ImageStore, StoredImage, content_digest, split_reference

REPOSITORY = "asia-northeast1-docker.pkg.dev/p/docker-repo/vllm"


def config(**more: Any) -> ImageConfig:
    return ImageConfig(base_image="docker.io/vllm/vllm-openai:v1", platform="linux/amd64", entrypoint=("/bin/entry",), **more)


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    folder = tmp_path / "rootfs"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "entry").write_text("#!/bin/sh\n")
    (folder / "bin" / "entry").chmod(0o755)
    (folder / "link").symlink_to("bin/entry")
    return folder


def add(store: ImageStore, rootfs: Path, tag: str | None = "GPU", **more: Any) -> StoredImage:
    return store.add(repository=REPOSITORY, tag=tag, config=config(**more), rootfs=rootfs)


def test_an_image_is_found_by_tag_and_by_digest_with_all_that_was_stored(store: ImageStore, rootfs: Path) -> None:
    stored = add(store, rootfs, env={"ACCELERATOR": "gpu"}, cmd=("--help",), workdir="/work")
    shutil.rmtree(rootfs)
    for reference in (f"{REPOSITORY}:GPU", f"{REPOSITORY}@{stored.digest}", f"{REPOSITORY}:TPU@{stored.digest}"):
        assert store.resolve(reference) == stored
    entry = stored.rootfs / "bin" / "entry"
    assert entry.read_text() == "#!/bin/sh\n"
    assert entry.stat().st_mode & 0o777 == 0o755
    assert (stored.rootfs / "link").readlink() == Path("bin/entry")


def test_a_tag_moves_and_the_digest_stays(store: ImageStore, rootfs: Path) -> None:
    first = add(store, rootfs)
    (rootfs / "bin" / "entry").write_text("#!/bin/bash\n")
    second = add(store, rootfs)
    assert first.digest != second.digest
    assert store.resolve(f"{REPOSITORY}:GPU") == second
    assert store.resolve(f"{REPOSITORY}@{first.digest}") == first


def test_equal_content_has_an_equal_digest_wherever_it_lies_and_whenever_it_was_written(tmp_path: Path, rootfs: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(rootfs, other, symlinks=True, copy_function=shutil.copy)
    assert content_digest(config(), rootfs) == content_digest(config(), other)


def _relink(rootfs: Path) -> None:
    (rootfs / "link").unlink()
    (rootfs / "link").symlink_to("bin/other")


@pytest.mark.parametrize(
    "change",
    [
        lambda rootfs: (rootfs / "bin" / "entry").write_text("#!/bin/sh\n\n"),
        lambda rootfs: (rootfs / "bin" / "entry").chmod(0o700),
        lambda rootfs: (rootfs / "bin" / "entry").rename(rootfs / "bin" / "other"),
        _relink,
    ],
    ids=["content", "mode", "name", "link"],
)
def test_any_change_of_content_changes_the_digest(rootfs: Path, change: Callable[[Path], object]) -> None:
    before = content_digest(config(), rootfs)
    assert content_digest(config(labels={"a": "b"}), rootfs) != before
    change(rootfs)
    assert content_digest(config(), rootfs) != before


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path: Path, store: ImageStore) -> None:
    with pytest.raises(OSError, match="nowhere"):
        add(store, tmp_path / "nowhere")
    assert store.resolve(f"{REPOSITORY}:GPU") is None
    assert list((tmp_path / "store" / "by-digest").iterdir()) == []


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("r", ("r", None, None)),
        ("localhost:5000/a/b", ("localhost:5000/a/b", None, None)),
        ("localhost:5000/a/b:t", ("localhost:5000/a/b", "t", None)),
        (f"h/a@sha256:{'a' * 64}", ("h/a", None, f"sha256:{'a' * 64}")),
        (f"h/a:t@sha256:{'a' * 64}", ("h/a", "t", f"sha256:{'a' * 64}")),
    ],
)
def test_references_are_taken_apart(reference: str, parts: tuple[str, str | None, str | None]) -> None:
    assert split_reference(reference) == parts


def test_a_malformed_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="64 hexadecimal"):
        split_reference("r@sha256:abc")
