"""Runs the instructions of TRex's field engine, which a TRex server would, on a stream as the client library compiles it.

A program has the variables' instructions first, each of which steps its variable, then those that write and mend.
The tuple generator steps the address first, then the port, and begins anew after `limit_flows`, as TRex documents.
"""

import base64
import random

UDP, TCP = 17, 6


def frames(stream, count):
    """The first frames of a stream (JSON as it goes to the server), as bytes."""
    packet = base64.b64decode(stream["packet"]["binary"])
    program = stream["vm"]["instructions"]
    variables, state = {}, {"random": random.Random(1)}
    for _ in range(count):
        frame = bytearray(packet)
        for instruction in program:
            INSTRUCTIONS[instruction["type"]](instruction, frame, variables, state)
        yield bytes(frame)


def flow_var(instruction, _frame, variables, state):
    if instruction.get("next_var"):
        raise NotImplementedError("chained variables")
    name, step = instruction["name"], instruction["step"]
    values = instruction.get("value_list") or range(instruction["min_value"], instruction["max_value"] + 1)
    turn = state.setdefault(name, 0)
    if instruction["op"] == "random":
        turn = state["random"].randrange(len(values))
    elif instruction["op"] != "inc":
        raise NotImplementedError(instruction["op"])
    state[name] = state[name] + step
    variables[name] = values[turn % len(values)], instruction["size"]


def tuple_flow_var(instruction, _frame, variables, state):
    name, limit = instruction["name"], instruction["limit_flows"]
    flow = state.get(name, 0)
    state[name] = (flow + 1) % limit
    addresses = instruction["ip_max"] - instruction["ip_min"] + 1
    ports = instruction["port_max"] - instruction["port_min"] + 1
    variables[name + ".ip"] = instruction["ip_min"] + flow % addresses, 4
    variables[name + ".port"] = instruction["port_min"] + flow // addresses % ports, 2


def write_flow_var(instruction, frame, variables, _state):
    value, size = variables[instruction["name"]]
    offset = instruction["pkt_offset"]
    order = "big" if instruction["is_big_endian"] else "little"
    frame[offset : offset + size] = (value + instruction["add_value"]).to_bytes(size, order)


def fix_checksum_ipv4(instruction, frame, _variables, _state):
    offset = instruction["pkt_offset"]
    end = offset + (frame[offset] & 15) * 4
    frame[offset + 10 : offset + 12] = bytes(2)
    frame[offset + 10 : offset + 12] = internet_checksum(frame[offset:end]).to_bytes(2, "big")


def fix_checksum_hw(instruction, frame, variables, state):
    network = instruction["l2_len"]
    transport = network + instruction["l3_len"]
    protocol, field = {11: (UDP, 6), 13: (TCP, 16)}[instruction["l4_type"]]
    if frame[network] >> 4 == 4:
        fix_checksum_ipv4({"pkt_offset": network}, frame, variables, state)
    frame[transport + field : transport + field + 2] = bytes(2)
    value = internet_checksum(pseudo_header(frame, network, transport, protocol) + frame[transport:]) or 0xFFFF
    frame[transport + field : transport + field + 2] = value.to_bytes(2, "big")


def pseudo_header(frame, network, transport, protocol):
    if frame[network] >> 4 == 4:
        addresses = frame[network + 12 : network + 20]
        length = int.from_bytes(frame[network + 2 : network + 4], "big") - (transport - network)
    else:
        addresses = frame[network + 8 : network + 40]
        length = int.from_bytes(frame[network + 4 : network + 6], "big")
    return addresses + length.to_bytes(4, "big") + protocol.to_bytes(4, "big")


def internet_checksum(data):
    data = bytes(data) + bytes(len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


INSTRUCTIONS = {
    "flow_var": flow_var,
    "tuple_flow_var": tuple_flow_var,
    "write_flow_var": write_flow_var,
    "fix_checksum_ipv4": fix_checksum_ipv4,
    "fix_checksum_hw": fix_checksum_hw,
}
