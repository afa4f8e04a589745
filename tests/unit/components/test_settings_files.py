"""Random settings files: twenty, the same in every run; `python -m trials drills settings` draws thousands."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck
from pulumi.runtime.mocks import MockMonitor

from components.settings import settings
from components.settings.accelerator_pool import KEYS
from components.settings.problems import SettingsError
from components.settings.schema import schema_settings
from sandbox.google.machine_types import size_of
from tests.unit.program import Run, run_program_anew
from trials.drills.settings import Wrong, judge, shown
from trials.drills.settings_files import SETTINGS, WRONG_POOL_VALUES, SettingsFile, settings_files

_FILES = hypothesis.settings(max_examples=20, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


def run_recorded(file: SettingsFile) -> Run | None:
    """What the program registers for an accepted file, None for a refused one, which registers nothing. Raises `Wrong`."""
    registered: list[str] = []
    register = MockMonitor.RegisterResource

    def recorded(monitor: MockMonitor, request: Any) -> Any:
        registered.append(request.type)
        return register(monitor, request)  # type: ignore[no-untyped-call]

    accepted = judge(file)
    MockMonitor.RegisterResource = recorded  # type: ignore[method-assign]
    try:
        run = run_program_anew(file.values)
    except SettingsError as error:
        if accepted is not None:
            raise Wrong(f"{shown(file)}: accepted, and refused by the program: {error}") from error
        if touched := [each for each in registered if each != "pulumi:pulumi:Stack"]:
            raise Wrong(f"{shown(file)}: refused after {touched} were registered") from error
        return None
    except Exception as error:
        raise Wrong(f"{shown(file)}: the program ended with {type(error).__name__}: {error}") from error
    finally:
        MockMonitor.RegisterResource = register  # type: ignore[method-assign]
    if accepted is None:
        raise Wrong(f"{shown(file)}: refused by the check, and accepted by the program")
    return run


def test_every_setting_and_every_key_of_a_pool_is_drawn() -> None:
    assert {*SETTINGS, "acceleratorPools"} == {each.key for each in schema_settings()}
    assert set(WRONG_POOL_VALUES) == set(KEYS)


@_FILES
@hypothesis.given(settings_files())
def test_wrong_values_are_refused_by_their_fields_and_nothing_crashes(file: SettingsFile) -> None:
    judge(file)


@hypothesis.settings(_FILES, max_examples=10)
@hypothesis.given(settings_files())
def test_program_refuses_what_the_check_refuses_before_a_resource_and_runs_the_rest(file: SettingsFile) -> None:
    run_recorded(file)


@_FILES
@hypothesis.given(settings_files(good=True))
def test_sandbox_knows_every_machine_that_the_settings_accept(file: SettingsFile) -> None:
    accepted = judge(file)
    for machine_type in (
        (accepted.cluster.system_machine_type, *(pool.machine_type for pool in accepted.accelerators.pools)) if accepted else ()
    ):
        size_of(machine_type)


def test_file_that_is_accepted_in_spite_of_a_wrong_value_is_a_find() -> None:
    with pytest.raises(Wrong, match="accepted, in spite of model"):
        judge(SettingsFile({"model": "a/b"}, ("model",)))


def test_crash_of_the_check_is_a_find(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*arguments: object, **named: object) -> None:
        raise TypeError("unhashable type: 'list'")

    monkeypatch.setattr(settings, "parse", crash)
    with pytest.raises(Wrong, match="TypeError: unhashable"):
        judge(SettingsFile({}, ()))


def test_project_of_an_organisation_s_domain_has_a_repository_that_images_can_name() -> None:
    run = run_recorded(SettingsFile({"gcp:project": "example.com:my-project"}, ()))
    assert run is not None
    assert run.outputs["image_repository"] == "asia-northeast1-docker.pkg.dev/example.com/my-project/docker-repo"
