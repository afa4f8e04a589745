"""What the command line and the environment say, read once.

Environment: ACCELERATOR (`tpu` or `gpu`, set by the image), STANDIN_TPU_STARTUP_SECONDS and STANDIN_GPU_STARTUP_SECONDS (how long a
real server takes to start; none unless set), SANDBOX_SPEED (how many of these pass in one second),
SANDBOX_POD_NAME, SANDBOX_NODE_NAME, SANDBOX_NODE_POOL and SANDBOX_MACHINE_TYPE (where it runs),
STANDIN_TOKEN_SECONDS (time of one token), STANDIN_MAX_NUM_SEQS (in place of --max-num-seqs), SANDBOX_CRASH_FILE (a file that
makes the start fail where it is there), VLLM_API_KEY.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: vLLM's own default depends on the device's memory; 256 is that of the smaller ones.
_MAX_NUM_SEQS = 256

#: Qwen2's context; vLLM reads a model's own from its configuration.
_MAX_MODEL_LEN = 32768

_TOKEN_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the server runs: the names of the pod, its node, the node's pool and machine type."""

    pod: str
    node: str
    pool: str
    machine_type: str

    @property
    def fingerprint(self) -> str:
        """`system_fingerprint` of each answer."""
        return f"sandbox-standin-{self.pod}-{self.node}-{self.pool}"

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("x-sandbox-pod", self.pod), ("x-sandbox-node", self.node), ("x-sandbox-pool", self.pool)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Times are in seconds; an empty `host` means every address.

    `shutdown_timeout` is how long requests under way may go on after SIGTERM: 0, vLLM's default, cuts them off at once.
    """

    host: str
    port: int
    model: str
    served_names: tuple[str, ...]
    max_model_len: int
    max_num_seqs: int
    #: Requests that run and wait together; None: no limit.
    max_num_queued_reqs: int | None
    #: MODULE.NAME of ASGI middleware.
    middleware: tuple[str, ...]
    api_keys: tuple[str, ...]
    shutdown_timeout: float
    access_log: bool
    accelerator: str
    #: From the start of the process until the server answers.
    startup_seconds: float
    token_seconds: float
    #: Whether the start fails.
    crashes: bool
    place: Place

    @classmethod
    def read(cls, args: Namespace, environ: Mapping[str, str]) -> Settings:
        """Raises `ValueError` on a variable that is not the number it should be."""
        accelerator = environ.get("ACCELERATOR", "gpu")
        speed = _positive(environ, "SANDBOX_SPEED", 1.0)
        startup_variable = f"STANDIN_{accelerator.upper()}_STARTUP_SECONDS"
        startup = _positive(environ, startup_variable, 0.0) if startup_variable in environ else 0.0
        model = args.model_tag or args.model or "Qwen/Qwen3-0.6B"
        length = args.max_model_len
        keys = args.api_key or [environ.get("VLLM_API_KEY", "")]
        return cls(
            host=args.host or "",
            port=8000 if args.port is None else args.port,
            model=model,
            served_names=tuple(args.served_model_name or [model]),
            max_model_len=_MAX_MODEL_LEN if length is None or length <= 0 else length,
            max_num_seqs=int(_positive(environ, "STANDIN_MAX_NUM_SEQS", args.max_num_seqs or _MAX_NUM_SEQS)),
            max_num_queued_reqs=args.max_num_queued_reqs,
            middleware=tuple(args.middleware or ()),
            api_keys=tuple(key for key in keys if key),
            shutdown_timeout=args.shutdown_timeout or 0,
            access_log=not args.disable_uvicorn_access_log,
            accelerator=accelerator,
            startup_seconds=startup / speed,
            token_seconds=_positive(environ, "STANDIN_TOKEN_SECONDS", _TOKEN_SECONDS),
            crashes=Path(environ.get("SANDBOX_CRASH_FILE") or "/nowhere").exists(),
            place=Place(
                pod=environ.get("SANDBOX_POD_NAME", "unknown-pod"),
                node=environ.get("SANDBOX_NODE_NAME", "unknown-node"),
                pool=environ.get("SANDBOX_NODE_POOL", "unknown-pool"),
                machine_type=environ.get("SANDBOX_MACHINE_TYPE", "unknown-machine"),
            ),
        )


def _positive(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise ValueError(f"{name}={text!r} is not a number above 0; unset it for the default of {default:g}")
    return value
