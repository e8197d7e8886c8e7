"""What is wrong with runs, a sentence each. How fast anything was is not judged."""


def faults_of(point, runs):
    """Of one contender's runs at a point."""
    found = []
    for number, run in enumerate(runs, start=1):
        if "error" in run:
            found.append(f"{point.label}: {run['contender']}: run {number}: {run['error']}")
            continue
        for what in closed_loop_faults(run) if point.loop == "closed" else open_loop_faults(run, point.gentle):
            found.append(f"{point.label}: {run['contender']}: run {number}: {what}")
    return found


def closed_loop_faults(run):
    return [] if run["alive_at_end"] else ["all frames that went round were lost"]


def open_loop_faults(run, gentle):
    sent, sink, director = run["generator"]["sent"], run["sink"], run["contender_document"]
    if not sink["received"]["packets"]:
        return ["nothing came through"]
    faults = [
        f"the sink finds {sink[what]} {what}"
        for what in ("duplicates", "corrupted", "wrong_mac", "affinity_breaks")
        if sink[what]
    ]
    if not gentle:
        return faults
    if not sink["sound"]:
        faults.append("the sink finds faults where nothing should be lost")
    if sent != sink["received"]:
        faults.append(f"sent {sent}, received {sink['received']}")
    return faults if director is None else faults + director_faults(sent, sink, director)


def director_faults(sent, sink, director):
    inside = {}
    for service in director["virtual_services"]:
        for server in service["real_servers"]:
            inside[server["next_hop"]] = inside.get(server["next_hop"], 0) + server["tx"]["packets"]
    outside = {server["mac"]: server["received"]["packets"] for server in sink["real_servers"]}
    checks = (
        ("the director did not receive what was sent", director["totals"]["received"] == sent),
        ("the sink did not receive what the director sent", director["totals"]["tx"] == sink["received"]),
        (f"real servers: {inside} inside, {outside} outside", inside == outside),
        ("the director was slower than the whole way", in_order(director, sink)),
    )
    return [what for what, right in checks if not right]


def in_order(director, sink):
    inside, outside = director["totals"]["latency"]["p50"], sink["latency"]["p50"]
    return inside is not None and outside is not None and inside <= outside
