"""Checks what a project needs before `pulumi up`, with Google, the image registries and Hugging Face.

Reads only: nothing is created, changed or switched on. Left out: whether hardware is in stock, which only an attempt can tell.
"""
