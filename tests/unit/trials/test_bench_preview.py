"""What the bench of previews makes of Python's report on its imports."""

from __future__ import annotations

from trials.bench.preview import describe_imports


def test_imports_are_summed_by_package() -> None:
    output = [
        "    pulumi:pulumi:Stack s  import time:       100 |        100 | pulumi_gcp.container",
        "import time:        50 |        900 |   pulumi_gcp.container.outputs",
        "import time:        40 |         40 |   components.settings",
        "import time:        10 |         10 | json",
        "import time: self [us] | cumulative | imported package",
    ]
    assert describe_imports("dev", output) == [
        "Time that Python spends on imports for dev: pulumi_gcp 75%, this program 20%, Python and what these need 5%."
    ]
    assert describe_imports("dev", []) == []
