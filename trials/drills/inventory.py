"""What a sandbox's cloud has, as drills count it before and after what they do to it.

Left out: what is in a cluster, in Pulumi's state and among the processes. Each drill looks at what its own faults may leave there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def cloud_inventory(state: Path) -> Counter[str]:
    """How often there is what: resources by kind and by the name of their owner, clusters and node pools.

    `state`: of the sandbox, whose own files are read, since an answer of its APIs may be what is drilled.
    """
    found: Counter[str] = Counter()
    records: dict[str, dict[str, Any]] = json_object(state / "cloud.json")
    for kind, by_id in records.items():
        found.update(f"cloud: {kind} {resource_name(record['owner'])}" for record in by_id.values())
    for cluster in state.glob("clusters/*"):
        found[f"cloud: cluster {cluster.name}"] += 1
        found.update(f"cloud: node pool {record.stem}" for record in cluster.glob("pools/*.json"))
    return found


def difference(wanted: Mapping[str, int], found: Mapping[str, int]) -> str:
    """The difference in words; empty where there is none."""
    names = sorted(name for name in {*wanted, *found} if wanted.get(name, 0) != found.get(name, 0))
    return "; ".join(f"{name}: {found.get(name, 0)} instead of {wanted.get(name, 0)}" for name in names)


def json_object(path: Path) -> dict[str, Any]:
    """Empty where there is no file."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def resource_name(urn: str) -> str:
    return urn.rpartition("::")[2]
