"""The way to a Ray cluster: found out within limited time, as Ray itself waits for minutes, and not without noise."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from finetune.errors import DeviceError, SettingError

ON_THIS_MACHINE = "127.0.0.1:6379"
"""Where `ray start --head` listens, unless it is told otherwise."""
ANSWERED_WITHIN = 5.0
"""Seconds until a cluster must answer at all."""
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What HTTP/2, which Ray speaks, begins with: a fixed text, and empty settings (RFC 9113, 3.4)."""
SETTINGS = 4  # the type of the frame that each side sends first
TRIES = "RAY_NUM_REDIS_GET_RETRIES"
"""How often this process asks for the cluster, a second each: 20 times unless it is set before Ray is imported."""


def import_ray() -> Any:
    """Returns the package; raises DeviceError where it isn't installed."""
    os.environ.setdefault(TRIES, "5")
    try:
        return import_module("ray")
    except ImportError as error:
        raise DeviceError(
            f"engine: ray can't be imported ({error}); here and on every machine of the cluster, run: "
            "pip install 'finetune-schedules[ray]'"
        ) from error


def place_of(address: str | None) -> tuple[str, int]:
    """Returns the host and the port of the cluster; raises SettingError for what is no address of one."""
    text = address or os.environ.get("RAY_ADDRESS") or ON_THIS_MACHINE
    host, _, port = text.rpartition(":")
    if "://" in text:
        rule = "is one of Ray's clients; give HOST:PORT, from a machine of the cluster"
    elif not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 2**16:
        rule = "is not HOST:PORT, such as 10.0.0.1:6379"
    else:
        return host.strip("[]"), int(port)
    raise SettingError("address", f"{text} {rule}")


def check_reachable(address: str | None) -> None:
    """Raises DeviceError where nothing that could be a Ray cluster answers at `address` within seconds."""
    host, port = place_of(address)
    try:
        with socket.create_connection((host, port), timeout=ANSWERED_WITHIN) as connection:
            connection.settimeout(ANSWERED_WITHIN)
            connection.sendall(GREETING)
            answer = connection.recv(9)
    except OSError as error:
        reason = f"no answer within {ANSWERED_WITHIN:g} seconds" if isinstance(error, TimeoutError) else str(error)
    else:
        if len(answer) > 3 and answer[3] == SETTINGS:
            return
        reason = "what answers there isn't Ray"
    raise _unreachable(host, port, reason)


def _unreachable(host: str, port: int, reason: str) -> DeviceError:
    return DeviceError(
        f"address: no Ray cluster can be reached at {host}:{port} ({reason}); start one with ray start --head, or give "
        "its address, HOST:PORT, on a machine that belongs to it"
    )


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Yields the package, connected to the cluster; raises DeviceError where it can't be.

    What the program that calls this is connected to already is used, and left so.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    host, port = place_of(address)
    try:
        ray.init(address=f"{host}:{port}", log_to_driver=False, configure_logging=False, logging_level=logging.CRITICAL)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        ray.shutdown()
        raise _unreachable(host, port, str(error).strip().partition("\n")[0]) from error
    try:
        yield ray
    finally:
        ray.shutdown()
