"""What Pulumi's engine is to a provider: calls over a real gRPC channel, on plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

from sandbox.providers.server import Factory, ProviderServer
from sandbox.providers.wire import from_struct, to_struct

_TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Diff:
    """`details`: path -> kind, such as `UPDATE_REPLACE`."""

    changed: bool
    details: Mapping[str, str]
    replaces: Sequence[str]
    delete_before_replace: bool


@dataclass(frozen=True)
class Checked:
    inputs: dict[str, Any]
    #: (property, reason)
    failures: list[tuple[str, str]]


class Client:
    """One connection of an engine."""

    def __init__(self, server: ProviderServer) -> None:
        # A connection of its own, as every provider resource of an engine has.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", options=options)
        self.stub = provider_pb2_grpc.ResourceProviderStub(self.channel)

    def configure(self, **args: Any) -> provider_pb2.ConfigureResponse:
        request = provider_pb2.ConfigureRequest(args=to_struct(args), acceptSecrets=True)
        response: provider_pb2.ConfigureResponse = self.stub.Configure(request, timeout=_TIMEOUT_SECONDS)
        return response

    def check(self, urn: str, news: Mapping[str, Any], olds: Mapping[str, Any] | None = None) -> Checked:
        request = provider_pb2.CheckRequest(
            urn=urn, news=to_struct(news), olds=to_struct(olds or {}), randomSeed=b"0123456789abcdef0123456789abcdef"
        )
        response = self.stub.Check(request, timeout=_TIMEOUT_SECONDS)
        return Checked(from_struct(response.inputs), [(each.property, each.reason) for each in response.failures])

    def diff(self, urn: str, old: Mapping[str, Any], new: Mapping[str, Any], outputs: Mapping[str, Any] | None = None) -> Diff:
        request = provider_pb2.DiffRequest(
            id="id", urn=urn, olds=to_struct(old if outputs is None else outputs), news=to_struct(new), old_inputs=to_struct(old)
        )
        response = self.stub.Diff(request, timeout=_TIMEOUT_SECONDS)
        kinds = provider_pb2.PropertyDiff.Kind
        return Diff(
            response.changes == provider_pb2.DiffResponse.DIFF_SOME,
            {path: kinds.Name(detail.kind) for path, detail in response.detailedDiff.items()},
            list(response.replaces),
            response.deleteBeforeReplace,
        )

    def create(self, urn: str, inputs: Mapping[str, Any], *, preview: bool = False) -> tuple[str, dict[str, Any]]:
        request = provider_pb2.CreateRequest(urn=urn, properties=to_struct(inputs), preview=preview)
        response = self.stub.Create(request, timeout=_TIMEOUT_SECONDS)
        return response.id, from_struct(response.properties)

    def read(self, urn: str, id: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
        request = provider_pb2.ReadRequest(id=id, urn=urn, inputs=to_struct(inputs), properties=to_struct(outputs))
        response = self.stub.Read(request, timeout=_TIMEOUT_SECONDS)
        return response.id, from_struct(response.inputs), from_struct(response.properties)

    def update(
        self,
        urn: str,
        id: str,
        old_inputs: Mapping[str, Any],
        old_outputs: Mapping[str, Any],
        news: Mapping[str, Any],
        *,
        preview: bool = False,
    ) -> dict[str, Any]:
        request = provider_pb2.UpdateRequest(
            id=id, urn=urn, olds=to_struct(old_outputs), old_inputs=to_struct(old_inputs), news=to_struct(news), preview=preview
        )
        return from_struct(self.stub.Update(request, timeout=_TIMEOUT_SECONDS).properties)

    def delete(self, urn: str, id: str, outputs: Mapping[str, Any]) -> None:
        request = provider_pb2.DeleteRequest(id=id, urn=urn, properties=to_struct(outputs))
        self.stub.Delete(request, timeout=_TIMEOUT_SECONDS)

    def invoke(self, token: str, **args: Any) -> dict[str, Any]:
        request = provider_pb2.InvokeRequest(tok=token, args=to_struct(args))
        return from_struct(getattr(self.stub.Invoke(request, timeout=_TIMEOUT_SECONDS), "return"))

    def version(self) -> str:
        return str(self.stub.GetPluginInfo(empty_pb2.Empty(), timeout=_TIMEOUT_SECONDS).version)

    def close(self) -> None:
        self.channel.close()


class Engine:
    """A server, and clients of it; a context manager that ends both."""

    def __init__(self, factory: Factory) -> None:
        self.server = ProviderServer(factory)
        self._clients: list[Client] = []

    def connect(self) -> Client:
        self._clients.append(Client(self.server))
        return self._clients[-1]

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self.server.stop(grace_seconds=1)


def urn(type_token: str, name: str) -> str:
    return f"urn:pulumi:stack::project::a:b:Parent${type_token}::{name}"


def partial_failure(error: grpc.RpcError) -> provider_pb2.ErrorResourceInitFailed:
    """The detail by which an engine saves a resource that was made but failed."""
    metadata = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    detail = provider_pb2.ErrorResourceInitFailed()
    assert status.code == error.code().value[0]
    assert status.details[0].Unpack(detail)
    return detail
