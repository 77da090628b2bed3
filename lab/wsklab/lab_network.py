"""The lab's isolated network, named after the home that it belongs to."""

from __future__ import annotations

from wsklab import network
from wsklab.domain_xml import HostEntry, NetworkSpec
from wsklab.home import Home
from wsklab.lease import FIRST_SLOT, LAST_SLOT

__all__ = ["lab_network", "name_of_network"]


def name_of_network(home: Home) -> str:
    """Its name in libvirt."""
    return f"wsklab-{home.short_id}"


def lab_network(home: Home, subnet: str) -> NetworkSpec:
    """What it is: DHCP for the card of each slot, nobody else.

    Args:
        subnet: the first three numbers of its addresses.
    """
    return NetworkSpec(
        name=name_of_network(home),
        bridge=f"wsk{home.short_id}",
        home=home.id,
        address=f"{subnet}.1",
        hosts=tuple(
            HostEntry(mac=network.mac_of(slot), address=network.address_of(subnet, slot))
            for slot in range(FIRST_SLOT, LAST_SLOT + 1)
        ),
    )
