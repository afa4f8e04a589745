"""The policy pack, as Pulumi starts it (`pulumi preview --policy-pack policies`)."""

import sys
from pathlib import Path

# Pulumi puts this folder first on the path; the pack is a package of the project, whose tables of machines and prices it reads.
sys.path[:] = [str(Path(__file__).resolve().parent.parent), *sys.path[1:]]

from policies.pack import serve
from policies.rules import RULES

serve(RULES)
