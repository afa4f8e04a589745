"""Whether an image is there, by the registry's HTTP API: https://distribution.github.io/distribution/spec/api/

Only its manifest is asked for (HEAD), no layer. Left out: registries that want a password of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ops.preflight.calls import CallFailed, Web, reason_of

#: An index of several platforms or one platform's manifest, Docker's or OCI's.
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)

#: Registries that take an access token of Google's as a bearer token.
_GOOGLE = re.compile(r"(.+\.)?(pkg\.dev|gcr\.io)")

_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Reference:
    """`HOST/NAME:TAG` or `HOST/NAME@DIGEST`, taken apart."""

    host: str
    name: str
    #: Tag or digest.
    version: str

    @classmethod
    def of(cls, text: str) -> Reference:
        """`text` has been checked by `settings`: it names host and version."""
        path, _, digest = text.partition("@")
        host, _, rest = path.partition("/")
        name, _, tag = rest.partition(":")
        if host == "docker.io":
            # Docker Hub's API lives elsewhere, and its own images have a hidden folder.
            host, name = "registry-1.docker.io", name if "/" in name else f"library/{name}"
        return cls(host=host, name=name, version=digest or tag or "latest")

    @property
    def is_google(self) -> bool:
        return _GOOGLE.fullmatch(self.host) is not None


def digest_of(web: Web, reference: Reference, google_token: Callable[[], str]) -> str:
    """The digest that the registry has for the reference; empty where it does not say. Raises `CallFailed`.

    `google_token` is asked for Google's registries alone.
    """
    url = web.url(reference.host, f"/v2/{reference.name}/manifests/{reference.version}")
    headers = {"Accept": _ACCEPT}
    if reference.is_google:
        headers["Authorization"] = f"Bearer {google_token()}"
    response = web.request("HEAD", url, headers=headers)
    if response.status_code == 401 and not reference.is_google:
        token = _anonymous_token(web, reference, response.headers.get("WWW-Authenticate", ""))
        response = web.request("HEAD", url, headers={**headers, "Authorization": f"Bearer {token}"})
    if response.status_code >= 300:
        reason = "denied" if response.status_code == 401 else reason_of(response.status_code)
        raise CallFailed(reason, reference.host, f"HTTP {response.status_code}")
    return response.headers.get("Docker-Content-Digest", "")


def _anonymous_token(web: Web, reference: Reference, challenge: str) -> str:
    """https://distribution.github.io/distribution/spec/auth/token/"""
    scheme, _, rest = challenge.partition(" ")
    parts = dict(_CHALLENGE.findall(rest))
    if scheme.lower() != "bearer" or "realm" not in parts:
        raise CallFailed("denied", reference.host, "it asks for a password, and offers no anonymous token")
    params = {"scope": parts.get("scope", f"repository:{reference.name}:pull")}
    if "service" in parts:
        params["service"] = parts["service"]
    response = web.request("GET", parts["realm"], params=params)
    if response.status_code != 200:
        raise CallFailed("denied", reference.host, f"it gives no anonymous token (HTTP {response.status_code})")
    try:
        answer = response.json()
        token = answer.get("token") or answer["access_token"]
    except (ValueError, KeyError, AttributeError) as error:
        raise CallFailed("malformed", reference.host, "the answer to the request for a token holds none") from error
    return str(token)
