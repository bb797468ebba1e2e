"""Which of several controllers leads, by a Lease of the cluster (coordination.k8s.io/v1), as client-go elects.

Invariants: the holder counts as gone only when its record has not changed for its own `leaseDurationSeconds` by our
monotonic clock: no two clocks are compared, and the times in the record are for people. A record is replaced only as
it was seen (`resourceVersion`). Who leads counts its renewals from before they were asked for, and gives up well
before the others may take over (`renew_s` < `lease_s`).
This decides who serves. What keeps a leader that does not know it is one no more from writing is the store's fence.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from controller.cluster import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]
_GROUP: Final = "coordination.k8s.io/v1"
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409  # also: there is one of that name already
_RENEW: Final = 2 / 3  # of the lease's duration: client-go's defaults are 15, 10 and 2 s
_RETRY: Final = 2 / 15


class Ask(Protocol):
    """One question to the API server, as `controller.cluster.ApiServer.ask` takes it; ClusterError if it fails."""

    async def __call__(self, method: str, path: str, document: Json | None, timeout_s: float) -> Json: ...


def clock_s() -> float:
    """Seconds, monotonic, and going on while the machine is suspended: other machines do not wait meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Candidate:
    """One controller, that would lead. `win`, then `keep`, then `release`."""

    def __init__(self, ask: Ask, lease: str, lease_s: int, identity: str, clock: Callable[[], float] = clock_s) -> None:
        """*lease* is "namespace/name"; *lease_s* for how many seconds others are to wait for us when we are gone."""
        self._ask, self._clock, self.identity, self._lease_s = ask, clock, identity, lease_s
        self._namespace, _, self._name = lease.partition("/")
        self._path = f"/apis/{_GROUP}/namespaces/{self._namespace}/leases"
        self.renew_s, self._retry_s = lease_s * _RENEW, lease_s * _RETRY
        self._seen: Json = {}
        self._tried = False
        self._seen_s = self._renewed_s = float("-inf")
        self._log = structlog.get_logger("controller.leader")

    def leads(self) -> bool:
        """Whether nobody else may have taken the lease by now."""
        return self._clock() < self._renewed_s + self.renew_s

    async def win(self, tell: Callable[[str], None]) -> None:
        """Returns when the lease is ours. *tell* gets a sentence whenever something else is waited for."""
        told = ""
        while True:
            try:
                holder = await self._attempt()
                said = f"{holder} leads" if holder else ""
            except ClusterError as error:
                said = f"nobody can be asked who leads: the cluster {error}"
            if self.leads():
                return
            if said and said != told:
                tell(said)
                told = said
            await asyncio.sleep(self._retry_s)

    async def keep(self) -> str:
        """Renews the lease for as long as that can be done; returns why we lead no more."""
        said = "the process stood still"
        while True:
            await asyncio.sleep(min(self._retry_s, max(self._left_s(), 0.0)))
            if (left_s := self._left_s()) <= 0:
                return f"the lease could not be renewed for {self.renew_s:.3g} s: {said}"
            try:
                async with asyncio.timeout(left_s):
                    holder = await self._attempt()
            except TimeoutError:
                said = "the cluster does not answer"
            except ClusterError as error:
                said = f"the cluster {error}"
                self._log.warning("the lease is not renewed, tried again", left_s=round(left_s, 1), why=str(error))
            else:
                said = "the process stood still"
                if holder:
                    return f"the lease has been taken by {holder}"

    async def release(self) -> None:
        """Gives the lease back, if it is ours, so that another can take it at once. If that fails, it expires."""
        self._renewed_s = float("-inf")
        if not self._tried:
            return
        try:
            found = await self._look()
            if found is not None and found["spec"].get("holderIdentity") == self.identity:
                now = _now()
                given = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now, "acquireTime": now}
                await self._replace(found, given)
        except ClusterError as error:
            self._log.warning("the lease was not given back, it will expire", why=str(error))

    def _left_s(self) -> float:
        return self._renewed_s + self.renew_s - self._clock()

    async def _attempt(self) -> str:
        """Takes the lease, or renews it; the name of who has it, where that is another."""
        asked_s = self._clock()
        found = await self._look()
        spec: Json = {} if found is None else found["spec"]
        holder = str(spec.get("holderIdentity") or "")
        if holder not in {"", self.identity} and self._lives(spec):
            return holder
        now, again = _now(), holder == self.identity
        ours = {
            "holderIdentity": self.identity, "leaseDurationSeconds": self._lease_s, "renewTime": now,
            "acquireTime": spec.get("acquireTime") or now if again else now,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (found is not None and not again),
        }  # fmt: skip
        self._tried = True
        try:
            if found is None:
                name = {"name": self._name, "namespace": self._namespace}
                new = {"apiVersion": _GROUP, "kind": "Lease", "metadata": name, "spec": ours}
                await self._ask("POST", self._path, new, self.renew_s / 2)
            else:
                await self._replace(found, ours)
        except ClusterError as error:
            if error.code == _CONFLICT:
                return "" if again else "another candidate, who was quicker,"
            raise
        self._renewed_s = asked_s
        return ""

    async def _look(self) -> Json | None:
        """The Lease; None if there is none."""
        try:
            found = await self._ask("GET", f"{self._path}/{self._name}", None, self.renew_s / 2)
        except ClusterError as error:
            if error.code == _NOT_FOUND:
                return None
            raise
        return {**found, "spec": found.get("spec") or {}}

    async def _replace(self, found: Json, changes: Json) -> None:
        """ClusterError with _CONFLICT if it is no longer as it was found."""
        document = {**found, "spec": {**found["spec"], **changes}}
        await self._ask("PUT", f"{self._path}/{self._name}", document, self.renew_s / 2)

    def _lives(self, spec: Json) -> bool:
        """Whether the holder may still be there: its record changed within the time that the record itself names."""
        now_s = self._clock()
        if spec != self._seen:
            self._seen, self._seen_s = spec, now_s
        return now_s < self._seen_s + float(spec.get("leaseDurationSeconds") or self._lease_s)


def _now() -> str:
    """As Kubernetes' MicroTime is written."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
