"""Where a real provider plugin is looked for."""

from pathlib import Path

import pytest

from sandbox.host.real_plugins import real_plugin_on_path
from tests.unit.sandbox.helpers import install

PROGRAM = "pulumi-resource-kubernetes"


def test_a_plugin_on_the_path_comes_first(tmp_path: Path) -> None:
    on_path = install(tmp_path / "bin" / PROGRAM, "#!/bin/sh\n")
    install(tmp_path / "home" / "plugins" / "resource-kubernetes-v4.34.2" / PROGRAM, "#!/bin/sh\n")
    environment = {"PATH": str(tmp_path / "bin"), "PULUMI_HOME": str(tmp_path / "home")}
    assert real_plugin_on_path("kubernetes", environment) == on_path
    assert real_plugin_on_path("gcp", environment) is None


@pytest.mark.parametrize("home", ["PULUMI_HOME", "HOME"])
def test_the_newest_installed_version_is_taken(tmp_path: Path, home: str) -> None:
    plugins = (tmp_path if home == "PULUMI_HOME" else tmp_path / ".pulumi") / "plugins"
    install(plugins / "resource-kubernetes-v4.9.0" / PROGRAM, "#!/bin/sh\n")
    newest = install(plugins / "resource-kubernetes-v4.34.2" / PROGRAM, "#!/bin/sh\n")
    install(plugins / "resource-kubernetes-v5.0.0" / PROGRAM, "#!/bin/sh\n", mode=0o644)
    install(plugins / "resource-kubernetes-v6.0.0" / PROGRAM, "#!/bin/sh\n")
    (plugins / "resource-kubernetes-v6.0.0.partial").touch()
    assert real_plugin_on_path("kubernetes", {"PATH": "", home: str(tmp_path)}) == newest
