"""The ladder as it is now, as a page in the browser and in a terminal: `python -m ops live`. Left out: changing anything of a cluster."""
