"""The node daemon: carries out orders, injects and ends faults, probes and records, and keeps no port open."""

import os
from typing import Final

__version__ = "0.1.0"

# gRPC reads it when it is first imported. By its handlers of fork, a child that is forked while a thread is within gRPC
# may abort before it becomes the program that it is to be; no child of an agent speaks gRPC before its exec.
FORK_VARIABLE: Final = "GRPC_ENABLE_FORK_SUPPORT"
os.environ[FORK_VARIABLE] = "false"
