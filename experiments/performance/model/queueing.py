"""Closed forms of queues, against which the simulation is checked. Pure.

Source: Erlang's delay formula, and the two-moment approximation of Allen and Cunneen, as in Allen, *Probability,
Statistics and Queueing Theory*, 2nd ed. (1990), chapter 5.
"""

from __future__ import annotations


def waiting_probability(servers: int, load: float) -> float:
    """Erlang C: the share of arrivals that wait. *load*: arrivals/s times seconds of service, below *servers*.

    By the recursion of Erlang B, which does not overflow.
    """
    if not 0 <= load < servers:
        raise ValueError(f"a load of {load:g} on {servers} servers has no steady state")
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1.0 - (1.0 - blocked) * load / servers)


def wait_mmc(servers: int, rate: float, service_s: float) -> float:
    """Mean seconds in the queue of M/M/c; exact."""
    load = rate * service_s
    return waiting_probability(servers, load) * service_s / (servers - load)


def wait_mgc(servers: int, rate: float, service_s: float, variation: float) -> float:
    """Of M/G/c, approximately. *variation*: standard deviation of the service time over its mean."""
    return wait_mmc(servers, rate, service_s) * (1.0 + variation**2) / 2.0
