"""Many flows, 1 k to 10 M of them, one after the other: start -f many_flows.py -m 1mpps -t --flows 10M"""

import dr


class ManyFlows:
    """Each frame is the next flow's, so that none is in any cache when its turn comes again."""

    def get_streams(self, direction, tunables, **kwargs):
        options = dr.parse(dr.tunables_parser(__doc__, flows="1M"), tunables)
        return [] if direction else dr.requests(options, kwargs.get("port_id", 0))


def register():
    return ManyFlows()
