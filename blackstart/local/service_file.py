"""The description of a set of test services: hosts, files, what to start and how to tell that it serves (YAML).

Invariant: a description that was loaded names only hosts that it has, and every text in it is a sound template.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import jinja2
import msgspec
from msgspec import Meta

from blackstart.document import load_mapping
from blackstart.local import mounts
from blackstart.local.cluster import bed as cluster_bed
from protos.error import Problem, SpecError

Text = Annotated[str, Meta(min_length=1)]
Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,30}$")]
Scalar = str | int | float | bool
_TEMPLATES: Final = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - no HTML


class HostPart(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One host. *labels* are its agent's; *disk_mb* > 0: its folder is a disk of its own, kept over reboots."""

    labels: dict[str, str] = {}
    disk_mb: Annotated[int, Meta(ge=0, le=100_000)] = 0  # megabytes, taken as they are used
    agent: bool = True


class FilePart(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A file in the folder of each of *hosts*; *content* is a template."""

    name: Annotated[str, Meta(pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    hosts: list[Name]
    content: str
    mode: Annotated[str, Meta(pattern="^[0-7]{3}$")] = "644"


class ServicePart(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A program that runs on *hosts*. *command* and *ready* are templates for a shell; ready ends with status 0."""

    name: Name
    hosts: list[Name]
    command: Text
    ready: str = ""
    ready_s: Annotated[float, Meta(gt=0, le=600)] = 30.0
    restart_s: Annotated[float, Meta(ge=0, le=600)] | None = None  # after its end it is started again; null: never


class ServiceSet(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The file. Templates know host, address, dir, hosts (name -> address), here, python and the *variables*.

    *here* is the folder of the file, *python* the one that Blackstart runs on; *resolver* the host that answers all
    others' DNS questions.
    """

    version: Annotated[int, Meta(ge=1, le=1)]
    title: Text
    description: Text
    needs: list[Text] = []  # programs
    variables: dict[str, Scalar] = {}
    hosts: dict[Name, HostPart]
    files: list[FilePart] = []
    services: list[ServicePart] = []
    cluster: cluster_bed.ClusterPart | None = None  # Kubernetes, with some of the hosts as its nodes
    resolver: Name | None = None
    reboot_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0  # how long a host that lost its power stays away

    def missing(self) -> list[str]:
        """Programs, and for disks loop devices, that are not here."""
        found = [name for name in self.needs if shutil.which(name) is None]
        if any(host.disk_mb for host in self.hosts.values()):
            found += mounts.lacking_for_disks()
        if self.cluster is not None:
            found += cluster_bed.missing()
        return found


def load(path: Path, variables: dict[str, str] | None = None) -> ServiceSet:
    """The set in the file *path*, with *variables* in the place of its own; SpecError with all that is wrong."""
    document = load_mapping(path)
    try:
        found = msgspec.convert(document.content, ServiceSet)
    except msgspec.ValidationError as error:
        raise SpecError(Problem(str(path), str(error))) from error
    known = ", ".join(found.variables) or "none"
    problems = [
        Problem(f"variable {name}", f"{path.name} has none of that name", f"it has: {known}")
        for name in (variables or {})
        if name not in found.variables
    ]
    if found.resolver is not None and found.resolver not in found.hosts:
        problems.append(Problem(document.where("resolver"), f"there is no host {found.resolver!r}"))
    if found.cluster is not None:
        problems += _parts(found, document.where("cluster"), found.cluster.nodes, [], {})
    found.variables |= {**(variables or {}), "here": str(path.absolute().parent), "python": sys.executable}
    example = _example(found)
    if found.cluster is not None:
        problems += _parts(found, document.where("cluster.objects"), [], _texts(found.cluster), example)
    for at, file in enumerate(found.files):
        problems += _parts(found, document.where(f"files[{at}]"), file.hosts, [file.content], example)
    for at, service in enumerate(found.services):
        texts = [service.command, service.ready]
        problems += _parts(found, document.where(f"services[{at}]"), service.hosts, texts, example)
    if problems:
        raise SpecError(*problems)
    return found


def _texts(cluster: cluster_bed.ClusterPart) -> list[str]:
    flags = [flag for flags in cluster.flags.values() for flag in flags]
    return [*flags, *(str(value) for value in cluster.kubelet.values()), cluster.objects]


def rendered(text: str, values: dict[str, Any]) -> str:
    """A template of the file with its values put in."""
    return _TEMPLATES.from_string(text).render(values)


def _example(found: ServiceSet) -> dict[str, Any]:
    hosts = {name: f"10.77.0.{number}" for number, name in enumerate(found.hosts, 1)}
    return {**found.variables, "host": "x", "address": "10.77.0.1", "dir": "/d", "hosts": hosts}


def _parts(found: ServiceSet, where: str, hosts: list[str], texts: list[str], example: dict[str, Any]) -> list[Problem]:
    problems = [
        Problem(where, f"there is no host {name!r}", f"there are: {', '.join(found.hosts)}")
        for name in hosts
        if name not in found.hosts
    ]
    for text in texts:
        try:
            rendered(text, example)
        except jinja2.TemplateError as error:
            problems.append(Problem(where, f"not a sound template: {error}"))
    return problems
