"""A gRPC server with the health service, as a process: `health_server.py PORT [FOLDER]` (of its certificate).

Each line on its standard input, `SERVICE STATUS`, sets a status; "-" is the server as a whole.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio


async def main() -> None:
    port, *folder = sys.argv[1:]
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health = aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if folder:
        key, chain = ((Path(folder[0]) / name).read_bytes() for name in ("key.pem", "cert.pem"))
        server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(key, chain)]))
    else:
        server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        service, status = line.split()
        await health.set("" if service == "-" else service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        print("set", flush=True)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
