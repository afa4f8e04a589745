"""A real `pulumi preview` of wrong settings says what a tool beside the engine says of the same file: all at once, in the same words.

Only engine and language host run, since the settings are refused before the first resource.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.settings.problems import SettingsError
from components.settings.settings import load_stack
from components.settings.stack_files import PROJECT_NAME
from sandbox.host.paths import Paths
from sandbox.toolchain.tools import TOOLS, Toolbox
from tests.sandbox.conftest import ROOT
from tests.unit.components.test_stack_files import AS_THE_ENGINE

WRONG = """\
config:
  gcp:project: my-project
  gcp:region: us-central1
  tpu-gpu-fungability:model: Qwen/Qwen2-7B
  requireApiKey: false
  replicas: two
  servicePort: 80.5
  maxReplicas: [3]
  monitoring: yes
  activeMigration:
  zone: ~
  model: [Qwen/Qwen2-1.5B]
  clusterName: 2026-01-03
  loadBalancerSourceRanges: 203.0.113.0/24
  clientNamespaces: [5]
  labels: {cost-centre: 4711, since: 2026-01-03}
  network: default
  maintenanceWindow: {startTime: 2026-01-03T15:00:00Z, endTime: 2026-01-03, recurrence: FREQ=DAILY}
  modle: Qwen/Qwen2-1.5B
  acceleratorPools:
    - {name: l4, machineType: g2-standard-4, maxNodeCount: "2"}
    - {name: on, machineType: null, maxNodeCount: 010, enabled: no}
"""

#: Writes what the engine hands over.
DUMP = """\
import json, os
from pulumi.runtime.config import CONFIG, get_config_env
with open(os.environ["DUMP_TO"], "w") as file:
    json.dump({**get_config_env(), **CONFIG.get()}, file)
"""


class Engine:
    """A project in a folder of its own, with a backend there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = Paths.from_environment()
        Toolbox(paths, lambda text, fraction: None).ensure([tool for tool in TOOLS if tool.name.startswith("pulumi")])
        (folder / "state").mkdir()
        (folder / ".venv").symlink_to(ROOT / ".venv")
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PULUMI_")},
            "PATH": f"{paths.tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "x",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "DUMP_TO": str(folder / "handed-over.json"),
        }

    def preview(self, text: str) -> str:
        """What a preview with this stack file prints."""
        file = self.folder / "Pulumi.voice.yaml"
        file.unlink(missing_ok=True)
        self._pulumi("stack", "init", "voice")
        file.write_text(text)
        return self._pulumi("preview", "--stack", "voice")

    def _pulumi(self, *arguments: str) -> str:
        command = ["pulumi", *arguments, "--non-interactive"]
        done = subprocess.run(command, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout + done.stderr


def test_wrong_types_are_refused_all_at_once_in_the_words_of_the_tools(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    (tmp_path / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
    for name in ("__main__.py", "components", "ops"):
        (tmp_path / name).symlink_to(ROOT / name)
    said = engine.preview(WRONG)
    with pytest.raises(SettingsError) as refused:
        load_stack("voice", file=tmp_path / "Pulumi.voice.yaml")
    assert len(refused.value.problems) > 20
    for problem in refused.value.problems:
        assert f"  - {problem}\n" in said
    diagnostics = said.partition("Diagnostics:")[2]
    assert diagnostics.count("  - ") == len(refused.value.problems)
    for foreign in ("must be of type", "is missing configuration value", "Traceback"):
        assert foreign not in said


@pytest.mark.parametrize(
    ("program", "text", "problems"),
    [
        (
            "bootstrap",
            "gcp:project: team-ops\n  gcp:region: us-central1\n  stateBucket: team-state\n  repository: a/b\n"
            "  repositoryId: one\n  ownerId:",
            [
                'repositoryId: "one" is not one of GitHub\'s numbers. Fix: `gh api repos/OWNER/NAME --jq .id` prints it.',
                "ownerId: is missing. Fix: `pulumi config set ownerId VALUE`.",
                "environments: is missing. Fix: give the list in the stack's file.",
                "gcp:region: is not read by this program. Fix: `pulumi config set location REGION`, then `pulumi config rm gcp:region`.",
            ],
        ),
        (
            "examples/consumer",
            "inferenceStack: dev\n  replicas: many\n  servicePort: 80.5\n  upstreamUrl:",
            [
                'inferenceStack: "dev" is not a full stack name. Fix: give ORGANISATION/PROJECT/STACK (organization/PROJECT/STACK on a '
                "self-managed backend).",
                'replicas: "many" is not a whole number from 1 to 1000. Fix: give one from 1 to 1000.',
                'servicePort: "80.5" is not a whole number from 1 to 65535. Fix: give one from 1 to 65535.',
            ],
        ),
    ],
)
def test_other_programs_of_the_project_refuse_in_the_same_words(program: str, text: str, problems: list[str], tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    for each in (ROOT / program).iterdir():
        if each.suffix in (".py", ".yaml") and each.name.count(".") == 1:
            (tmp_path / each.name).symlink_to(each)
    said = engine.preview(f"config:\n  {text}\n")
    assert [line.strip()[2:] for line in said.partition("Diagnostics:")[2].splitlines() if line.strip().startswith("- ")] == problems


def test_the_tools_read_scalars_and_structures_as_the_engine_hands_them_over(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    (tmp_path / "Pulumi.yaml").write_text(
        f"name: {PROJECT_NAME}\nruntime: {{name: python, options: {{toolchain: pip, virtualenv: .venv}}}}\n"
    )
    (tmp_path / "__main__.py").write_text(DUMP)
    lines = "".join(f"  key{number}: {written}\n" for number, written in enumerate(AS_THE_ENGINE))
    engine.preview(f"config:\n{lines}  {PROJECT_NAME}:config:old: a\n")
    handed_over = json.loads((tmp_path / "handed-over.json").read_text())
    assert handed_over[f"{PROJECT_NAME}:old"] == "a"
    for number, (written, expected) in enumerate(AS_THE_ENGINE.items()):
        text = handed_over[f"{PROJECT_NAME}:key{number}"]
        assert (text if isinstance(expected, str) else json.loads(text)) == expected, written
