"""Encrypted networks between hosts. Where the kernel has WireGuard: what is seen on the wire, and what comes and goes; where it has not: that they are refused."""

import base64
import contextlib
import inspect
import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile

import pytest

from harness import IMAGE, SLOW, run, wait_until
from test_overlay import (ETCD, FABRIC_HOST, TTL, address, all_meet, check, create, entries, keys_of, links, make_cluster, networks,  # noqa: F401
                          pings, resolves, sleeper)


def has_wireguard():
    netns = f"gtp{os.getpid()}"
    run("ip", "netns", "add", netns)
    try:
        return run("ip", "-n", netns, "link", "add", "probe", "type", "wireguard").code == 0
    finally:
        run("ip", "netns", "del", netns)


WIREGUARD = ETCD is not None and has_wireguard()
pytestmark = pytest.mark.skipif(ETCD is None, reason="etcd is not installed (scripts/install-dependencies --tests)")
encrypts = pytest.mark.skipif(not WIREGUARD, reason="this kernel has no WireGuard (make vm has)")

VXLAN_PORT, WIREGUARD_PORT = 4789, 51871
MARK = b"the-words-that-nobody-is-to-read"
REFUSAL = "encrypted needs WireGuard, which this kernel does not have"


# ---- the wire ----

def capture_into(path):
    """Every frame on the wire, until standard input ends; run in the wire's namespace."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with open(path, "wb") as out:
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([wire, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            frame = wire.recv(65536)
            out.write(struct.pack("!I", len(frame)) + frame)
            out.flush()


CAPTURE = "import select, socket, struct, sys\n" + inspect.getsource(capture_into) + "capture_into(sys.argv[1])"


def udp_of(frame):
    """(source address, destination address, destination port) of a frame, None where it is no UDP."""
    if frame[12:14] == b"\x08\x00" and frame[23] == 17:
        start = 14 + (frame[14] & 15) * 4
        return socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34]), struct.unpack("!H", frame[start + 2:start + 4])[0]
    if frame[12:14] == b"\x86\xdd" and frame[20] == 17:
        return socket.inet_ntop(socket.AF_INET6, frame[22:38]), socket.inet_ntop(socket.AF_INET6, frame[38:54]), struct.unpack("!H", frame[56:58])[0]
    return None


class Seen:
    def __init__(self, data):
        self.frames = []
        while len(data) >= 4:
            size = struct.unpack("!I", data[:4])[0]
            self.frames.append(data[4:4 + size])
            data = data[4 + size:]
        ports = [udp[2] for udp in map(udp_of, self.frames) if udp]
        self.vxlan, self.wireguard = ports.count(VXLAN_PORT), ports.count(WIREGUARD_PORT)
        self.marked = sum(MARK in frame for frame in self.frames)

    def to(self, host):
        """Frames of UDP to a host, but for etcd's."""
        return [udp for udp in map(udp_of, self.frames) if udp and udp[1] == host]


@contextlib.contextmanager
def capture(cluster):
    """Yields a list that has what was seen, once it is left."""
    seen = []
    with tempfile.NamedTemporaryFile(dir=cluster.dir) as file:
        watcher = subprocess.Popen(["nsenter", "--net=/run/netns/" + cluster.fabric.name, "/usr/bin/python3", "-c", CAPTURE, file.name],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert watcher.stdout.readline() == b"ready\n"
        try:
            yield seen
        finally:
            watcher.communicate(b"")
        seen.append(Seen(file.read()))


def inject(cluster, host, vni, mac, ip, text):
    """A frame in the clear, from somebody on the wire who is no host: VXLAN with a datagram for a container's port 7000 in it."""
    six = ":" in host
    datagram = struct.pack("!HHHH", 7000, 7000, 8 + len(text), 0) + text
    packet = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0, socket.inet_aton(ip[:ip.rindex(".")] + ".250"), socket.inet_aton(ip))
    total = sum(struct.unpack("!10H", packet))
    total = (total & 0xffff) + (total >> 16)
    packet = packet[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xffff) + packet[12:]
    inner = bytes.fromhex(mac.replace(":", "")) + b"\x02\x99\x00\x00\x00\x01" + b"\x08\x00" + packet + datagram
    outer = struct.pack("!II", 0x08000000, vni << 8) + inner
    code = ("import socket, sys; socket.socket(socket.AF_INET6 if sys.argv[1] == '6' else socket.AF_INET, socket.SOCK_DGRAM)"
            f".sendto(bytes.fromhex(sys.argv[3]), (sys.argv[2], {VXLAN_PORT}))")
    check("nsenter", "--net=/run/netns/" + cluster.members[0].netns, "/usr/bin/python3", "-c", code, "6" if six else "4", host, outer.hex())


# ---- hosts ----

def doctor_says(host):
    rows = {row["Name"]: row for row in json.loads(host.gantry("system", "doctor", "--format", "json", check=False).out)["Checks"]}
    return rows["network.wireguard"]["Status"]


def create_safe(cluster, *options, on=0, name="safe"):
    create(cluster, name, "--opt", "encrypted", "--subnet", "10.95.0.0/24", *options, on=on)


def tunnels(host):
    return re.findall(r"^\d+: (gtw[0-9a-f]+)", run("ip", "-n", host.name, "link", "show", "type", "wireguard").out, re.M)


def key_of(cluster, host):
    record = keys_of(cluster).get(f"gantry/overlay/live/hosts/{host.settings['underlay']}")
    return json.loads(record)["wireguard"] if record else None


def record_of(cluster, name):
    return next(json.loads(value) for key, value in keys_of(cluster).items() if "/networks/" in key and json.loads(value)["name"] == name)


def put(cluster, key, value):
    body = {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(json.dumps(value).encode()).decode()}
    assert cluster.members[0].call("/v3/kv/put", body) is not None


def listener(host, name, network):
    """Sends back what comes to TCP port 9000."""
    host.docker("run", "-d", "--name", name, "--network", network, IMAGE, "nc", "-ll", "-p", "9000", "-e", "cat")
    return address(host, name, network)


def says(host, name, to):
    """Sends the mark, and has it back."""
    return MARK.decode() in host.docker("exec", name, "sh", "-c", f"(echo {MARK.decode()}; sleep 1) | nc -w 3 {to} 9000", check=False).out


@contextlib.contextmanager
def ear(host, name):
    """Yields what tells whether a datagram came to the container's port 7000 within so many seconds."""
    code = "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 7000)); print('up', flush=True); s.recv(99); print('heard', flush=True)"
    inside = f"--net=/proc/{host.inspect(name)['State']['Pid']}/ns/net"
    listening = subprocess.Popen(["nsenter", inside, "/usr/bin/python3", "-c", code], stdout=subprocess.PIPE)
    try:
        assert listening.stdout.readline() == b"up\n"
        yield lambda seconds: bool(select.select([listening.stdout], [], [], seconds)[0]) and listening.stdout.readline() == b"heard\n"
    finally:
        listening.kill()
        listening.communicate()


def takes_only_what_is_open(cluster, host, underlay, *containers):
    """Of two forged frames in the clear one is taken: that for the network that is not encrypted. containers: (name, network), the open one last."""
    with ear(host, containers[0][0]) as safe, ear(host, containers[1][0]) as other:
        for name, network in containers:
            inject(cluster, underlay, record_of(cluster, network)["vni"], address(host, name, network, "MacAddress"), address(host, name, network), b"forged")
        assert other(10 * SLOW) and not safe(1 * SLOW)


# ---- without WireGuard ----

@pytest.mark.skipif(WIREGUARD, reason="this kernel has WireGuard")
def test_refused_by_name(make_cluster):  # noqa: F811
    cluster = make_cluster(hosts=1)
    a = cluster.hosts[0]
    for option in ("encrypted", "encrypted=", "encrypted=true", "encrypted=1"):
        refused = a.docker("network", "create", "-d", "overlay", "--opt", option, "safe", check=False)
        assert refused.code != 0 and "network safe: " + REFUSAL in refused.err, refused
    refused = a.docker("network", "create", "-d", "overlay", "--opt", "encrypted=perhaps", "safe", check=False)
    assert refused.code != 0 and 'option encrypted is "perhaps"; allowed are true and false' in refused.err
    assert doctor_says(a) == "warning"
    assert not any("/networks/" in key for key in keys_of(cluster)) and not links(a) and "safe" not in a.docker("network", "ls").out
    # one that another host has made: it is known here, and nothing of it goes out in the clear
    create(cluster, "plain", "--opt", "encrypted=false", "--subnet", "10.95.0.0/24")
    key = next(key for key in keys_of(cluster) if "/networks/" in key)
    record = record_of(cluster, "plain")
    assert record["version"] == 1 and not record["encrypted"]
    a.docker("network", "rm", "plain")
    put(cluster, key, {**record, "version": 2, "encrypted": True})
    wait_until(lambda: "plain" in networks(a), 5, "the other host's network")
    refused = a.docker("run", "--rm", "--network", "plain", IMAGE, "true", check=False)
    assert refused.code != 0 and "network plain: " + REFUSAL in refused.err, refused
    assert not links(a) and not any("/endpoints/" in key or "/claims/" in key for key in keys_of(cluster))
    a.restart(crash=True)
    refused = a.docker("run", "--rm", "--network", "plain", IMAGE, "true", check=False)
    assert refused.code != 0 and REFUSAL in refused.err and not links(a)
    a.docker("network", "rm", "plain")
    assert not networks(a)


# ---- with it ----

@encrypts
def test_nothing_in_the_clear(make_cluster):  # noqa: F811
    cluster = make_cluster()
    a, b, c = cluster.hosts
    create(cluster, "open", "--subnet", "10.91.0.0/24")
    create_safe(cluster, on=1)
    info = json.loads(c.docker("network", "inspect", "safe").out)[0]
    assert info["Options"] == {"encrypted": ""} and info["Scope"] == "global"
    assert doctor_says(a) == "ok"
    # networks that are not encrypted need no tunnel
    open_ip = listener(b, "o2", "open")
    sleeper(a, "o1", network="open")
    assert not any(tunnels(host) for host in cluster.hosts) and not key_of(cluster, a)
    ips = {name: listener(host, name, "safe") for host, name in ((a, "s1"), (b, "s2"), (c, "s3"))}
    placed = [(a, "s1"), (b, "s2"), (c, "s3")]
    all_meet(cluster, placed)
    assert resolves(a, "s1", "s3") == [ips["s3"]]
    assert all(len(tunnels(host)) == 1 for host in cluster.hosts)
    keys = {key_of(cluster, host) for host in cluster.hosts}
    assert len(keys) == 3 and all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)

    # what is on the wire
    with capture(cluster) as seen:
        assert says(a, "o1", open_ip)
    assert seen[0].marked and seen[0].vxlan
    with capture(cluster) as seen:
        assert says(a, "s1", ips["s2"]) and says(c, "s3", ips["s1"]) and pings(b, "s2", "s3")
    assert not seen[0].marked and not seen[0].vxlan and seen[0].wireguard > 6

    # outer IPv4 and WireGuard, VXLAN and outer IPv6: what fits goes through whole
    assert "mtu 1370" in a.docker("exec", "s1", "ip", "link", "show", "eth0").out
    with capture(cluster) as seen:
        assert a.docker("exec", "s1", "ping", "-c", "1", "-W", "2", "-s", "1342", ips["s2"], check=False).code == 0
    assert max(map(len, seen[0].frames)) <= 1514 and not any(frame[20] & 0x3f or frame[21] for frame in seen[0].frames if frame[12:14] == b"\x08\x00")

    # what comes in the clear is not taken; of a network that is not encrypted it is
    takes_only_what_is_open(cluster, b, b.address, ("s2", "safe"), ("o2", "open"))
    assert pings(a, "s1", "s2")

    # a container whose host has no key is not reached: what is for it goes nowhere
    ghost = {"version": 1, "container": "e" * 64, "host": "ghost", "vtep": f"{FABRIC_HOST}.99", "mac": "02:99:00:00:00:99", "ipv4": "10.95.0.99/24",
             "ipv6": "", "names": ["ghost"]}
    safe = networks(a)["safe"]["Id"]
    put(cluster, f"gantry/overlay/live/endpoints/{safe}/{'e' * 64}", ghost)
    wait_until(lambda: f"host ghost ({FABRIC_HOST}.99) has published no key" in a.log(), 5, "the log telling of the host without a key")
    with capture(cluster) as seen:
        assert not pings(a, "s1", "10.95.0.99")
    assert not seen[0].to(f"{FABRIC_HOST}.99") and not seen[0].vxlan

    for host, name in placed:
        host.docker("rm", "-f", name)
    cluster.members[0].call("/v3/kv/deleterange", {"key": base64.b64encode(f"gantry/overlay/live/endpoints/{safe}/{'e' * 64}".encode()).decode()})
    a.docker("network", "rm", "safe")
    wait_until(lambda: not any(tunnels(host) for host in cluster.hosts), 10, "no tunnels")
    wait_until(lambda: not any(key_of(cluster, host) for host in cluster.hosts), 10, "no keys in etcd")
    assert says(a, "o1", open_ip) and not any("/claims/" + safe in key or "/networks/" + safe in key for key in keys_of(cluster))


@encrypts
def test_what_dies_comes_back(make_cluster):  # noqa: F811
    cluster = make_cluster()
    a, b, c = cluster.hosts
    create_safe(cluster)
    placed = [(a, "s1"), (b, "s2"), (c, "s3")]
    ips = {name: listener(host, name, "safe") for host, name in placed}
    all_meet(cluster, placed)

    # a daemon: traffic goes on, the key stays, what it missed it knows afterwards
    key = key_of(cluster, a)
    a.kill9()
    assert pings(b, "s2", ips["s1"])
    b.docker("rm", "-f", "s2")
    ips["s2"] = listener(b, "s2", "safe")
    a.start()
    assert key_of(cluster, a) == key
    all_meet(cluster, placed)

    # somebody removes the link: nothing is sent in the clear, and the next container brings all back, with another key
    check("ip", "-n", b.name, "link", "del", tunnels(b)[0])
    with capture(cluster) as seen:
        assert not pings(b, "s2", ips["s1"]) and not pings(a, "s1", ips["s2"])
    assert not seen[0].vxlan
    key = key_of(cluster, b)
    b.docker("run", "--rm", "--network", "safe", IMAGE, "true")
    assert key_of(cluster, b) not in (key, None, "")
    all_meet(cluster, placed)
    # and a daemon that finds it gone at its start
    b.kill9()
    check("ip", "-n", b.name, "link", "del", tunnels(b)[0])
    b.start()
    all_meet(cluster, placed)

    # a host: it is no peer any more once its lease has ended, and again when it is back
    assert len(entries(a)) == 2
    c.kill9()
    cluster.fabric.cut(cluster.ports[2])
    wait_until(lambda: not resolves(a, "s1", "s3") and len(entries(a)) == 1, TTL + 5, "the dead host's entries forgotten")
    with capture(cluster) as seen:
        assert not pings(a, "s1", ips["s3"]) and says(a, "s1", ips["s2"])
    assert not seen[0].to(c.address) and not seen[0].vxlan and not seen[0].marked
    cluster.fabric.mend(cluster.ports[2])
    c.start()
    all_meet(cluster, placed)
    # containers that end while their host's daemon is away: it starts without a tunnel
    c.docker("rm", "-f", "s3")
    wait_until(lambda: not resolves(a, "s1", "s3"), 5, "s3 forgotten")
    assert tunnels(c)
    c.restart(crash=True)
    wait_until(lambda: not tunnels(c) and not key_of(cluster, c), 10, "no tunnel on the third host")
    assert pings(a, "s1", "s2")


@encrypts
def test_ipv6_and_a_process_of_its_own(make_cluster):  # noqa: F811
    """The driver in a process of its own, tunnels over IPv6, IPv6 within; an MTU that does not fit, and a port that is taken."""
    cluster = make_cluster(hosts=2, ini={"isolate": "process"})
    a, b = cluster.hosts
    for index, host in enumerate(cluster.hosts, 1):
        check("ip", "-n", host.name, "addr", "add", f"fd00:77::1{index}/64", "dev", "under", "nodad")
        host.settings["underlay"] = f"fd00:77::1{index}"
        host.write_ini({"plugin.net-overlay": host.settings})
        host.restart()
    check("ip", "-n", cluster.members[0].netns, "addr", "add", "fd00:77::21/64", "dev", "under", "nodad")
    create(cluster, "open", "--subnet", "10.91.0.0/24")
    create_safe(cluster, "--subnet", "fd00:95::/64", "--ipv6")
    for host, name in ((a, "o1"), (b, "o2")):
        listener(host, name, "open")
    listener(a, "s1", "safe")
    ip2 = listener(b, "s2", "safe")
    all_meet(cluster, [(a, "s1"), (b, "s2")])
    with capture(cluster) as seen:
        assert says(a, "s1", ip2)
        assert a.docker("exec", "s1", "ping", "-6", "-c", "1", "-W", "2", "-s", "1302", address(b, "s2", "safe", "GlobalIPv6Address"), check=False).code == 0
    assert not seen[0].marked and not seen[0].vxlan and seen[0].wireguard and max(map(len, seen[0].frames)) <= 1514
    assert "mtu 1350" in a.docker("exec", "s1", "ip", "link", "show", "eth0").out
    # both networks' links share a socket here
    takes_only_what_is_open(cluster, b, "fd00:77::12", ("s2", "safe"), ("o2", "open"))
    assert pings(a, "s1", "s2")
    # refused where it cannot be, and nothing is left of it
    create(cluster, "wide", "--opt", "encrypted=true", "--opt", "com.docker.network.driver.mtu=1430", "--subnet", "10.96.0.0/24")
    refused = a.docker("run", "--rm", "--network", "wide", IMAGE, "true", check=False)
    assert refused.code != 0 and "an MTU of 1430 cannot be: this host's way to the others has room for 1350" in refused.err, refused
    for host in cluster.hosts:
        host.remove_everything()
    wait_until(lambda: not any(tunnels(host) or links(host) for host in cluster.hosts), 10, "no tunnels")
    taken = subprocess.Popen(["nsenter", "--net=/run/netns/" + a.name, "/usr/bin/python3", "-c",
                              f"import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', {WIREGUARD_PORT})); print('up', flush=True); input()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert taken.stdout.readline() == b"up\n"
        create_safe(cluster, name="last")
        refused = a.docker("run", "--rm", "--network", "last", IMAGE, "true", check=False)
        assert refused.code != 0 and f"UDP port {WIREGUARD_PORT}" in refused.err and "set wireguard_port" in refused.err, refused
        assert not tunnels(a) and not any("/claims/" in key for key in keys_of(cluster))
    finally:
        taken.communicate(b"\n")
    a.docker("run", "--rm", "--network", "last", IMAGE, "true")
    a.docker("network", "rm", "last")
    wait_until(lambda: not tunnels(a), 5, "no tunnel")
