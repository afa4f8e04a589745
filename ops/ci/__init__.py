"""What continuous integration does beyond running a command: keeping what it printed, and saying it on GitHub."""
