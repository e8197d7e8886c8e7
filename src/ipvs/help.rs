//! What `-h` and `-v` print.

/// `-v`: the ipvsadm whose language this is, and who speaks it.
pub const VERSION: &str =
    concat!("ipvsadm v1.31 2019/12/24 (pointsman ", env!("CARGO_PKG_VERSION"), " and IPVS v1.2.1)\n");

/// `-h`
pub const USAGE: &str = "\
Usage:
  ipvsadm -A|E virtual-service [-s scheduler] [-p [timeout]] [-M netmask] [-b sched-flags]
  ipvsadm -D virtual-service
  ipvsadm -C
  ipvsadm -R
  ipvsadm -S [-n]
  ipvsadm -a|e virtual-service -r server-address [-g] [-w weight]
  ipvsadm -d virtual-service -r server-address
  ipvsadm -L|l [virtual-service] [options]
  ipvsadm -Z [virtual-service]
  ipvsadm --set tcp tcpfin udp
  ipvsadm -h

This is pointsman, which changes its own running director, not the kernel's IPVS. It is called as
`pointsman ipvs`, or by a link named ipvsadm to it. What is not here, or differs: docs/ipvsadm.md.

Commands:
Either long or short options are allowed.
  --add-service     -A        add virtual service with options
  --edit-service    -E        edit virtual service with options
  --delete-service  -D        delete virtual service
  --clear           -C        clear the whole table
  --restore         -R        restore rules from stdin, all or none
  --save            -S        save rules to stdout
  --add-server      -a        add real server with options
  --edit-server     -e        edit real server with options
  --delete-server   -d        delete real server
  --list            -L|-l     list the table
  --zero            -Z        zero counters in a service or all services
  --set tcp tcpfin udp        set the timeouts of all services
  --help            -h        display this help message

virtual-service:
  --tcp-service|-t  service-address   service-address is host[:port]
  --udp-service|-u  service-address   service-address is host[:port]

Options:
  --scheduler    -s scheduler         one of mh|sh|rr|wrr|lc|wlc, the default scheduler is wlc.
  --persistent   -p [timeout]         persistent service
  --netmask      -M netmask           persistent granularity mask
  --real-server  -r server-address    server-address is host (and the port of the service)
  --gatewaying   -g                   gatewaying (direct routing) (default, and the only one)
  --weight       -w weight            capacity of real server
  --connection   -c                   output of current connections
  --timeout                           output of timeout (tcp tcpfin udp)
  --stats                             output of statistics information
  --rate                              output of rate information
  --exact                             expand numbers (display exact values)
  --thresholds                        output of thresholds information
  --persistent-conn                   output of persistent connection info
  --nosort                            disable sorting output of service/server entries
  --sort                              does nothing, for backwards compatibility
  --numeric      -n                   numeric output of addresses and ports
  --sched-flags  -b flags             scheduler flags (comma-separated): mh-port, sh-port

Before all these, as `pointsman ipvs` only (or in the environment):
  --socket PATH                       control socket of the director (POINTSMAN_SOCKET)
  --persist                           write the changed configuration to its file, too (POINTSMAN_PERSIST=1);
                                      without it changes last until the director is restarted or reloaded

  pointsman ipvs import FILE          print a configuration made of a saved rule set or a keepalived.conf

Exit codes, as those of ipvsadm:
  0    done
  1    what was to be listed is not there
  2    the command line is wrong, or there is no director
  255  the director refuses (Service already exists, No such destination, ...)
";
