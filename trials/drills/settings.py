"""Random settings files: each is refused with reason and fix before a resource is touched, or deploys and is unchanged at a second look.

All files are read by the settings' own check, and a few accepted ones are deployed for good, one update after the other, on one sandbox.
The unit tests run the whole program for some as well. Which values are drawn is in `settings_files`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase

from components.settings import settings, stack_files
from components.settings.problems import Problem, SettingsError
from components.settings.sections import Settings
from sandbox.cli.client import CommandFailed, Sandbox, fresh_sandbox
from trials.drills.settings_files import SettingsFile, settings_files
from trials.results import Options, Result

#: How many files a whole drill reads and deploys.
READ, DEPLOYED = 5000, 12

_SCHEMA_DEFAULTS = stack_files.values("dev", {"gcp:project": "my-project"})

_UPDATE = ("up", "--yes", "--skip-preview", "--non-interactive")

#: What a deployed file keeps, since the sandbox has nothing that it could name, or to end within the time of a drill.
_KEPT: Mapping[str, Any] = {
    "deletionProtection": False,
    "images": {},
    "imagesFrom": "",
    "maxReplicas": 0,
    "controlPlaneEndpoint": "ip",
    "secretsEncryptionKey": "",
    "inferenceGateway": False,
    "huggingFaceTokenSecret": "",
    "apiKeySecret": "",
    "systemNodesPerZone": 1,
    "serverStartupSeconds": 100,
    "rolloutTimeoutSeconds": 180,
    "terminationGracePeriodSeconds": 40,
}

#: What replaces the cluster: every fifth file has its own, the others keep the dev stack's.
_REPLACING = ("region", "zone", "clusterName", "network", "networkPolicy", "clientNamespaces")


class Wrong(AssertionError):
    """A settings file was judged wrongly; the message has the file's part that matters and what was said of it."""


def run(options: Options) -> Iterator[Result]:
    yield _widely("read by the settings' check", options, options.some(READ), judge)
    with fresh_sandbox("drill-settings", {"SANDBOX_SPEED": "1000"}) as sandbox:
        sandbox.command("up")
        yield from _deployed(sandbox, options)


# --- what a file comes to


def judge(file: SettingsFile) -> Settings | None:
    """The settings of an accepted file, None for one that is refused as it should be. Raises `Wrong`."""
    try:
        accepted = _parse(file)
    except SettingsError as error:
        _check_refusal(file, error.problems, str(error))
        return None
    except Exception as error:
        raise Wrong(f"{shown(file)}: {type(error).__name__}: {error}") from error
    if file.wrong:
        raise Wrong(f"{shown(file)}: accepted, in spite of {', '.join(file.wrong)}")
    return accepted


def _parse(file: SettingsFile) -> Settings:
    values = dict(_SCHEMA_DEFAULTS)
    for key, value in file.values.items():
        name = key if ":" in key else f"{stack_files.PROJECT_NAME}:{key}"
        if value is None:
            values.pop(name, None)
        else:
            values[name] = value if isinstance(value, str) else json.dumps(value)
    return settings.parse(values, namespace=stack_files.PROJECT_NAME, stack="dev")


def _check_refusal(file: SettingsFile, problems: tuple[Problem, ...], message: str) -> None:
    for problem in problems:
        if not (problem.field and problem.reason and problem.fix):
            raise Wrong(f"{shown(file)}: a problem without field, reason or fix: {problem}")
        if any(word in str(problem) for word in ("Traceback", "object at 0x", " None.")):
            raise Wrong(f"{shown(file)}: not for a person to read: {problem}")
    try:
        message.encode()
    except UnicodeEncodeError as error:
        raise Wrong(f"{shown(file)}: a message that cannot be printed") from error
    fields = [problem.field for problem in problems]
    for wrong in file.wrong:
        # Among several wrong things in one list one can hide another; alone each has to be named.
        wanted = wrong if len(file.wrong) == 1 else wrong.partition("[")[0]
        if not any(field == wanted or field.startswith((f"{wanted}.", f"{wanted}[")) for field in fields):
            raise Wrong(f"{shown(file)}: {wanted} is not named among {', '.join(fields)}")


def shown(file: SettingsFile) -> str:
    tops = {wrong.partition("[")[0] for wrong in file.wrong} or set(file.values)
    text = json.dumps({key: value for key, value in file.values.items() if key in tops})
    return text if len(text) < 2000 else f"{text[:2000]}..."


# --- many files


def _widely(event: str, options: Options, count: int, check: Any) -> Result:
    """Draws files until one is judged wrongly, which is then made as small as can be."""
    tried, refused = 0, 0

    @hypothesis.seed(options.seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
        report_multiple_bugs=False,
    )
    @hypothesis.given(settings_files())
    def look(file: SettingsFile) -> None:
        nonlocal tried, refused
        tried += 1
        refused += check(file) is None

    try:
        look()
    except Wrong as error:
        return Result(event=event, tried=tried, survived=tried - 1, recovery=f"seed {options.seed}, the smallest: {error}")
    return Result(
        event=event,
        tried=tried,
        survived=tried,
        recovery=f"{refused} refused with field, value, reason and fix, {tried - refused} accepted",
    )


def drawn(count: int, seed: int) -> list[SettingsFile]:
    """Files that are good in their parts and accepted as a whole."""
    files: list[SettingsFile] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=3 * count, database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate,)
    )
    @hypothesis.given(settings_files(good=True))
    def draw(file: SettingsFile) -> None:
        if judge(file) is not None:
            files.append(file)

    draw()
    # The first ones that are drawn are the simplest.
    return random.Random(seed).sample(files, min(count, len(files)))


# --- on a sandbox


def _deployed(sandbox: Sandbox, options: Options) -> Iterator[Result]:
    files = [_deployable(file, index) for index, file in enumerate(drawn(options.some(DEPLOYED), options.seed + 1))]
    renamed, failures = 0, []
    for index, file in enumerate(files):
        values: Mapping[str, Any] = file
        try:
            if _name_was_taken(sandbox, file):
                values = {**file, "clusterName": f"beside-{index}"}
                renamed += 1
                sandbox.pulumi(*_UPDATE, overrides=values)
            sandbox.pulumi("preview", "--expect-no-changes", "--non-interactive", "--diff", overrides=values)
        except CommandFailed as error:
            failures.append(f"{str(error)[-1500:]} ({json.dumps(values)})")
    said = f"; {renamed} that replaced the cluster under its own name were told to change clusterName with it, and then went through"
    yield Result(
        event="accepted files, one update after the other on one stack, each followed by a preview",
        tried=len(files),
        survived=len(files) - len(failures),
        recovery=" | ".join(failures[:3]) or f"nothing to change at the second look{said if renamed else ''}",
    )


def _name_was_taken(sandbox: Sandbox, file: Mapping[str, Any]) -> bool:
    """Updates; whether it was refused, with the fix, since the cluster is replaced by one of another name only."""
    done = sandbox.pulumi(*_UPDATE, overrides=file, check=False)
    if done.returncode == 0:
        return False
    printed = done.stdout + done.stderr
    if "change clusterName in the same update" not in printed:
        raise CommandFailed(printed)
    return True


def _deployable(file: SettingsFile, index: int) -> dict[str, Any]:
    """What of a file this machine can run: pods that start, ports without root, few nodes."""
    values = {**file.values, **_KEPT}
    for key in ("servicePort", "requireApiKey", "gpuBaseImage", "tpuBaseImage"):
        values.pop(key, None)
    values["requireApiKey"] = False
    values["replicas"] = min(values.get("replicas", 1), 2)
    if index % 5:
        pools = json.dumps(values["acceleratorPools"])
        region = values["region"]
        values["acceleratorPools"] = json.loads(pools.replace(region, "asia-northeast1"))
        for key in _REPLACING:
            values.pop(key, None)
    return values
