"""Macvlan networks as users see them: who reaches whom in each mode, parents that are found, made and refused, and that nothing stays.

The daemon's namespace is a machine with one cable: up0 leads to a port of the switch `sw0`, a bridge in a namespace of its own, which is also the router 10.77.0.1
of the wire."""

import contextlib
import json
import os
import subprocess
import time

import pytest

from harness import IMAGE, run, wait_until

SUBNET = ["--subnet", "10.77.0.0/24", "--gateway", "10.77.0.1"]
BOTH = [*SUBNET, "--ipv6", "--subnet", "fd00:77::/64", "--gateway", "fd00:77::1"]
HTTPD = ["sh", "-c", "mkdir /www; echo served > /www/index.html; httpd -f -p 80 -h /www"]


def must(*args):
    result = run(*args)
    assert result.code == 0, result
    return result.out


def kernel_has(*kind):
    """Whether this kernel makes links of a kind, tried in a namespace that goes with the try."""
    return run("unshare", "-n", "sh", "-c", "ip link add cable type veth peer name other && ip link add link cable name tried type " + " ".join(kind)).code == 0


needs_vlan = pytest.mark.skipif(not kernel_has("vlan", "id", "5"), reason="this kernel has no 802.1q links (CONFIG_VLAN_8021Q, module 8021q)")
needs_isolated = pytest.mark.skipif(not (kernel_has("dummy") or kernel_has("ifb")), reason="this kernel has neither dummy nor ifb links")
pytestmark = pytest.mark.skipif(not kernel_has("macvlan"), reason="this kernel has no macvlan links (CONFIG_MACVLAN, module macvlan)")


class Wire:
    def __init__(self, daemon, name):
        self.daemon, self.name = daemon, name

    def switch(self, *args):
        """A command in the switch's namespace."""
        return run("ip", "netns", "exec", self.name, *args)

    def hairpin(self, on):
        must("ip", "netns", "exec", self.name, "bridge", "link", "set", "dev", "port0", "hairpin", "on" if on else "off")

    def loses(self, address):
        """Whether the router gets no answer from there."""
        return self.switch("busybox", "ping", "-c1", "-W1", address).code != 0

    def reaches(self, address):
        return wait_until(lambda: not self.loses(address), what=f"an answer from {address}")


def cable(daemon, suffix="w"):
    """A switch and the daemon's machine on a port of it."""
    name = daemon.name + suffix
    must("ip", "netns", "add", name)
    for command in ("link set lo up", "link add sw0 type bridge", "address add 10.77.0.1/24 dev sw0", "address add fd00:77::1/64 dev sw0 nodad", "link set sw0 up"):
        must("ip", "-n", name, *command.split())
    must("ip", "-n", daemon.name, "link", "add", "up0", "type", "veth", "peer", "name", "port0", "netns", name)
    must("ip", "-n", name, "link", "set", "port0", "master", "sw0", "up")
    must("ip", "-n", daemon.name, "link", "set", "up0", "up")
    must("ip", "-n", daemon.name, "address", "add", "10.77.0.250/24", "dev", "up0")
    return Wire(daemon, name)


def unplug(wire):
    run("ip", "-n", wire.daemon.name, "link", "del", "up0")
    run("ip", "netns", "del", wire.name)


@pytest.fixture
def wire(daemon):
    made = cable(daemon)
    yield made
    daemon.remove_everything()
    unplug(made)


@pytest.fixture
def fresh_wire(fresh_daemon):
    made = cable(fresh_daemon)
    fresh_daemon.start()
    yield made
    unplug(made)


def network(daemon, name, *args, parent="up0", mode=None, subnet=SUBNET):
    options = (["-o", "parent=" + parent] if parent else []) + (["-o", "macvlan_mode=" + mode] if mode else [])
    return daemon.docker("network", "create", "-d", "macvlan", *options, *subnet, *args, name)


def refused(daemon, *args):
    result = daemon.docker("network", "create", "-d", "macvlan", *args, check=False)
    assert result.code == 1, result
    return result.err


def start(daemon, name, net, *args, command=("sleep", "1000")):
    daemon.docker("run", "-d", "--name", name, "--network", net, *args, IMAGE, *command)
    return daemon.inspect(name)["NetworkSettings"]["Networks"][net]


def lost(daemon, name, address):
    """Whether the container gets no answer from there."""
    return daemon.docker("exec", name, "ping", "-c1", "-W1", address, check=False).code != 0


def pings(daemon, name, address):
    """Waits for an answer: a neighbour that was sought in vain before is not sought again at once."""
    return wait_until(lambda: not lost(daemon, name, address), what=f"an answer from {address}")


def links_inside(daemon, pid):
    return {link["ifname"]: link for link in json.loads(must("nsenter", "-t", str(pid), "-n", "ip", "-d", "-j", "link"))}


def pid_of(daemon, name):
    return daemon.inspect(name)["State"]["Pid"]


# ---- what a container gets ----

def test_a_container_is_a_machine_on_the_wire(daemon, wire):
    must("ip", "-n", daemon.name, "link", "set", "up0", "mtu", "1400")
    network(daemon, "lan", subnet=BOTH)
    settings = start(daemon, "c1", "lan", "--ip", "10.77.0.50", "--ip6", "fd00:77::50", "--mac-address", "02:42:aa:00:00:50")
    assert (settings["IPAddress"], settings["IPPrefixLen"], settings["Gateway"]) == ("10.77.0.50", 24, "10.77.0.1")
    assert (settings["GlobalIPv6Address"], settings["IPv6Gateway"], settings["MacAddress"]) == ("fd00:77::50", "fd00:77::1", "02:42:aa:00:00:50")
    link = links_inside(daemon, pid_of(daemon, "c1"))["eth0"]
    assert (link["address"], link["mtu"], link["linkinfo"]["info_kind"]) == ("02:42:aa:00:00:50", 1400, "macvlan")
    assert link["linkinfo"]["info_data"]["mode"] == "bridge" and link.get("group") == "default"
    assert "default via 10.77.0.1 dev eth0" in daemon.docker("exec", "c1", "ip", "route").out
    assert "default via fd00:77::1 dev eth0" in daemon.docker("exec", "c1", "ip", "-6", "route").out
    for address in ("10.77.0.50", "fd00:77::50"):
        assert wire.reaches(address)
    assert pings(daemon, "c1", "10.77.0.1") and pings(daemon, "c1", "fd00:77::1")
    assert "02:42:aa:00:00:50" in wire.switch("ip", "neigh").out
    # The machine itself does not reach its macvlan containers: that is how macvlan is.
    assert daemon.command("busybox", "ping", "-c1", "-W1", "10.77.0.50", check=False).code != 0
    assert daemon.command("busybox", "ping", "-c1", "-W1", "10.77.0.1", check=False).code == 0
    assert set(daemon.links()) == {"lo", "up0", "gtbr0"} | {name for name in daemon.links() if name.startswith("gtv")}


def test_a_server_in_a_container_is_reached_from_outside(daemon, wire):
    network(daemon, "lan")
    address = start(daemon, "web", "lan", command=HTTPD)["IPAddress"]
    assert wait_until(lambda: wire.switch("curl", "-s", "-m", "3", f"http://{address}/").out, what="the container's answer") == "served\n"


def test_ranges_and_addresses_of_others(daemon, wire):
    network(daemon, "lan", "--ip-range", "10.77.0.128/30", "--aux-address", "printer=10.77.0.129")
    seen = {start(daemon, f"c{i}", "lan")["IPAddress"] for i in range(3)}
    assert seen == {"10.77.0.128", "10.77.0.130", "10.77.0.131"}
    fourth = daemon.docker("run", "--rm", "--network", "lan", IMAGE, "true", check=False)
    assert fourth.code == 125 and "lan" in fourth.err
    taken = daemon.docker("run", "--rm", "--network", "lan", "--ip", "10.77.0.129", IMAGE, "true", check=False)
    assert taken.code == 125 and "10.77.0.129" in taken.err


def test_the_mtu_option(daemon, wire):
    network(daemon, "lan", "-o", "com.docker.network.driver.mtu=1300")
    start(daemon, "c1", "lan")
    assert links_inside(daemon, pid_of(daemon, "c1"))["eth0"]["mtu"] == 1300
    assert "1500" in refused(daemon, "-o", "parent=up0", "-o", "com.docker.network.driver.mtu=9000", "--subnet", "10.78.0.0/24", "big")


def test_names_are_resolved(daemon, wire):
    network(daemon, "lan")
    start(daemon, "server", "lan", "--network-alias", "db")
    start(daemon, "client", "lan")
    for name in ("server", "db"):
        assert pings(daemon, "client", name)
    assert "nameserver 127.0.0.11" in daemon.docker("exec", "client", "cat", "/etc/resolv.conf").out


def test_a_container_that_starts_again_keeps_its_addresses(daemon, wire):
    network(daemon, "lan")
    start(daemon, "c1", "lan", "--ip", "10.77.0.60", "--mac-address", "02:42:aa:00:00:60")
    for _ in range(5):
        daemon.docker("restart", "-t", "0", "c1")
        assert links_inside(daemon, pid_of(daemon, "c1"))["eth0"]["address"] == "02:42:aa:00:00:60"
        assert pings(daemon, "c1", "10.77.0.1")


def test_two_containers_cannot_have_one_mac(daemon, wire):
    network(daemon, "lan")
    start(daemon, "c1", "lan", "--mac-address", "02:42:aa:00:00:61")
    second = daemon.docker("run", "--name", "c2", "--network", "lan", "--mac-address", "02:42:aa:00:00:61", IMAGE, "true", check=False)
    assert second.code == 125 and "02:42:aa:00:00:61" in second.err
    assert pings(daemon, "c1", "10.77.0.1")


def test_published_ports_are_refused(daemon, wire):
    network(daemon, "lan")
    result = daemon.docker("run", "--name", "c1", "--network", "lan", "-p", "8080:80", IMAGE, "true", check=False)
    assert result.code == 125 and "macvlan cannot publish ports" in result.err
    assert daemon.state("c1") == "created"


def test_connect_and_disconnect(daemon, wire):
    network(daemon, "lan")
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "1000")
    daemon.docker("network", "connect", "--ip", "10.77.0.70", "lan", "c1")
    assert wire.reaches("10.77.0.70")
    assert set(links_inside(daemon, pid_of(daemon, "c1"))) == {"lo", "eth0", "eth1"}
    daemon.docker("network", "disconnect", "lan", "c1")
    assert set(links_inside(daemon, pid_of(daemon, "c1"))) == {"lo", "eth0"}
    assert wire.loses("10.77.0.70")
    daemon.docker("network", "connect", "lan", "c1")
    daemon.docker("network", "disconnect", "bridge", "c1")
    assert "default via 10.77.0.1 dev eth1" in daemon.docker("exec", "c1", "ip", "route").out


def test_a_name_that_the_container_has_already_is_told(daemon, wire):
    network(daemon, "lan")
    daemon.docker("run", "-d", "--name", "c1", "--cap-add", "NET_ADMIN", IMAGE, "sleep", "1000")
    must("nsenter", "-t", str(pid_of(daemon, "c1")), "-n", "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "other")
    result = daemon.docker("network", "connect", "lan", "c1", check=False)
    assert result.code == 1 and "interface eth1 already" in result.err
    assert set(links_inside(daemon, pid_of(daemon, "c1"))) == {"lo", "eth0", "eth1", "other"}


# ---- modes ----

def pair(daemon, mode):
    network(daemon, "lan", mode=mode)
    return start(daemon, "c1", "lan")["IPAddress"], start(daemon, "c2", "lan")["IPAddress"]


def test_mode_bridge(daemon, wire):
    first, second = pair(daemon, "bridge")
    assert pings(daemon, "c1", second) and pings(daemon, "c2", first)
    assert wire.reaches(first) and wire.reaches(second)


def test_mode_private(daemon, wire):
    first, second = pair(daemon, "private")
    wire.hairpin(True)
    assert wire.reaches(first) and wire.reaches(second)
    assert lost(daemon, "c1", second) and lost(daemon, "c2", first)


def test_mode_vepa(daemon, wire):
    first, second = pair(daemon, "vepa")
    assert wire.reaches(first) and wire.reaches(second)
    assert lost(daemon, "c1", second)
    wire.hairpin(True)
    assert pings(daemon, "c1", second) and pings(daemon, "c2", first)
    wire.hairpin(False)
    assert lost(daemon, "c2", first)


def test_mode_passthru(daemon, wire):
    before = links_inside(daemon, daemon.process.pid)["up0"]["address"]
    network(daemon, "lan", mode="passthru")
    settings = start(daemon, "c1", "lan")
    assert wire.reaches(settings["IPAddress"])
    assert settings["MacAddress"] == before
    second = daemon.docker("run", "--name", "c2", "--network", "lan", IMAGE, "true", check=False)
    assert second.code == 125 and "one container alone" in second.err
    for _ in range(3):
        daemon.docker("restart", "-t", "0", "c1")
        assert pings(daemon, "c1", "10.77.0.1")
    daemon.docker("rm", "-f", "c1")
    assert start(daemon, "c3", "lan", "--mac-address", "02:42:aa:00:00:77")["MacAddress"] == "02:42:aa:00:00:77"
    assert wire.reaches(daemon.inspect("c3")["NetworkSettings"]["Networks"]["lan"]["IPAddress"])
    daemon.docker("rm", "-f", "c3")
    wait_until(lambda: links_inside(daemon, daemon.process.pid)["up0"]["address"] == before, what="the parent's own MAC")


def test_networks_share_a_parent_but_not_in_mode_passthru(daemon, wire):
    network(daemon, "one")
    network(daemon, "two", subnet=["--subnet", "10.79.0.0/24"])
    assert "used by network" in refused(daemon, "-o", "parent=up0", "-o", "macvlan_mode=passthru", "--subnet", "10.80.0.0/24", "three")
    start(daemon, "c1", "one")
    start(daemon, "c2", "two")
    daemon.docker("rm", "-f", "c1", "c2")
    daemon.docker("network", "rm", "one", "two")
    network(daemon, "three", mode="passthru")
    assert "passthru" in refused(daemon, "-o", "parent=up0", "--subnet", "10.81.0.0/24", "four")


# ---- parents ----

@pytest.mark.parametrize("options, words", [
    (["-o", "parent=none0"], "parent none0 does not exist"),
    (["-o", "parent=none0.50"], "no interface none0"),
    (["-o", "parent=up0.4095"], "1 to 4094"),
    (["-o", "parent=up0.0"], "1 to 4094"),
    (["-o", "parent=up0.050"], "1 to 4094"),
    (["-o", "parent=lo"], "loopback"),
    (["-o", "parent=a/b"], "cannot name an interface"),
    (["-o", "parent=gtmabc"], "gtm"),
    (["-o", "parent=up0", "-o", "macvlan_mode=passthrough"], "bridge, private, vepa and passthru"),
    (["-o", "parent=up0", "-o", "macvlan_flag=x"], 'unknown option "macvlan_flag"'),
    (["-o", "macvlan_mode=passthru"], "no option parent"),
    (["-o", "parent=up0", "-o", "com.docker.network.driver.mtu=1x"], "68 to 65535"),
])
def test_what_cannot_be_is_refused_by_name(daemon, wire, options, words):
    before = daemon.links()
    said = refused(daemon, *options, "--subnet", "10.82.0.0/24", "odd")
    assert words in said and "odd" in said and said.count("\n") == 1
    assert daemon.links() == before
    assert daemon.docker("network", "ls", "-q", "--filter", "name=odd").out == ""


def test_endpoint_options_are_refused(daemon, wire):
    network(daemon, "lan")
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "1000")
    result = daemon.docker("network", "connect", "--driver-opt", "speed=fast", "lan", "c1", check=False)
    assert result.code == 1 and 'unknown endpoint option "speed"' in result.err


def test_a_parent_that_belongs_to_a_bridge_is_told(daemon, wire):
    network(daemon, "lan")
    must("ip", "-n", daemon.name, "link", "add", "br9", "type", "bridge")
    must("ip", "-n", daemon.name, "link", "set", "up0", "master", "br9")
    try:
        result = daemon.docker("run", "--name", "c1", "--network", "lan", IMAGE, "true", check=False)
        assert result.code == 125 and "belongs to a bridge" in result.err
    finally:
        must("ip", "-n", daemon.name, "link", "del", "br9")
    daemon.docker("start", "c1")


def test_a_parent_that_is_gone_is_told(daemon, wire):
    network(daemon, "lan")
    must("ip", "-n", daemon.name, "link", "set", "up0", "name", "away0")
    try:
        result = daemon.docker("run", "--name", "c1", "--network", "lan", IMAGE, "true", check=False)
        assert result.code == 125 and "parent up0 does not exist" in result.err
    finally:
        must("ip", "-n", daemon.name, "link", "set", "away0", "name", "up0")
    daemon.docker("start", "c1")
    daemon.docker("rm", "-f", "c1")
    daemon.docker("network", "rm", "lan")
    assert "up0" in daemon.links()


@needs_isolated
@pytest.mark.parametrize("internal", [False, True])
def test_without_a_parent_the_network_is_isolated(daemon, wire, internal):
    nid = network(daemon, "alone", *(["--internal"] if internal else []), parent=None).out.strip()
    assert "gtm" + nid[:12] in daemon.links()
    first, second = start(daemon, "c1", "alone")["IPAddress"], start(daemon, "c2", "alone")["IPAddress"]
    assert pings(daemon, "c1", second) and pings(daemon, "c2", first)
    assert lost(daemon, "c1", "10.77.0.1")
    assert "default" not in daemon.docker("exec", "c1", "ip", "route").out
    daemon.docker("rm", "-f", "c1", "c2")
    daemon.docker("network", "rm", "alone")
    assert "gtm" + nid[:12] not in daemon.links()


def test_an_internal_network_on_a_parent_has_no_default_route(daemon, wire):
    network(daemon, "lan", "--internal")
    start(daemon, "c1", "lan")
    assert daemon.docker("exec", "c1", "ip", "route").out.split() == ["10.77.0.0/24", "dev", "eth0", "scope", "link", "src", "10.77.0.2"]
    daemon.docker("network", "connect", "bridge", "c1")


def test_without_8021q_it_is_said_so(daemon, wire):
    if kernel_has("vlan", "id", "5"):
        pytest.skip("this kernel has 802.1q links")
    assert "8021q" in refused(daemon, "-o", "parent=up0.50", "--subnet", "10.82.0.0/24", "tagged")


CATCH = """
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: the tag that the kernel took off
s.bind(("port0", 0))
s.settimeout(10)
print("listening", flush=True)
while True:
    frame, control, _, _ = s.recvmsg(2048, 256)
    for level, kind, data in control:
        status, _, _, _, _, tag, _ = struct.unpack("IIIHHHH", data[:20])
        if status & 16 and frame[6:12].hex() == sys.argv[1]:
            print(tag & 4095, flush=True)
            sys.exit()
"""


@needs_vlan
def test_a_vlan_is_made_on_demand(daemon, wire):
    network(daemon, "tagged", parent="up0.50")
    link = links_inside(daemon, daemon.process.pid)["up0.50"]
    assert link["linkinfo"]["info_data"]["id"] == 50 and "UP" in link["flags"]
    catcher = subprocess.Popen(["ip", "netns", "exec", wire.name, "python3", "-c", CATCH, "0242aa000050"], stdout=subprocess.PIPE, text=True)
    try:
        assert catcher.stdout.readline() == "listening\n"
        start(daemon, "c1", "tagged", "--mac-address", "02:42:aa:00:00:50", "--ip", "10.77.0.9")
        daemon.docker("exec", "c1", "ping", "-c1", "-W1", "10.77.0.1", check=False)
        assert catcher.stdout.readline() == "50\n"
    finally:
        catcher.kill()
        catcher.wait()
    # One outside that is in the VLAN is reached; the untagged wire is not.
    assert lost(daemon, "c1", "10.77.0.1")
    must("ip", "-n", wire.name, "address", "del", "10.77.0.1/24", "dev", "sw0")
    must("ip", "-n", wire.name, "link", "add", "link", "sw0", "name", "v50", "type", "vlan", "id", "50")
    must("ip", "-n", wire.name, "link", "set", "v50", "up")
    must("ip", "-n", wire.name, "address", "add", "10.77.0.1/24", "dev", "v50")
    assert pings(daemon, "c1", "10.77.0.1") and wire.reaches("10.77.0.9")
    daemon.docker("rm", "-f", "c1")
    network(daemon, "beside", parent="up0.50", subnet=["--subnet", "10.83.0.0/24"])
    daemon.docker("network", "rm", "tagged")
    assert "up0.50" in daemon.links()
    daemon.docker("network", "rm", "beside")
    assert "up0.50" not in daemon.links()


@needs_vlan
def test_a_vlan_that_was_there_before_stays(daemon, wire):
    must("ip", "-n", daemon.name, "link", "add", "link", "up0", "name", "up0.51", "type", "vlan", "id", "51")
    network(daemon, "tagged", parent="up0.51")
    daemon.docker("network", "rm", "tagged")
    assert "up0.51" in daemon.links()
    assert "another name" in refused_when_taken(daemon)
    must("ip", "-n", daemon.name, "link", "del", "up0.51")


def refused_when_taken(daemon):
    must("ip", "-n", daemon.name, "link", "set", "up0.51", "name", "lan51")
    try:
        return refused(daemon, "-o", "parent=up0.51", "--subnet", "10.84.0.0/24", "twice")
    finally:
        must("ip", "-n", daemon.name, "link", "set", "lan51", "name", "up0.51")


@needs_vlan
def test_a_vlan_on_an_interface_that_is_down_is_refused_and_nothing_stays(daemon, wire):
    must("ip", "-n", daemon.name, "link", "set", "up0", "down")
    assert "while the interface that carries it is down" in refused(daemon, "-o", "parent=up0.52", "--subnet", "10.84.0.0/24", "down")
    assert "up0.52" not in daemon.links()


# ---- the daemon's restart and death ----

@pytest.mark.parametrize("crash", [False, True])
def test_networks_and_containers_outlive_the_daemon(fresh_daemon, fresh_wire, crash):
    d = fresh_daemon
    network(d, "lan")
    nid = network(d, "alone", parent=None, subnet=["--subnet", "10.85.0.0/24"]).out.strip() if kernel_has("dummy") or kernel_has("ifb") else None
    address = start(d, "c1", "lan", "--mac-address", "02:42:aa:00:00:90")["IPAddress"]
    before = links_inside(d, pid_of(d, "c1"))["eth0"]["ifindex"]
    d.restart(crash=crash)
    assert fresh_wire.reaches(address)
    assert links_inside(d, pid_of(d, "c1"))["eth0"]["ifindex"] == before
    taken = d.docker("run", "--name", "c2", "--network", "lan", "--mac-address", "02:42:aa:00:00:90", IMAGE, "true", check=False)
    assert taken.code == 125 and "02:42:aa:00:00:90" in taken.err
    d.docker("network", "disconnect", "lan", "c1")
    assert set(links_inside(d, pid_of(d, "c1"))) == {"lo"}
    d.docker("rm", "-f", "c1", "c2")
    d.docker("network", "rm", "lan", *(["alone"] if nid else []))
    assert not [name for name in d.links() if name.startswith("gtm")]
    assert not d.audit()


def test_a_parent_that_comes_late_is_waited_for(fresh_daemon, fresh_wire):
    d = fresh_daemon
    network(d, "lan")
    d.stop()
    must("ip", "-n", d.name, "link", "set", "up0", "name", "away0")
    d.start()
    assert "parent up0 does not exist" in d.log()
    assert "parent up0 does not exist" in d.docker("run", "--rm", "--network", "lan", IMAGE, "true", check=False).err
    must("ip", "-n", d.name, "link", "set", "away0", "name", "up0")
    must("ip", "-n", d.name, "link", "set", "up0", "up")
    assert fresh_wire.reaches(start(d, "c1", "lan")["IPAddress"])


def test_what_a_dead_daemon_left_is_swept(fresh_daemon, fresh_wire):
    d = fresh_daemon
    network(d, "lan")
    start(d, "c1", "lan")
    pid = str(pid_of(d, "c1"))
    d.kill9()
    # A link of a connect that came to no end, one that is not finished, and one of somebody else's.
    must("ip", "-n", d.name, "link", "add", "link", "up0", "name", "t1", "netns", "/proc/" + pid + "/ns/net", "type", "macvlan", "mode", "bridge")
    must("nsenter", "-t", pid, "-n", "ip", "link", "set", "t1", "alias", "gantry endpoint " + "a" * 64)
    must("ip", "-n", d.name, "link", "add", "link", "up0", "name", "t2", "netns", "/proc/" + pid + "/ns/net", "group", str(0x67746d76), "type", "macvlan")
    must("ip", "-n", d.name, "link", "add", "link", "up0", "name", "t3", "netns", "/proc/" + pid + "/ns/net", "type", "macvlan", "mode", "bridge")
    for kind in ("dummy", "ifb"):
        if kernel_has(kind):
            must("ip", "-n", d.name, "link", "add", "gtmaaaaaaaaaaaa", "type", kind)
            break
    d.start()
    wait_until(lambda: set(links_inside(d, pid)) == {"lo", "eth0", "t3"}, what="the sweep")
    assert "gtmaaaaaaaaaaaa" not in d.links()
    assert pings(d, "c1", "10.77.0.1")


@needs_vlan
@pytest.mark.parametrize("crash", [False, True])
def test_a_vlan_of_ours_is_known_after_a_restart(fresh_daemon, fresh_wire, crash):
    d = fresh_daemon
    network(d, "tagged", parent="up0.50")
    must("ip", "-n", d.name, "link", "add", "link", "up0", "name", "up0.60", "type", "vlan", "id", "60", "protocol", "802.1Q")
    network(d, "other", parent="up0.60", subnet=["--subnet", "10.86.0.0/24"])
    d.restart(crash=crash)
    d.docker("network", "rm", "tagged", "other")
    assert "up0.50" not in d.links() and "up0.60" in d.links()
    d.kill9()
    must("ip", "-n", d.name, "link", "add", "link", "up0", "name", "up0.61", "group", str(0x67746d76), "type", "vlan", "id", "61")
    d.start()
    assert "up0.61" not in d.links() and "up0.60" in d.links()


# ---- other ways to share a namespace ----

def test_a_link_goes_with_its_container_even_where_the_namespace_stays(daemon, wire):
    network(daemon, "lan")
    address = start(daemon, "c1", "lan")["IPAddress"]
    daemon.docker("run", "-d", "--name", "c2", "--network", "container:c1", IMAGE, "sleep", "1000")
    assert pings(daemon, "c2", "10.77.0.1") and wire.reaches(address)
    pid = pid_of(daemon, "c2")
    daemon.docker("stop", "-t", "0", "c1")
    wait_until(lambda: set(links_inside(daemon, pid)) == {"lo"}, what="the end of the first container's link")
    assert wire.loses(address)
    daemon.docker("start", "c1")
    assert wire.reaches(daemon.inspect("c1")["NetworkSettings"]["Networks"]["lan"]["IPAddress"])


def test_network_of_another_container(daemon):
    daemon.docker("run", "-d", "--name", "c1", "--hostname", "first", IMAGE, *HTTPD)
    own = daemon.docker("exec", "c1", "readlink", "/proc/self/ns/net").out
    shared = daemon.docker("run", "--rm", "--network", "container:c1", IMAGE, "sh", "-c", "readlink /proc/self/ns/net; hostname; cat /etc/hosts").out.splitlines()
    assert shared[0] + "\n" == own and shared[1] == "first"
    assert any(line.endswith("\tfirst") for line in shared)
    wait_until(lambda: daemon.docker("run", "--rm", "--network", "container:c1", IMAGE, "wget", "-qO-", "http://127.0.0.1/", check=False).out == "served\n",
               what="the neighbour's answer on loopback")
    for clash in (["-p", "80:80"], ["--expose", "80"], ["--hostname", "second"], ["--link", "c1"], ["--dns", "1.1.1.1"], ["--add-host", "a:1.2.3.4"], ["--mac-address", "02:42:ac:11:00:99"]):
        client = daemon.gantry if "--link" in clash else daemon.docker      # old docker clients have a refusal of their own
        result = client("run", "--rm", "--network", "container:c1", *clash, IMAGE, "true", check=False)
        assert result.code == 125 and "conflicting options" in result.err, result
    daemon.docker("run", "-d", "--name", "c2", "--network", "container:c1", IMAGE, "sleep", "1000")
    assert daemon.inspect("c2")["HostConfig"]["NetworkMode"] == "container:" + daemon.inspect("c1")["Id"]
    assert daemon.docker("network", "connect", "bridge", "c2", check=False).code == 1
    daemon.docker("stop", "-t", "0", "c1", "c2")
    gone = daemon.docker("start", "c2", check=False)
    assert gone.code == 1 and "non running container" in gone.err
    missing = daemon.docker("run", "--rm", "--network", "container:nobody", IMAGE, "true", check=False)
    assert missing.code == 125 and "nobody" in missing.err


def test_host_and_none_are_what_they_say(daemon):
    names = daemon.docker("run", "--rm", "--network", "host", IMAGE, "ls", "/sys/class/net").out.split()
    assert sorted(names) == sorted(daemon.links())
    assert daemon.docker("run", "--rm", "--network", "host", IMAGE, "hostname").out == os.uname().nodename + "\n"
    show = daemon.docker("run", "--rm", "--network", "none", IMAGE, "sh", "-c", "ip route; ip -o addr").out
    assert "eth0" not in show and "127.0.0.1/8" in show
    daemon.docker("run", "-d", "--name", "h1", "--network", "host", IMAGE, "sleep", "1000")
    daemon.docker("run", "-d", "--name", "n1", "--network", "none", IMAGE, "sleep", "1000")
    for name in ("h1", "n1"):
        assert daemon.docker("network", "connect", "bridge", name, check=False).code == 1
    assert daemon.inspect("n1")["NetworkSettings"]["Networks"]["none"]["IPAddress"] == ""
