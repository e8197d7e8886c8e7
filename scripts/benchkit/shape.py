"""What a point of a measurement is like, apart from who forwards and how much is sent."""

import dataclasses
import ipaddress

from benchkit.lab import REAL_SERVER_MACS, VIP

FIRST_OF_MANY_VIPS = ipaddress.IPv4Address("10.1.0.1")
FIRST_REAL_SERVER = ipaddress.IPv4Address("10.99.1.1")
# The sink is not told of more: its command line would be too long.
MOST_LISTED = 256


@dataclasses.dataclass(frozen=True)
class Shape:
    """Frames, flows, virtual services and real servers."""

    size: str = "64"
    flows: int = 1000
    services: int = 1
    real_servers: int = 2

    def vips(self):
        if self.services == 1:
            return [VIP]
        return [str(FIRST_OF_MANY_VIPS + number) for number in range(self.services)]

    def service_range(self):
        """The services as the generator's option --service."""
        vips = self.vips()
        return f"udp {vips[0]}:80" if len(vips) == 1 else f"udp {vips[0]}-{vips[-1]}:80"

    def servers(self):
        """(address, MAC) of each real server."""
        return [(str(FIRST_REAL_SERVER + number), real_server_mac(number)) for number in range(self.real_servers)]


def real_server_mac(number):
    if number < len(REAL_SERVER_MACS):
        return REAL_SERVER_MACS[number]
    return f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"


def number(text):
    """10, 10k or 4M, and 4Ki or 1Mi, as a number. Raises ValueError."""
    for ending, factor in (("Ki", 1024), ("Mi", 1024 * 1024), ("k", 1000), ("M", 1_000_000)):
        if text.endswith(ending):
            return round(float(text.removesuffix(ending)) * factor)
    return int(text)
