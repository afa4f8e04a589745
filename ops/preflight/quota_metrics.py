"""Which quota of Compute Engine each accelerator and each boot disk counts against: two tables, with sources.

GKE's nodes are Compute Engine instances, TPU nodes too, so the quotas of the Cloud TPU API (tpu.googleapis.com) say nothing
about them: https://docs.cloud.google.com/kubernetes-engine/docs/troubleshooting/tpus
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

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


#: (accelerator, whether Spot or preemptible) -> quota. Units are GPUs and chips.
METRICS: Mapping[tuple[str, bool], QuotaMetric] = MappingProxyType(
    {
        ("nvidia-l4", False): _region("NVIDIA_L4_GPUS", _COMPUTE_V1),
        ("nvidia-l4", True): _region("PREEMPTIBLE_NVIDIA_L4_GPUS", _COMPUTE_V1),
        # That ct5lp machines count as pod slices, not as devices, is from the GKE table as others quote it.
        ("tpu-v5-lite-podslice", False): _region("TPU_LITE_PODSLICE_V5", _COMPUTE_V1 + "; " + _GKE_TPU, verified=False),
        ("tpu-v5-lite-podslice", True): _region("PREEMPTIBLE_TPU_LITE_PODSLICE_V5", _COMPUTE_V1 + "; " + _GKE_TPU, verified=False),
        # compute.regions.get does not list v6e. The metric TPUS_PER_TPU_FAMILY is named by cloud.google.com/tpu/docs/v6e-intro,
        # the family CT6E by the GKE table; how Service Usage writes them, and the ids, are from public notes of 2026.
        ("tpu-v6e-slice", False): QuotaMetric(
            where="service-usage",
            name="compute.googleapis.com/tpus_per_tpu_family",
            quota_id="TPUS-PER-TPU-FAMILY-per-project-region",
            dimensions=MappingProxyType({"tpu_family": "CT6E"}),
            source="cloud.google.com/tpu/docs/v6e-intro; " + _GKE_TPU + "; public notes",
            verified=False,
        ),
        ("tpu-v6e-slice", True): QuotaMetric(
            where="service-usage",
            name="compute.googleapis.com/preemptible_tpu_v6e",
            quota_id="PREEMPTIBLE-TPU-V6E-per-project-region",
            source=_GKE_TPU + " (Preemptible TPU slices v6e); id from public notes, and the metric's name from the id",
            verified=False,
        ),
    }
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
