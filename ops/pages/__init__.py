"""What is generated in the repository's pages, and the check that it is up to date. Left out: what the pages say by hand."""
