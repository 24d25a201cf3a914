"""The address under which other machines reach this one."""

import socket

_OUTSIDE = ("192.0.2.1", 9)
"""An address for documentation only: the route to it is looked up, nothing is ever sent."""


def lan_address() -> str | None:
    """The IPv4 address of the interface that leads out of this machine; None without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(_OUTSIDE)
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return address
