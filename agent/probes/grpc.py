"""`grpc`: the server's health service says that it, or one of its services, serves.

gRPC's own client waits between two tries to connect, up to minutes, which would be measured in the place of the
service. So a channel that failed is never used again: the next attempt connects anew, at once.
Source: grpc.health.v1 (docs of gRPC, "Health checking"); gRPC core, "Connection backoff".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from agent.probes.base import ProbeSpec
from agent.probes.limit import Limit
from agent.system import small_file
from protos.recovery import Code

if TYPE_CHECKING:
    import grpc.aio

_METHOD: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"  # HealthCheckResponse: field 1, a number: 1
_CA_BYTES: Final = 1_000_000
# Subchannels are shared by address in a process, with their waiting times, unless this is asked for.
_OPTIONS: Final = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]

_TIMES: Final = tuple(f"grpc.{which}_reconnect_backoff_ms" for which in ("initial", "min", "max"))


class GrpcSpec(ProbeSpec):
    """*target*: host:port. *service*: empty for the server as a whole. *keepalive*: one channel as long as it works."""

    target: str
    service: str = ""
    tls: bool = False
    ca_path: str = ""  # authority of the server's certificate; empty: gRPC's own list
    server_name: str = ""  # that the certificate is held against; empty: the host of *target*
    keepalive: bool = True

    def problems(self) -> list[tuple[str, str]]:
        found = []
        host, colon, port = self.target.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
            found.append(("target", f"{self.target!r} is not host:port"))
        if len(self.service.encode()) > 1000:
            found.append(("service", "is longer than 1000 bytes"))
        if not self.tls and (self.ca_path or self.server_name):
            found.append(("tls", "is needed for ca_path and server_name"))
        if self.ca_path:
            try:
                small_file.read(self.ca_path, _CA_BYTES)
            except (OSError, ValueError) as error:
                found.append(("ca_path", f"cannot read certificates from {self.ca_path}: {error}"))
        return found


class _Channel:
    """A channel and the attempts that use it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel, self.users = channel, 0
        self.call: Any = channel.unary_unary(_METHOD)


class GrpcProbe:
    """REFUSED: no connection, or it broke (UNAVAILABLE). BAD: NOT_SERVING, or any other status."""

    kind: ClassVar[str] = "grpc"
    spec_type: ClassVar[type[ProbeSpec]] = GrpcSpec

    def __init__(self, spec: GrpcSpec) -> None:
        self._spec = spec
        self._kept: _Channel | None = None
        name = spec.service.encode()
        self._request = b"\x0a" + _varint(len(name)) + name if name else b""
        self._certificates = small_file.read(spec.ca_path, _CA_BYTES) if spec.ca_path else None

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        """Channels are made by the attempts."""

    async def attempt(self, timeout_s: float) -> Code:
        import grpc

        held = self._kept or _Channel(self._connect(timeout_s))
        if self._spec.keepalive:
            self._kept = held
        held.users += 1
        good = False
        try:
            async with Limit(timeout_s):
                answer: bytes = await held.call(self._request)
            good = True
            return Code.OK if answer.startswith(_SERVING) else Code.BAD
        except TimeoutError:
            return Code.TIMEOUT
        except grpc.aio.AioRpcError as error:
            good = error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            return Code.BAD if good else Code.REFUSED
        finally:
            await self._leave(held, keep=good and self._spec.keepalive)

    async def close(self) -> None:
        if self._kept is not None:
            await self._kept.channel.close()
            self._kept = None

    async def _leave(self, held: _Channel, *, keep: bool) -> None:
        """Gives a channel back; one that failed is for nobody else, and closed when the last has left it."""
        held.users -= 1
        if not keep and self._kept is held:
            self._kept = None
        if self._kept is not held and not held.users:
            await held.channel.close()

    def _connect(self, timeout_s: float) -> grpc.aio.Channel:
        import grpc.aio

        # A connection that a frozen server accepted stays open until these times are over, whoever has given it up.
        times = dict.fromkeys(_TIMES, max(100, round(timeout_s * 1000)))
        options: list[tuple[str, Any]] = [*_OPTIONS, *times.items()]
        if not self._spec.tls:
            return grpc.aio.insecure_channel(self._spec.target, options)
        if self._spec.server_name:
            options.append(("grpc.ssl_target_name_override", self._spec.server_name))
        credentials = grpc.ssl_channel_credentials(root_certificates=self._certificates)
        return grpc.aio.secure_channel(self._spec.target, credentials, options)


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 0x7F | 0x80, number >> 7])
