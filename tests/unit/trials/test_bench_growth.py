"""Growth's arithmetic: what is linear, what is not, and the pools, stack files and project that it is measured with."""

from __future__ import annotations

import pytest

from components.settings import accelerator_pool, stack_files
from components.settings.accelerator_pool import parse_pools
from sandbox.host.paths import PROJECT_DIR
from trials.bench.growth import LINEAR_GOAL, POOLS, Samples, copy_of_project, gpu_pool, write_stack_files


def _samples(seconds: dict[int, list[float]]) -> Samples:
    samples = Samples()
    for size, each in seconds.items():
        for one in each:
            samples.add(size, one)
    return samples


def test_linear_growth_is_1_from_any_start() -> None:
    assert _samples({size: [4.0 + 0.03 * size] for size in POOLS}).one_more() == pytest.approx(1.0)


def test_quadratic_growth_misses_the_goal_by_far() -> None:
    found = _samples({size: [4.0 + 0.001 * size**2] for size in POOLS}).one_more()
    assert found == pytest.approx(400 / 103)
    assert found is not None
    assert found > 1.5 * LINEAR_GOAL


def test_what_else_the_machine_did_during_some_samples_does_not_count_as_growth() -> None:
    assert _samples({3: [4.0, 4.0], 100: [7.0, 7.5], 300: [13.0, 30.0]}).one_more() == pytest.approx(0.97)


def test_growth_that_is_within_the_noise_gives_no_figure() -> None:
    assert _samples({3: [4.0, 6.0], 10: [4.2, 4.4], 100: [5.5, 7.0], 300: [9.0, 9.0]}).one_more() is None


def test_pools_of_the_bench_are_good_settings_beyond_the_limit_that_it_lifts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator_pool, "MAX_POOLS", 300)
    values = [gpu_pool(index, 1) for index in range(300)]
    pools, problems = parse_pools(values, region="asia-northeast1", zone="asia-northeast1-b")
    assert problems == []
    assert len({pool.name for pool in pools}) == 300
    assert {pool.min_node_count for pool in pools} == {0}


def test_project_of_the_bench_has_this_program_and_none_of_its_stack_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = copy_of_project(tmp_path_factory.mktemp("bench") / "project")
    assert (folder / "__main__.py").resolve() == PROJECT_DIR / "__main__.py"
    assert (folder / "Pulumi.yaml").read_text() == (PROJECT_DIR / "Pulumi.yaml").read_text()
    assert stack_files.known_stacks(folder) == []
    write_stack_files(folder, 3)
    assert stack_files.known_stacks(folder) == ["env-000", "env-001", "env-002"]
    # Nothing of it is written into the real project.
    assert not list(PROJECT_DIR.glob("Pulumi.env-*"))
