"""A pod's address: its own, kept over a restart when it can be, and never that of another sandbox on the machine."""

from __future__ import annotations

from sandbox.host.addresses import PodAddresses
from sandbox.node_agent.network import PodNetwork


def test_a_pod_keeps_the_address_that_it_had() -> None:
    network = PodNetwork(PodAddresses(), "10.88.254.7")
    try:
        assert network.address == "10.88.254.7"
        assert network.loopback == "127.88.254.7"
    finally:
        network.release()


def test_an_address_that_another_sandbox_uses_is_left_to_it() -> None:
    # Two sandboxes know nothing of each other: each has its own bookkeeping.
    first = PodNetwork(PodAddresses(), "10.88.254.8")
    second = PodNetwork(PodAddresses(), "10.88.254.8")
    try:
        assert first.address == "10.88.254.8"
        assert second.address != first.address
    finally:
        first.release()
        second.release()


def test_a_released_address_can_be_had_again() -> None:
    addresses = PodAddresses()
    PodNetwork(addresses, "10.88.254.9").release()
    again = PodNetwork(addresses, "10.88.254.9")
    try:
        assert again.address == "10.88.254.9"
    finally:
        again.release()
