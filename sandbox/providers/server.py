"""The provider protocol of Pulumi's engine, for providers written as plain Python.

A provider is a subclass of `Provider`: override what it can do, on plain values (see `sandbox.providers.wire`), blocking as
long as it takes. `ProviderServer` serves it on a port of its own, with one instance of the class for each connection of an
engine, as a real engine has a process for each provider resource: instance attributes set by `configure` are that
resource's alone. What instances share, the factory given to the server hands to each of them. Every method may be called
from many threads at once.

    class MyProvider(Provider):
        package, version = "my", "1.0.0"
        def check(self, urn, olds, news, seed): return Checked(news)
        def create(self, urn, inputs, timeout, preview): return Created("id", outputs)
        ...
    server = ProviderServer(MyProvider)     # server.port; server.stop()

Errors: raise `ProviderError` for what a user should read; a resource that exists though something about it failed is
`PartialFailureError`, and the engine then saves it. Anything else that is raised is a defect: the engine shows it, and the log
has the traceback. No message that leaves here has a secret of its request in it.

Left out: remote components (Construct, Call), parameterized packages, and schemas, none of which the program needs.
Why not pulumi.provider.experimental: its Provider cannot express partial failures, nor detailed diffs of nested paths.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import grpc  # type: ignore[import-untyped]
from google.protobuf import any_pb2, empty_pb2, struct_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from sandbox.providers.differences import Difference, property_path
from sandbox.providers.redaction import hiding
from sandbox.providers.wire import from_struct, to_struct

logger = logging.getLogger(__name__)

#: Operations that may run at once; each blocks a thread for as long as it takes.
_THREADS = 32

#: Connections whose instances are kept. An engine opens a few a run, and nothing tells when one is closed.
_MAX_CONNECTIONS = 64

Properties = dict[str, Any]


# --- what a provider's methods take and give


class Urn(str):
    """`urn:pulumi:STACK::PROJECT::PARENT_TYPE$TYPE::NAME`."""

    @property
    def type_token(self) -> str:
        return self.split("::", 3)[2].rsplit("$", 1)[-1]

    @property
    def name(self) -> str:
        return self.split("::", 3)[3]

    @property
    def project(self) -> str:
        return self.split("::", 3)[1]


@dataclass(frozen=True)
class CheckFailure:
    """`property`: the path of the input at fault, empty for the resource as a whole."""

    property: str
    reason: str


@dataclass(frozen=True)
class Checked:
    """Inputs with defaults filled in; with failures the resource is refused."""

    inputs: Mapping[str, Any]
    failures: Sequence[CheckFailure] = ()


@dataclass(frozen=True)
class Created:
    """In a preview the id is empty, and outputs not known yet are `UNKNOWN`."""

    id: str
    outputs: Mapping[str, Any]


@dataclass(frozen=True)
class ReadState:
    """A resource as it is now."""

    id: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


class ProviderError(Exception):
    """What a user should read, as it is. `code`: the status that the engine gets."""

    def __init__(self, message: str, code: grpc.StatusCode = grpc.StatusCode.UNKNOWN) -> None:
        super().__init__(message)
        self.code = code


class PartialFailureError(ProviderError):
    """The resource exists, but `reasons` keep it from being complete: the engine saves it and repairs it next time."""

    def __init__(self, message: str, *, id: str, outputs: Mapping[str, Any], inputs: Mapping[str, Any], reasons: Sequence[str]) -> None:
        super().__init__(message)
        self.id = id
        self.outputs = outputs
        self.inputs = inputs
        self.reasons = reasons


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a resource that is there. Of `new_inputs` those at `ignore_changes` have their old values already."""

    urn: Urn
    id: str
    old_inputs: Properties
    old_outputs: Properties
    new_inputs: Properties
    ignore_changes: Sequence[str] = ()
    #: The resource's custom timeout in seconds; None for the provider's own.
    timeout: float | None = None
    preview: bool = False


class Provider:
    """One provider resource's view of a package; subclasses override what the package can do.

    `cancelled` is set when the user interrupts the engine and when the server stops: a long wait should then end with a
    `ProviderError`.
    """

    #: Name of the package and the version that the engine compares with that of the program's SDK.
    package: str
    version: str

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self._engine: engine_pb2_grpc.EngineStub | None = None
        self._channel: grpc.Channel | None = None

    # The provider resource itself.

    def check_config(self, urn: Urn, olds: Properties, news: Properties) -> Checked:
        return Checked(news)

    def diff_config(self, urn: Urn, old_inputs: Properties, new_inputs: Properties) -> Difference:
        return Difference()

    def configure(self, variables: Mapping[str, str], args: Properties) -> None:
        """`args`: the provider resource's inputs, nested ones as JSON texts; `variables`: the same, keyed `pkg:config:name`."""

    # Resources. `olds` of a check are the inputs of the last update, None where there was none.

    def check(self, urn: Urn, olds: Properties | None, news: Properties, seed: bytes) -> Checked:
        """`seed`: from which a random part of a name is made, so that a retried update makes the same one."""
        raise _not_implemented(self, urn)

    def diff(self, change: Change) -> Difference:
        raise _not_implemented(self, change.urn)

    def create(self, urn: Urn, inputs: Properties, timeout: float | None, preview: bool) -> Created:
        """`timeout`: the resource's custom timeout in seconds, None for the provider's own."""
        raise _not_implemented(self, urn)

    def read(self, urn: Urn, id: str, inputs: Properties, outputs: Properties) -> ReadState | None:
        """None when it is gone; `inputs` and `outputs` are empty on an import."""
        raise _not_implemented(self, urn)

    def update(self, change: Change) -> Properties:
        """The outputs after it."""
        raise _not_implemented(self, change.urn)

    def delete(self, urn: Urn, id: str, inputs: Properties, outputs: Properties, timeout: float | None) -> None:
        raise _not_implemented(self, urn)

    def invoke(self, token: str, args: Properties, preview: bool) -> Properties:
        """A function of the package. Arguments at fault are a `ProviderError`."""
        raise ProviderError(f"{self.package} has no function {token} here", grpc.StatusCode.UNIMPLEMENTED)

    # For subclasses.

    def log(self, urn: str, message: str, *, ephemeral: bool = False) -> None:
        """A line beside the resource on the user's screen; an ephemeral one is replaced by the next, and not kept."""
        if self._engine is None:
            return
        try:
            self._engine.Log(engine_pb2.LogRequest(severity=engine_pb2.INFO, message=message, urn=urn, ephemeral=ephemeral), timeout=5)
        except grpc.RpcError as error:
            # The engine may be gone already, and a message that is not read changes nothing.
            logger.debug("the engine takes no message: %s", error)

    # For the server.

    def attach(self, engine_address: str) -> None:
        """Where `log` goes."""
        if self._channel is not None:
            self._channel.close()
        self._channel = grpc.insecure_channel(engine_address)
        self._engine = engine_pb2_grpc.EngineStub(self._channel)

    def close(self) -> None:
        """After the last call."""
        self.cancelled.set()
        if self._channel is not None:
            self._channel.close()


def _not_implemented(provider: Provider, urn: Urn) -> ProviderError:
    return ProviderError(f"{provider.package} cannot do this with {urn.type_token} here", grpc.StatusCode.UNIMPLEMENTED)


# --- the protocol

#: Makes a provider for a connection; a subclass of `Provider` is one.
Factory = Callable[[], Provider]

#: Told of a creation by its URN and inputs, for as long as it takes.
Creating = Callable[[str, Mapping[str, Any]], contextlib.AbstractContextManager[None]]


def _untold(urn: str, inputs: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@dataclass
class _Connections:
    """The instances by the engine's end of their connection."""

    factory: Factory
    by_peer: OrderedDict[str, Provider] = field(default_factory=OrderedDict)
    configured: Provider | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def instance(self, peer: str) -> Provider:
        """The connection's own, made when first asked for."""
        with self.lock:
            if peer not in self.by_peer:
                self.by_peer[peer] = self.factory()
                if len(self.by_peer) > _MAX_CONNECTIONS:
                    _, oldest = self.by_peer.popitem(last=False)
                    if oldest is not self.configured:
                        oldest.close()
            self.by_peer.move_to_end(peer)
            return self.by_peer[peer]

    def introduced(self, peer: str) -> Provider:
        """As `instance`, for the calls with which an engine begins.

        One that was cancelled begins nothing: its address is another engine's by now, for which it must not be cancelled.
        """
        with self.lock:
            known = self.by_peer.get(peer)
            if known is not None and known.cancelled.is_set():
                del self.by_peer[peer]
        return self.instance(peer)

    def working_instance(self, peer: str) -> Provider:
        """As `instance`, but an unknown connection is one that an idle engine has made anew, after `configure`."""
        with self.lock:
            if peer not in self.by_peer and self.configured is not None:
                self.by_peer[peer] = self.configured
        return self.instance(peer)

    def note_configured(self, provider: Provider) -> None:
        with self.lock:
            self.configured = provider

    def close(self) -> None:
        with self.lock:
            for provider in set(self.by_peer.values()):
                provider.close()
            self.by_peer.clear()


def _call(work: Callable[..., Any], of: Callable[[_Connections, str], Provider] = _Connections.working_instance) -> Any:
    """A method of the protocol, from one that takes the connection's provider and the request: errors go to the engine."""

    def method(self: _Servicer, request: Any, context: grpc.ServicerContext) -> Any:
        provider = of(self.connections, context.peer())
        ended = threading.Event()

        def on_termination() -> None:
            if not ended.is_set():
                # The engine is gone without a message: what this connection asked for is not waited for any more.
                provider.cancelled.set()

        context.add_callback(on_termination)
        try:
            try:
                return work(self, provider, request)
            finally:
                ended.set()
        except PartialFailureError as error:
            _abort_partially(context, error, _hider(request))
        except ProviderError as error:
            context.abort(error.code, _hider(request)(str(error)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the engine's user has to see it
            hide = _hider(request)
            # Not `exception`, whose traceback would end in the error's own text.
            logger.error("a defect of the provider: %s", hide("".join(traceback.format_exception(error))))
            context.abort(grpc.StatusCode.INTERNAL, hide(f"{type(error).__name__}: {error}"))
        raise AssertionError("abort raises")

    return method


_introduction = partial(_call, of=_Connections.introduced)
_configuration = partial(_call, of=_Connections.instance)


class _Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """Translates between messages and `Provider`."""

    def __init__(self, connections: _Connections, creating: Creating) -> None:
        self.connections = connections
        self._creating = creating

    @_introduction
    def GetPluginInfo(self, provider: Provider, request: empty_pb2.Empty) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=provider.version)

    @_introduction
    def Attach(self, provider: Provider, request: plugin_pb2.PluginAttach) -> empty_pb2.Empty:
        provider.attach(request.address)
        return empty_pb2.Empty()

    @_introduction
    def Handshake(self, provider: Provider, request: provider_pb2.ProviderHandshakeRequest) -> provider_pb2.ProviderHandshakeResponse:
        if request.engine_address:
            provider.attach(request.engine_address)
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    @_configuration
    def Cancel(self, provider: Provider, request: empty_pb2.Empty) -> empty_pb2.Empty:
        provider.cancelled.set()
        return empty_pb2.Empty()

    @_configuration
    def CheckConfig(self, provider: Provider, request: provider_pb2.CheckRequest) -> provider_pb2.CheckResponse:
        return _check_response(request, provider.check_config(Urn(request.urn), from_struct(request.olds), from_struct(request.news)))

    @_configuration
    def DiffConfig(self, provider: Provider, request: provider_pb2.DiffRequest) -> provider_pb2.DiffResponse:
        return _diff_response(provider.diff_config(Urn(request.urn), from_struct(request.old_inputs), from_struct(request.news)))

    @_configuration
    def Configure(self, provider: Provider, request: provider_pb2.ConfigureRequest) -> provider_pb2.ConfigureResponse:
        provider.configure(dict(request.variables), from_struct(request.args))
        self.connections.note_configured(provider)
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    @_call
    def Check(self, provider: Provider, request: provider_pb2.CheckRequest) -> provider_pb2.CheckResponse:
        olds = from_struct(request.olds) if request.olds.fields else None
        return _check_response(request, provider.check(Urn(request.urn), olds, from_struct(request.news), request.randomSeed))

    @_call
    def Diff(self, provider: Provider, request: provider_pb2.DiffRequest) -> provider_pb2.DiffResponse:
        return _diff_response(provider.diff(_change(request)))

    @_call
    def Create(self, provider: Provider, request: provider_pb2.CreateRequest) -> provider_pb2.CreateResponse:
        inputs = from_struct(request.properties)
        with contextlib.nullcontext() if request.preview else self._creating(request.urn, inputs):
            created = provider.create(Urn(request.urn), inputs, request.timeout or None, request.preview)
        return provider_pb2.CreateResponse(id=created.id, properties=to_struct(created.outputs))

    @_call
    def Read(self, provider: Provider, request: provider_pb2.ReadRequest) -> provider_pb2.ReadResponse:
        state = provider.read(Urn(request.urn), request.id, from_struct(request.inputs), from_struct(request.properties))
        if state is None:
            return provider_pb2.ReadResponse()
        return provider_pb2.ReadResponse(id=state.id, inputs=to_struct(state.inputs), properties=to_struct(state.outputs))

    @_call
    def Update(self, provider: Provider, request: provider_pb2.UpdateRequest) -> provider_pb2.UpdateResponse:
        change = _change(request, timeout=request.timeout or None, preview=request.preview)
        return provider_pb2.UpdateResponse(properties=to_struct(provider.update(change)))

    @_call
    def Delete(self, provider: Provider, request: provider_pb2.DeleteRequest) -> empty_pb2.Empty:
        inputs, outputs = from_struct(request.old_inputs), from_struct(request.properties)
        provider.delete(Urn(request.urn), request.id, inputs, outputs, request.timeout or None)
        return empty_pb2.Empty()

    @_call
    def Invoke(self, provider: Provider, request: provider_pb2.InvokeRequest) -> provider_pb2.InvokeResponse:
        response = provider_pb2.InvokeResponse()
        # The field's name is a Python keyword.
        getattr(response, "return").CopyFrom(to_struct(provider.invoke(request.tok, from_struct(request.args), request.preview)))
        return response


def _change(request: provider_pb2.DiffRequest | provider_pb2.UpdateRequest, **how: Any) -> Change:
    return Change(
        urn=Urn(request.urn),
        id=request.id,
        old_inputs=from_struct(request.old_inputs),
        old_outputs=from_struct(request.olds),
        new_inputs=from_struct(request.news),
        ignore_changes=tuple(request.ignoreChanges),
        **how,
    )


def _hider(request: Any) -> Callable[[object], str]:
    """Replaces the secret texts of a request in what is said about it."""
    structs = [value for _, value in request.ListFields() if isinstance(value, struct_pb2.Struct)]
    return hiding(from_struct(each) for each in structs)


def _check_response(request: Any, checked: Checked) -> provider_pb2.CheckResponse:
    hide = _hider(request) if checked.failures else str
    return provider_pb2.CheckResponse(
        inputs=to_struct(checked.inputs),
        failures=[provider_pb2.CheckFailure(property=each.property, reason=hide(each.reason)) for each in checked.failures],
    )


_DIFF_KINDS = {
    ("add", False): provider_pb2.PropertyDiff.ADD,
    ("add", True): provider_pb2.PropertyDiff.ADD_REPLACE,
    ("update", False): provider_pb2.PropertyDiff.UPDATE,
    ("update", True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
    ("delete", False): provider_pb2.PropertyDiff.DELETE,
    ("delete", True): provider_pb2.PropertyDiff.DELETE_REPLACE,
}


def _diff_response(difference: Difference) -> provider_pb2.DiffResponse:
    changes = difference.changes
    tops = dict.fromkeys(str(change.path[0]) for change in changes)
    replacing = dict.fromkeys(str(change.path[0]) for change in changes if change.replaces)
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME if changes else provider_pb2.DiffResponse.DIFF_NONE,
        diffs=list(tops),
        replaces=list(replacing),
        deleteBeforeReplace=difference.delete_before_replace and bool(replacing),
        detailedDiff={
            property_path(change.path): provider_pb2.PropertyDiff(kind=_DIFF_KINDS[change.kind, change.replaces], inputDiff=True)
            for change in changes
        },
        hasDetailedDiff=True,
    )


def _abort_partially(context: grpc.ServicerContext, error: PartialFailureError, hide: Callable[[str], str]) -> NoReturn:
    detail = any_pb2.Any()
    detail.Pack(
        provider_pb2.ErrorResourceInitFailed(
            id=error.id,
            properties=to_struct(error.outputs),
            inputs=to_struct(error.inputs),
            reasons=[hide(reason) for reason in error.reasons],
        )
    )
    code: int = error.code.value[0]
    message = hide(str(error))
    status = status_pb2.Status(code=code, message=message, details=[detail])
    # How gRPC carries details: https://grpc.io/docs/guides/error/#richer-error-model.
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(error.code, message)
    raise AssertionError("abort raises")


class ProviderServer:
    """Serves one package on a port of loopback from the moment it is made."""

    def __init__(self, factory: Factory, creating: Creating = _untold) -> None:
        """`creating` is told of each creation."""
        probe = factory()
        self.package = probe.package
        self._connections = _Connections(factory)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"{self.package}-provider")
        # Properties (a kubeconfig, a large manifest) may be longer than gRPC's default of 4 MB.
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._server = grpc.server(self._pool, options=options)
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(_Servicer(self._connections, creating), self._server)
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Takes no more calls, asks the ones in work to end, and drops those that do not in time."""
        stopped = self._server.stop(grace_seconds)
        self._connections.close()
        stopped.wait()
        self._pool.shutdown(wait=False, cancel_futures=True)
