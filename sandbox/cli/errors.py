"""What a person reads when a library has raised an error. Left out: the sandbox's own errors, whose text is enough."""

from kubernetes.client import ApiException
from kubernetes.config import ConfigException
from requests import RequestException
from urllib3.exceptions import HTTPError


def explain(error: Exception) -> str | None:
    """The message for a person; None if the error is a defect of the sandbox."""
    if isinstance(error, ApiException):
        return f"the API server answers {error.status} {error.reason}: {error.body}"
    if isinstance(error, HTTPError | RequestException | ConfigException):
        return f"the API server does not answer ({error})"
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    return None
