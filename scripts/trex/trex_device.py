"""A device under test between two ports of a running TRex server (stateless mode)."""

import shlex
import sys

from search import Trial

# RFC 2544, section 23: wait for residual frames for two seconds.
RESIDUAL_FRAMES_S = 2
# Preamble, start of frame and the gap between frames; and the checksum, which TRex's packets are without.
BETWEEN_FRAMES, FCS = 20, 4
# A generator that sent less than this part of what it was told to has not tested the rate.
GENERATED_AT_LEAST = 0.99


class DeviceError(Exception):
    """TRex cannot be used as asked."""


def client_library():
    """TRex's client library: of PyPI's lbr-trex-client, or of a TRex installation on PYTHONPATH."""
    if sys.version_info >= (3, 12):
        raise DeviceError(f"TRex's client library needs Python 3.11 or older, and this is {sys.version.split()[0]}")
    try:
        import lbr_trex_client  # noqa: F401 -- makes `trex` importable
    except ImportError:
        pass
    try:
        from trex.stl import api
    except ImportError as error:
        raise DeviceError(
            f"TRex's client library is missing ({error}): pip install lbr-trex-client, "
            "or put TRex's automation/trex_control_plane/interactive on PYTHONPATH"
        ) from error
    return api


class TrexDevice:
    """Sends by the clients' port, and counts by both what comes out at the other."""

    def __init__(self, server, ports, profile):
        self.api = client_library()
        self.ports = ports
        self.profile = profile
        self.streams = {}
        self.client = self.api.STLClient(server=server)
        try:
            self.client.connect()
            self.client.reset(ports=list(ports))
            # The real servers' MAC addresses need not be the port's own.
            self.client.set_port_attr(list(ports), promiscuous=True)
        except self.api.STLError as error:
            raise DeviceError(f"TRex at {server}: {error}") from error

    def describe(self):
        return {
            "server": self.client.get_server_version(),
            "ports": [
                {
                    name: info.get(name)
                    for name in ("index", "driver", "speed", "hw_mac", "layer_mode", "src_mac", "dest", "description")
                }
                for info in self.client.get_port_info(list(self.ports))
            ],
        }

    def load(self, tunables):
        """Takes the profile with these tunables (a dictionary); says what rate fills the line."""
        arguments = [part for name, value in tunables.items() for part in (f"--{name}", str(value))]
        for direction, port in enumerate(self.ports):
            loaded = self.api.STLProfile.load_py(self.profile, direction=direction, port_id=port, tunables=arguments)
            if loaded is None:
                raise DeviceError(f"{self.profile} does not take {shlex.join(arguments)}")
            self.streams[port] = loaded.get_streams()
        if not any(self.streams.values()):
            raise DeviceError(f"{self.profile} has no streams")
        gigabits = self.client.get_port_info([self.ports[0]])[0]["speed"]
        return gigabits * 1e9 / 8 / mean_bytes_on_the_line(next(filter(None, self.streams.values())))

    def measure(self, rate_pps, seconds):
        sending = [port for port, streams in self.streams.items() if streams]
        try:
            # Added anew, so that extremes and histograms of latency are this trial's.
            self.client.remove_all_streams(list(self.ports))
            for port in sending:
                self.client.add_streams(self.streams[port], ports=[port])
            self.client.clear_stats()
            self.client.start(ports=sending, mult=f"{rate_pps:.0f}pps", duration=seconds, force=True)
            self.client.wait_on_traffic(ports=sending, timeout=seconds + 60, rx_delay_ms=RESIDUAL_FRAMES_S * 1000)
            return self.trial(rate_pps, seconds, sending, self.client.get_stats())
        except self.api.STLError as error:
            raise DeviceError(f"TRex, at {rate_pps:.0f} pps: {error}") from error

    def trial(self, rate_pps, seconds, sending, stats):
        counted_by, sent, received = counts(stats, self.streams, self.ports)
        wanted = rate_pps * seconds * len(sending)
        invalid = None
        if sent < GENERATED_AT_LEAST * wanted:
            invalid = f"TRex sent {sent} of {wanted:.0f} frames"
        details = {
            "counted_by": counted_by,
            "queue_full": stats["global"].get("queue_full"),
            "cpu_percent": stats["global"].get("cpu_util"),
            "ports": {
                str(port): {name: stats[port][name] for name in ("opackets", "ipackets", "oerrors", "ierrors")}
                for port in self.ports
            },
            "latency": latency(stats.get("latency", {})),
        }
        return Trial(rate_pps, seconds, sent, received, invalid, details)

    def close(self):
        if self.client.is_connected():
            self.client.stop(list(self.ports))
            self.client.disconnect()


def mean_bytes_on_the_line(streams):
    """Of the streams whose rate is scaled: latency streams keep theirs."""
    scaled = [stream for stream in streams if stream.get_flow_stats_type() != "latency"] or streams
    shares = [(stream.to_json()["mode"]["rate"]["value"], len(stream.get_pkt())) for stream in scaled]
    return sum(share * (length + FCS + BETWEEN_FRAMES) for share, length in shares) / sum(share for share, _ in shares)


def counts(stats, streams, ports):
    """(how it was counted, sent, received): of each stream where all are counted by themselves, else of whole ports.

    The counts of ports have whatever else arrives, such as ARP; one such frame hides one lost frame.
    """
    groups = [stream.get_pg_id() for of_port in streams.values() for stream in of_port]
    if groups and None not in groups:
        flow_stats = stats.get("flow_stats", {})
        found = [flow_stats.get(group) for group in groups]
        if None not in found:
            return "flow statistics", *(sum(group[name]["total"] for group in found) for name in ("tx_pkts", "rx_pkts"))
    sent = received = 0
    for port, other in zip(ports, reversed(ports)):
        if streams.get(port):
            sent += stats[port]["opackets"]
            received += stats[other]["ipackets"]
    return "ports", sent, received


def latency(stats):
    """Of each latency stream: microseconds, and TRex's counts of what its sequence numbers told."""
    found = []
    for group, of_group in sorted((group, entry) for group, entry in stats.items() if isinstance(group, int)):
        time, errors = of_group["latency"], of_group["err_cntrs"]
        found.append(
            {
                "pg_id": group,
                "unit": "us",
                **{name: number(time.get(name)) for name in ("average", "jitter", "total_min", "total_max")},
                "histogram": {str(bucket): count for bucket, count in sorted(time.get("histogram", {}).items())},
                **{
                    name: number(errors.get(name))
                    for name in ("dropped", "out_of_order", "dup", "seq_too_high", "seq_too_low")
                },
            }
        )
    return found


def number(value):
    """TRex has text or objects of its own where it has no number."""
    return value if isinstance(value, (int, float)) else None
