"""Generates parts of the repository's pages, and checks that they are up to date. Left out: the rest of the pages."""
