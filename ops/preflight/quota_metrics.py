"""Which quota of Compute Engine each accelerator (by `components.catalog.machines`) and each boot disk counts against, with sources.

GKE's nodes are Compute Engine instances, TPU nodes too, so the quotas of the Cloud TPU API (tpu.googleapis.com) say nothing
about them: https://docs.cloud.google.com/kubernetes-engine/docs/troubleshooting/tpus
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from components.catalog.machines import Accelerator

#: `region`: quotas of compute.regions.get; `project`: of compute.projects.get; both with their usage. `service-usage`: a metric of
#: Service Usage's consumerQuotaMetrics, without usage.
Where = Literal["region", "project", "service-usage"]


@dataclass(frozen=True, kw_only=True)
class QuotaMetric:
    where: Where
    #: Name of the metric; for `service-usage` with its service.
    name: str
    #: Id in Cloud Quotas, which is what a request for more names.
    quota_id: str
    #: Besides the region.
    dimensions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    source: str
    #: False: nothing official that could be read here says so.
    verified: bool


_COMPUTE_V1 = "enum of Quota.metric in the discovery document compute.v1"
_GKE_TPU = "TPU table of docs.cloud.google.com/kubernetes-engine/docs/troubleshooting/tpus"


def _region(metric: str, source: str, *, verified: bool = True) -> QuotaMetric:
    quota_id = f"{metric.replace('_', '-')}-per-project-region"
    return QuotaMetric(where="region", name=metric, quota_id=quota_id, source=source, verified=verified)


def metric_of(chip: Accelerator, *, preemptible: bool) -> QuotaMetric | None:
    """The quota of an accelerator, in GPUs or chips; None where no source names it.

    Not verified: the names of the families and their metrics (public notes of 2026), and that TPU machines count as pod slices and not as
    devices (GKE's table as others quote it).
    """
    name, _, dimension = chip.quotas[preemptible].partition(" ")
    if not name:
        return None
    if "_" in name:
        return _region(name, _COMPUTE_V1 if chip.kind == "gpu" else f"{_COMPUTE_V1}; {_GKE_TPU}", verified=chip.kind == "gpu")
    key, _, value = dimension.partition("=")
    return QuotaMetric(
        where="service-usage",
        name=f"compute.googleapis.com/{name.lower().replace('-', '_')}",
        quota_id=f"{name}-per-project-region",
        dimensions=MappingProxyType({key: value} if key else {}),
        source=f"{_GKE_TPU}; public notes" if chip.kind == "tpu" else "the reference of the Cloud Quotas API; public notes",
        verified=False,
    )


#: Type of a boot disk -> quota, in GB.
DISK_METRICS: Mapping[str, QuotaMetric] = MappingProxyType(
    {
        # A regional cluster whose default pool has balanced disks of 100 GB asks for 300 of it.
        "pd-balanced": _region("SSD_TOTAL_GB", _COMPUTE_V1 + "; terraform-google-modules/terraform-google-kubernetes-engine#1795"),
        "pd-standard": _region("DISKS_TOTAL_GB", _COMPUTE_V1 + "; kubeflow/testing#81"),
        # That Hyperdisk Balanced counts here is concluded from the name.
        "hyperdisk-balanced": _region("HDB_TOTAL_GB", _COMPUTE_V1, verified=False),
    }
)

#: All GPUs of the project, of every type and in every region. That preemptible ones count too is from users' reports.
GPUS_ALL_REGIONS = QuotaMetric(
    where="project",
    name="GPUS_ALL_REGIONS",
    quota_id="GPUS-ALL-REGIONS-per-project",
    source=_COMPUTE_V1 + "; docs.cloud.google.com/compute/resource-usage#gpu_quota",
    verified=True,
)
