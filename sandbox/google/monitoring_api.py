"""The two lists of Cloud Monitoring's API that find what Google has numbered itself: alert policies and dashboards.

https://docs.cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies/list and .../v1/projects.dashboards/list, as JSON on
loopback. Asked for by GOOGLE_MONITORING_CUSTOM_ENDPOINT, as the real gcp provider is told of another endpoint. Left out: pages,
filters, and everything else; the provider itself does not come here.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sandbox.google.records import Records

_ALERT_POLICIES = re.compile(r"/v3/projects/([^/?]+)/alertPolicies(\?.*)?")
_DASHBOARDS = re.compile(r"/v1/projects/([^/?]+)/dashboards(\?.*)?")


class MonitoringApi:
    """Answers from the moment it is made until `stop`."""

    def __init__(self, records: Records) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = _answer(self.path, records)
                body = json.dumps(found or {"error": {"code": 404, "message": "Not found", "status": "NOT_FOUND"}})
                self.send_response(200 if found is not None else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: who asks says what came of it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, name="monitoring-api", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(path: str, records: Records) -> dict[str, Any] | None:
    if asked := _ALERT_POLICIES.fullmatch(path):
        return {"alertPolicies": list(_policies(records, asked[1]))}
    if asked := _DASHBOARDS.fullmatch(path):
        return {"dashboards": list(_dashboards(records, asked[1]))}
    return None


def _policies(records: Records, project: str) -> list[dict[str, Any]]:
    return [
        {"name": id, **{key: inputs[key] for key in ("displayName", "userLabels") if key in inputs}}
        for id, inputs in records.of_kind("gcp:monitoring/alertPolicy:AlertPolicy").items()
        if inputs["project"] == project
    ]


def _dashboards(records: Records, project: str) -> list[dict[str, Any]]:
    return [
        {"name": id, "displayName": json.loads(inputs["dashboardJson"])["displayName"]}
        for id, inputs in records.of_kind("gcp:monitoring/dashboard:Dashboard").items()
        if inputs["project"] == project
    ]
