"""Pointsman itself, with the settings behind the colon of its name."""

import json
import subprocess

from benchkit.contenders.contender import Contender
from benchkit.shape import MOST_LISTED

# Settings of its [[interface]] that a name may have, and those that are no words.
SETTINGS = ("poll", "mode", "batch", "copy", "busy_poll", "idle_spin_us", "rx_ring", "tx_ring", "fill_ring")
WORDS = ("poll", "mode", "copy")


class Pointsman(Contender):
    """`pointsman`, or `pointsman:KEY=VALUE,...` with keys of [[interface]]."""

    def __init__(self, name):
        self.name = name
        self.settings = settings_of(name)
        if self.settings.get("mode") == '"generic"':
            # What the peer sends by XDP_TX, veth gives to programs in the driver alone.
            self.loops = ("open",)
        said = ", ".join(f"{key} = {value}" for key, value in self.settings.items())
        self.description = f"pointsman run with {said or 'its defaults (adaptive polling, native mode, batch 64)'}; everything counted and timed"

    def real_servers(self, shape):
        servers = shape.servers()
        # What is not listed is not judged by its address.
        return [mac for _, mac in servers] if len(servers) <= MOST_LISTED else []

    def start(self, programs, options, shape, loop):
        config = programs.path("director", "toml")
        config.write_text(self.configuration(programs, shape, loop))
        programs.start("director", "director", [options.binary, "run", "--config", config])
        programs.wait_until("director", lambda: self.document(options, programs) is not None)

    def configuration(self, programs, shape, loop):
        interfaces = (("dir0", True), ("dir1", False)) if loop == "open" else (("dir0", True),)
        text = (
            f'[director]\nsecret = "of the bench"\ncontrol_socket = "{programs.path("control", "sock")}"\n'
            f"flows_per_worker = {max(shape.flows, 1 << 20)}\nannounce = \"arp\"\n"
        )
        for interface, receive in interfaces:
            text += f'\n[[interface]]\nname = "{interface}"\nreceive = {str(receive).lower()}\n'
            text += f'cores = [{programs.lab.cores["director"]}]\n'
            text += "".join(f"{key} = {value}\n" for key, value in self.settings.items())
        servers = "".join(
            f'\n[[virtual_service.real_server]]\naddress = "{address}"\nmac = "{mac}"\n'
            for address, mac in (shape.servers() if loop == "open" else nearby(shape))
        )
        for vip in shape.vips():
            text += f'\n[[virtual_service]]\nvip = "{vip}"\nport = 80\nprotocol = "udp"\nscheduler = "mh"\n{servers}'
        return text

    def document(self, options, programs):
        command = [options.binary, "stats", "--json", "--socket", programs.path("control", "sock")]
        done = subprocess.run(command, capture_output=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None


def nearby(shape):
    """Real servers on the only interface that there is in a closed loop."""
    return [(f"192.168.88.{100 + number}", mac) for number, (_, mac) in enumerate(shape.servers()[:100])]


def settings_of(name):
    """What stands behind the colon, as TOML. Raises ValueError."""
    settings = {}
    for setting in filter(None, name.partition(":")[2].split(",")):
        key, _, value = setting.partition("=")
        if key not in SETTINGS or not value:
            raise ValueError(f"'{setting}' in '{name}' is not one of {', '.join(f'{key}=...' for key in SETTINGS)}")
        if key == "busy_poll":
            value = f"{{ timeout_us = {int(value)} }}"
        settings[key] = f'"{value}"' if key in WORDS else value
    return settings
