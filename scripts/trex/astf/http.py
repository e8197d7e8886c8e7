"""HTTP through a director of direct routing, TCP and all: start -f astf/http.py -m 1000 -t --vip 192.168.88.15

Clients are on TRex's first port, real servers on its second. Requests and acknowledgements pass the director; answers
go from the VIP straight to the clients' port.
"""

import argparse
import ipaddress

from trex.astf.api import (
    ASTFAssociationRule,
    ASTFGlobalInfo,
    ASTFIPGen,
    ASTFIPGenDist,
    ASTFIPGenGlobal,
    ASTFProfile,
    ASTFProgram,
    ASTFTCPClientTemplate,
    ASTFTCPServerTemplate,
    ASTFTemplate,
)

# RFC 2544, appendix C.2.2, and RFC 5180, section 8.
CLIENTS_IPV4, CLIENTS_IPV6 = "198.18.0.1", "2001:2::1"


class Http:
    """One request and one answer for each connection, or several of each."""

    def get_profile(self, tunables, **kwargs):
        parser = argparse.ArgumentParser(
            description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        parser.add_argument(
            "--vip",
            type=ipaddress.ip_address,
            default="192.168.88.15",
            help="first VIP; its version makes IPv4 or IPv6",
        )
        parser.add_argument("--vips", type=int, default=1, help="number of VIPs, one address after the other")
        parser.add_argument("--port", type=int, default=80, help="port of the virtual services")
        parser.add_argument(
            "--clients",
            type=ipaddress.ip_address,
            help=f"first client address (default: {CLIENTS_IPV4} or {CLIENTS_IPV6})",
        )
        parser.add_argument(
            "--client_count", type=int, default=254, help="number of client addresses; at least TRex's cores"
        )
        parser.add_argument("--size", type=int, default=16384, help="bytes in an answer's body")
        parser.add_argument("--requests", type=int, default=1, help="requests of a connection, one after the other")
        parser.add_argument("--cps", type=float, default=1.0, help="new connections a second, multiplied by -m")
        options = parser.parse_args(tunables)
        if options.clients is None:
            options.clients = ipaddress.ip_address(CLIENTS_IPV4 if options.vip.version == 4 else CLIENTS_IPV6)
        if options.clients.version != options.vip.version:
            parser.error("--clients and --vip must be of one IP version")
        return self.profile(options)

    def profile(self, options):
        request, answer = self.messages(options)
        client, server = ASTFProgram(), ASTFProgram()
        for _ in range(options.requests):
            client.send(request)
            server.recv(len(request))
            server.send(answer)
            client.recv(len(answer))
        addresses = self.addresses(options)
        return ASTFProfile(
            default_ip_gen=addresses,
            default_c_glob_info=self.settings(options),
            default_s_glob_info=self.settings(options),
            templates=ASTFTemplate(
                client_template=ASTFTCPClientTemplate(
                    program=client, ip_gen=addresses, port=options.port, cps=options.cps
                ),
                server_template=ASTFTCPServerTemplate(program=server, assoc=ASTFAssociationRule(port=options.port)),
            ),
        )

    @staticmethod
    def messages(options):
        host = options.vip if options.vip.version == 4 else f"[{options.vip}]"
        request = f"GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: trex\r\n\r\n"
        answer = (
            f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {options.size}\r\n\r\n"
            + "*" * options.size
        )
        return request, answer

    @staticmethod
    def addresses(options):
        def span(first, count):
            first = int(first) & 0xFFFFFFFF
            return [str(ipaddress.IPv4Address(end)) for end in (first, first + count - 1)]

        return ASTFIPGen(
            # A second pair of ports has other clients, but the same VIPs.
            glob=ASTFIPGenGlobal(ip_offset="0.1.0.0", ip_offset_server="0.0.0.0"),
            dist_client=ASTFIPGenDist(ip_range=span(options.clients, options.client_count), distribution="seq"),
            dist_server=ASTFIPGenDist(ip_range=span(options.vip, options.vips), distribution="seq"),
        )

    @staticmethod
    def settings(options):
        settings = ASTFGlobalInfo()
        # What makes it direct routing: otherwise TRex's servers answer to the MAC address that a request came from,
        # which is the director's, instead of the one that the port is configured with, the clients' or the gateway's.
        settings.ip.dont_use_inbound_mac = 1
        if options.vip.version == 6:
            settings.ipv6.enable = 1
            settings.ipv6.src_msb = high_96_bits(options.clients)
            settings.ipv6.dst_msb = high_96_bits(options.vip)
        return settings


def high_96_bits(address):
    return str(ipaddress.IPv6Address(int(address) >> 32 << 32))


def register():
    return Http()
