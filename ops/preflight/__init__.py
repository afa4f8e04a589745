"""What has to be true of a project before `pulumi up`, asked of Google, the image registries and Hugging Face.

Reads only: nothing is created, changed or switched on. Left out: whether hardware is in stock, which only an attempt can tell.
"""
