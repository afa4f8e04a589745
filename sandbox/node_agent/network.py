"""A pod's address, for as long as the pod is there.

Several sandboxes may run on one machine (a person's, and that of tests), and they share its loopback addresses: who uses
one holds a datagram socket on it, which the kernel gives to one process only and takes back when that process dies.
"""

import socket

from sandbox.host.addresses import PodAddresses, to_loopback

#: Any port works if all sandboxes use the same one: pods use TCP, so it collides with nothing.
_CLAIM_PORT = 10250


class PodNetwork:
    """Takes `wanted`, an address from before, if it is still to be had, else any. Raises `OSError`, `RuntimeError`."""

    def __init__(self, addresses: PodAddresses, wanted: str | None = None) -> None:
        self._addresses = addresses
        self._claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if wanted is not None:
            addresses.reserve(wanted)
        address = wanted or addresses.take()
        while not self._claimed(address):
            # Stays taken here: another sandbox has it for an unknown time.
            address = addresses.take()
        self.address = address

    @property
    def loopback(self) -> str:
        """Where the pod's processes really listen."""
        return to_loopback(self.address)

    def release(self) -> None:
        self._claim.close()
        self._addresses.free(self.address)

    def _claimed(self, address: str) -> bool:
        try:
            self._claim.bind((to_loopback(address), _CLAIM_PORT))
        except OSError:
            return False
        return True
