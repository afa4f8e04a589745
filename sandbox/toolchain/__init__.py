"""The programs that the sandbox runs, found or built from pinned Go modules. Left out: Python packages."""
