"""A small OTLP/HTTP collector as a process of its own: it decodes what comes and prints a line of JSON for each."""

from __future__ import annotations

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def _attributes(found: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in found}


def spans(body: bytes) -> list[dict[str, Any]]:
    return [
        {
            "name": span.name,
            "trace": span.trace_id.hex(),
            "span": span.span_id.hex(),
            "parent": span.parent_span_id.hex(),
            "service": _attributes(whole.resource.attributes)["service.name"],
            "told": _attributes(span.attributes),
        }
        for whole in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in whole.scope_spans
        for span in scope.spans
    ]


def metrics(body: bytes) -> list[dict[str, Any]]:
    found = []
    for whole in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        for scope in whole.scope_metrics:
            for one in scope.metrics:
                kind = one.WhichOneof("data")
                points = getattr(one, kind).data_points
                values = [[_attributes(point.attributes), point.as_double or point.as_int] for point in points]
                found.append({"metric": one.name, "kind": kind, "values": values})
    return found


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        decode = spans if self.path == "/v1/traces" else metrics
        for one in decode(body):
            sys.stdout.write(json.dumps(one) + "\n")
        sys.stdout.flush()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
