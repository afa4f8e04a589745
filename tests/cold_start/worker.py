"""What one node does in `try_weights_cache`; runs in an environment that has huggingface_hub and nothing of this project.

    worker.py lock FILE TIME     takes and releases a lock at a time of the clock, as vLLM does around its downloads
    worker.py download           puts the model into HF_HUB_CACHE, reads it, prints the digest of its files

Exit codes: 0, or 1 with the error as the last line.
"""

import hashlib
import os
import sys
import time


def lock(path: str, at: float) -> None:
    import filelock  # type: ignore[import-not-found,unused-ignore]

    time.sleep(max(0.0, at - time.time()))
    with filelock.FileLock(path, mode=0o666):
        time.sleep(0.05)


def download() -> None:
    from huggingface_hub import snapshot_download  # type: ignore[import-not-found,unused-ignore]

    folder = snapshot_download("Qwen/Tiny", allow_patterns=["*.safetensors", "*.json"])
    whole = hashlib.sha256()
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            whole.update(file.read())
    print(whole.hexdigest())


try:
    if sys.argv[1] == "lock":
        lock(sys.argv[2], float(sys.argv[3]))
    else:
        download()
except OSError as error:
    print(f"{type(error).__name__}: {error.strerror or error}")
    sys.exit(1)
