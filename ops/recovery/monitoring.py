"""Finds dashboards and alert policies, whose ids Google makes up, by the name that people see.

Asked where the gcp provider asks (GOOGLE_MONITORING_CUSTOM_ENDPOINT, GOOGLE_OAUTH_ACCESS_TOKEN), else Google, with Application
Default Credentials. No credential is sent over plain HTTP.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import google.auth
import requests
from google.auth import exceptions
from google.auth.transport.requests import Request

ALERT_POLICY = "gcp:monitoring/alertPolicy:AlertPolicy"
DASHBOARD = "gcp:monitoring/dashboard:Dashboard"
TYPES = frozenset({ALERT_POLICY, DASHBOARD})

_ENDPOINT = "https://monitoring.googleapis.com/"
_SECONDS = 30.0
_SCOPE = "https://www.googleapis.com/auth/monitoring.read"


class ListingError(Exception):
    """Cloud Monitoring did not say what there is; the message says why."""


class Monitoring:
    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._endpoint = environment.get("GOOGLE_MONITORING_CUSTOM_ENDPOINT") or _ENDPOINT
        self._token = environment.get("GOOGLE_OAUTH_ACCESS_TOKEN")

    def ids(self, type_token: str, inputs: Mapping[str, Any], project: str) -> list[str]:
        """The ids of everything in the project that looks like what `inputs` describe. Raises `ListingError`."""
        if type_token == ALERT_POLICY:
            wanted = inputs.get("displayName"), inputs.get("userLabels") or {}
            found = self._list(f"v3/projects/{project}/alertPolicies", "alertPolicies", project)
            return [each["name"] for each in found if (each.get("displayName"), each.get("userLabels") or {}) == wanted]
        title = json.loads(inputs["dashboardJson"]).get("displayName")
        found = self._list(f"v1/projects/{project}/dashboards", "dashboards", project)
        return [each["name"] for each in found if each.get("displayName") == title]

    def _list(self, path: str, key: str, project: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        page = ""
        try:
            headers = self._headers(project)
            while True:
                answer = requests.get(
                    self._endpoint + path,
                    params={"pageSize": "500", **({"pageToken": page} if page else {})},
                    headers=headers,
                    timeout=_SECONDS,
                )
                answer.raise_for_status()
                document = answer.json()
                found += document.get(key, [])
                page = document.get("nextPageToken", "")
                if not page:
                    return found
        except (requests.RequestException, exceptions.GoogleAuthError, ValueError) as error:
            raise ListingError(f"Cloud Monitoring does not say what there is: {' '.join(str(error).split())}") from error

    def _headers(self, project: str) -> dict[str, str]:
        if not self._endpoint.startswith("https://"):
            return {}
        if not self._token:
            credentials, _ = google.auth.default(scopes=[_SCOPE])
            credentials.refresh(Request())
            self._token = str(credentials.token)
        return {"Authorization": f"Bearer {self._token}", "X-Goog-User-Project": project}
