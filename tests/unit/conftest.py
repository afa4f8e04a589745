"""What the quick tier tells its interpreter."""

from __future__ import annotations

import gc

# The provider SDKs are hundreds of thousands of objects that stay to the end: at its usual pace the collector walks over them again and
# again while they load and with every program that a test runs, which is a seventh of the tier's time.
gc.set_threshold(200_000, 50, 100)
