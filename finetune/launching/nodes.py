"""The machines of a run: which this one is, and where they meet."""

from __future__ import annotations

import errno
import socket
import time
from dataclasses import dataclass, replace

import psutil

from finetune.errors import DeviceError, SettingError
from finetune.launching.modes import Mode

HIGHEST_PORT = 65535
RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Endpoint:
    """Where machines meet: an address of the one of rank 0, and a port that is free there."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Nodes:
    """The machines of a run, of which this one is number `rank`.

    `join_timeout`: the seconds that they have to come together. `max_restarts`: how often the processes of a machine
    are started anew, from the last checkpoint, where one of them, or of another machine, died. `address`, `interface`:
    those of this machine by which it reaches the others, where they are known.
    """

    machines: int = 1
    rank: int = 0
    rendezvous: Endpoint | None = None
    join_timeout: int = 300
    max_restarts: int = 0
    address: str | None = None
    interface: str | None = None


def parse_endpoint(text: str) -> Endpoint:
    """Returns the endpoint written as HOST:PORT, or [ADDRESS]:PORT for IPv6; raises SettingError for anything else."""
    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    if not host or (":" in host) is not is_bracketed or not port.isdecimal() or not 0 < int(port) <= HIGHEST_PORT:
        raise SettingError(
            "--rendezvous",
            f'"{text}" is not HOST:PORT, such as node1:29500: an address of the machine of rank 0, and a port from 1 '
            f"to {HIGHEST_PORT} that is free there",
        )
    return Endpoint(host, int(port))


def nodes_of(
    mode: Mode,
    *,
    machines: int | None = None,
    rank: int | None = None,
    rendezvous: str | None = None,
    join_timeout: int = 300,
    max_restarts: int = 0,
) -> Nodes:
    """Returns the machines of a launch; raises SettingError for what doesn't go together."""
    count = mode.machines if machines is None else machines
    endpoint = None if rendezvous is None else parse_endpoint(rendezvous)
    for option, value, least in (
        ("--machines", count, 1),
        ("--join-timeout", join_timeout, 1),
        ("--max-restarts", max_restarts, 0),
    ):
        if value < least:
            raise SettingError(option, f"{value} is not {least} or more")
    if count > 1:
        _check_several(mode, count, rank=rank, has_endpoint=endpoint is not None)
    elif rank or endpoint is not None:
        raise SettingError("--machines", f"{count}: --rank and --rendezvous are for several; give their number too")
    if max_restarts and not mode.is_distributed:
        raise SettingError("--max-restarts", f"{max_restarts}: {mode.name} is for one process, which nothing restarts")
    return Nodes(count, rank or 0, endpoint, join_timeout, max_restarts)


def _check_several(mode: Mode, count: int, *, rank: int | None, has_endpoint: bool) -> None:
    if not mode.is_distributed:
        instead = "cpu_2_processes" if mode.uses_cpu else "multi_node"
        raise SettingError("--machines", f"{count}: {mode.name} is for one process; several take --on {instead}")
    if rank is None:
        raise SettingError("--rank", f"missing: which of the {count} machines is this one? From 0 to {count - 1}")
    if not 0 <= rank < count:
        raise SettingError("--rank", f"{rank} is not from 0 to {count - 1}, the numbers of {count} machines")
    if not has_endpoint:
        raise SettingError("--rendezvous", "missing: HOST:PORT, an address of the machine of rank 0 and a free port")


def located(nodes: Nodes) -> Nodes:
    """Returns `nodes` with this machine's address and interface on the way to where they meet.

    torch and gloo go by the name of the machine instead, which may stand for 127.0.1.1.
    """
    if nodes.rendezvous is None:
        return nodes
    host, port = nodes.rendezvous.host, nodes.rendezvous.port
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.connect(place)  # sends nothing
            address = trial.getsockname()[0]
    except OSError:
        return nodes
    found = [name for name, known in psutil.net_if_addrs().items() if address in (each.address for each in known)]
    return replace(nodes, address=address, interface=next(iter(found), None))


def check_rendezvous(nodes: Nodes) -> None:
    """Waits until the machine of rank 0 answers, or, where it is this one, sees to it that it can.

    Raises DeviceError where the address or the port can't be had, within the time that machines have to join.
    """
    endpoint = nodes.rendezvous
    if endpoint is None or nodes.machines == 1:
        return
    try:
        addresses = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DeviceError(
            f"--rendezvous: {endpoint.host} has no address ({error.strerror}); give a name or an address of the "
            "machine of rank 0 that this one knows"
        ) from error
    if nodes.rank == 0:
        _check_port_is_free(endpoint, addresses[0][0])
    else:
        _wait_for_answer(endpoint, seconds=nodes.join_timeout)


def _check_port_is_free(endpoint: Endpoint, family: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", endpoint.port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"can't be had ({error.strerror})"
            raise DeviceError(
                f"--rendezvous: port {endpoint.port} of this machine {why}; give another, on all machines"
            ) from error


def _wait_for_answer(endpoint: Endpoint, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        left = max(deadline - time.monotonic(), RETRY_SECONDS)
        try:
            socket.create_connection((endpoint.host, endpoint.port), timeout=left).close()
        except OSError as error:
            if deadline - time.monotonic() > RETRY_SECONDS:
                time.sleep(RETRY_SECONDS)
                continue
            raise DeviceError(
                f"--rendezvous: {endpoint} didn't answer within {seconds:g} s ({error.strerror or 'timed out'}); see "
                "that the machine of rank 0 was started, that this is its address and that no firewall is between, or "
                "give --join-timeout more seconds"
            ) from error
        return
