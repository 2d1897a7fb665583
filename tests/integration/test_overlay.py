"""Networks that span hosts: real etcd members and three hosts, each a network namespace with a daemon of its own, joined by a bridge in one more."""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time

import pytest

from harness import DOCKER, IMAGE, SLOW, Daemon, run, wait_until

ETCD = shutil.which("etcd")
TTL = 5  # of the hosts' leases, seconds
FABRIC_HOST = "10.77.0"  # the underlay: hosts are .11 .12 .13, etcd's members .21 .22 .23

pytestmark = pytest.mark.skipif(ETCD is None, reason="etcd is not installed (scripts/install-dependencies --tests)")


class Fabric:
    """The wire between hosts and etcd: a bridge in a network namespace of its own."""

    def __init__(self):
        self.name = f"gtf{os.getpid()}"
        self.count = 0
        check("ip", "netns", "add", self.name)
        check("ip", "-n", self.name, "link", "add", "wire", "type", "bridge", "forward_delay", "0")
        check("ip", "-n", self.name, "link", "set", "wire", "up")

    def plug(self, netns, address):
        """Gives a network namespace an interface `under` on the wire."""
        self.count += 1
        port = f"p{self.count}"
        check("ip", "-n", self.name, "link", "add", port, "master", "wire", "type", "veth", "peer", "name", "under", "netns", netns)
        check("ip", "-n", self.name, "link", "set", port, "up")
        check("ip", "-n", netns, "addr", "add", f"{address}/24", "dev", "under")
        check("ip", "-n", netns, "link", "set", "lo", "up")
        check("ip", "-n", netns, "link", "set", "under", "up")
        return port

    def cut(self, port):
        check("ip", "-n", self.name, "link", "set", port, "down")

    def mend(self, port):
        check("ip", "-n", self.name, "link", "set", port, "up")

    def close(self):
        run("ip", "netns", "del", self.name)


def check(*args):
    done = run(*args)
    assert done.code == 0, done


class Etcd:
    """One member; all of them are in one cluster."""

    def __init__(self, fabric, directory, index, count, client="http"):
        self.index = index
        self.netns = f"gte{os.getpid()}m{index}"
        self.address = f"{FABRIC_HOST}.{20 + index}"
        self.url = f"{client}://{self.address}:2379"
        self.dir = os.path.join(directory, f"etcd{index}")
        self.log_path = self.dir + ".log"
        self.process = None
        self.extra, self.curl = [], []
        check("ip", "netns", "add", self.netns)
        fabric.plug(self.netns, self.address)
        members = ",".join(f"m{i}=http://{FABRIC_HOST}.{20 + i}:2380" for i in range(1, count + 1))
        self.args = ["--name", f"m{index}", "--data-dir", self.dir, "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                     "--listen-peer-urls", f"http://{self.address}:2380", "--initial-advertise-peer-urls", f"http://{self.address}:2380",
                     "--initial-cluster", members, "--initial-cluster-state", "new", "--unsafe-no-fsync", "--heartbeat-interval", "50",
                     "--election-timeout", "500", "--log-level", "error"]

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(["nsenter", "--net=/run/netns/" + self.netns, ETCD, *self.args, *self.extra], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True, env={"PATH": os.environ["PATH"], "ETCD_UNSUPPORTED_ARCH": "arm64"})
        return self

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def call(self, path, body):
        """The JSON gateway, from inside the member's namespace."""
        done = subprocess.run(["nsenter", "--net=/run/netns/" + self.netns, "curl", "-s", "-m", "3", *self.curl, "-d", "@-", self.url + path],
                              input=json.dumps(body).encode(), capture_output=True)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.startswith(b"{") else None

    def ready(self):
        return bool(self.call("/v3/kv/range", {"key": "AA=="}))

    def close(self):
        self.kill()
        run("ip", "netns", "del", self.netns)


class Cluster:
    def __init__(self, workdir, members=1, hosts=3, ini=None):
        self.dir = tempfile.mkdtemp(prefix="gtoverlay-", dir=workdir)
        self.fabric = Fabric()
        self.members, self.hosts, self.ports = [], [], []
        self.settings = {"lease_ttl": TTL, "timeout": 3, **(ini or {})}
        self.member_count, self.host_count = members, hosts

    def start(self):
        self.members = [Etcd(self.fabric, self.dir, i, self.member_count) for i in range(1, self.member_count + 1)]
        for member in self.members:
            member.start()
        wait_until(lambda: all(member.ready() for member in self.members), 30, "etcd answering")
        for index in range(1, self.host_count + 1):
            self.add_host(index)
        return self

    def add_host(self, index, start=True, **settings):
        host = Daemon(self.dir)
        self.hosts.append(host)
        host.address = f"{FABRIC_HOST}.{10 + index}"
        self.ports.append(self.fabric.plug(host.name, host.address))
        host.settings = {"etcd": ",".join(member.url for member in self.members), "underlay": host.address, **self.settings, **settings}
        host.write_ini({"plugin.net-overlay": host.settings})
        if start:
            host.start()
        return host

    def close(self):
        try:
            for host in self.hosts:
                with contextlib.suppress(Exception):
                    if host.process is not None and host.process.poll() is None:
                        for container in host.json("GET", "/containers/json?all=1"):
                            host.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
            for host in self.hosts:
                host.destroy()
        finally:
            for member in self.members:
                member.close()
            self.fabric.close()
            shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture
def make_cluster(workdir, isolation):
    made = []

    def make(**kw):
        made.append(Cluster(workdir, **{**kw, "ini": {**isolation, **kw.get("ini", {})}}))
        return made[-1].start()
    yield make
    for cluster in made:
        cluster.close()


def networks(host):
    return {network["Name"]: network for network in host.json("GET", "/networks") if network["Driver"] == "overlay"}


def create(cluster, name="ovl", *options, on=0):
    """Makes a network on one host and waits until all know it."""
    cluster.hosts[on].docker("network", "create", "-d", "overlay", "--attachable", *options, name)
    wait_until(lambda: all(name in networks(host) for host in cluster.hosts if host.process), 10, f"network {name} on every host")


def sleeper(host, name, *options, network="ovl"):
    host.docker("run", "-d", "--name", name, "--network", network, *options, IMAGE, "sleep", "10000")
    return address(host, name, network)


def address(host, name, network="ovl", field="IPAddress"):
    return host.inspect(name)["NetworkSettings"]["Networks"][network][field]


def pings(host, container, target, count=1):
    return host.docker("exec", container, "ping", "-c", str(count), "-W", "1", target, check=False).code == 0


def resolves(host, container, name):
    """The addresses that a name has, as a container sees them."""
    out = host.docker("exec", container, "nslookup", name, "127.0.0.11", check=False).out
    return sorted(set(re.findall(r"^Address(?: \d+)?: ([0-9.]+)$", out.partition("Name:")[2], re.M)))


def links(host):
    return [name for name in host.links() if name.startswith(("gto", "gtx", "gte"))]


def entries(host):
    """MACs that the host sends to other hosts."""
    out = run("ip", "netns", "exec", host.name, "bridge", "fdb").out
    return sorted(line.split()[0] for line in out.splitlines() if " dst " in line and "gtx" in line)


def all_meet(cluster, names):
    """Every container pings every other by its name."""
    for host, name in names:
        for _, other in names:
            if other != name:
                wait_until(lambda: pings(host, name, other), 10, f"{name} pinging {other}")


def test_two_hosts(make_cluster):
    cluster = make_cluster(hosts=2)
    a, b = cluster.hosts
    create(cluster, "ovl", "--subnet", "10.91.0.0/24")
    ip1, ip2 = sleeper(a, "c1"), sleeper(b, "c2")
    assert ip1 != ip2
    assert pings(a, "c1", ip2) or pings(a, "c1", ip2, 3)
    wait_until(lambda: resolves(a, "c1", "c2") == [ip2], 5, "c2 known to c1")
    wait_until(lambda: resolves(b, "c2", "c1") == [ip1], 5, "c1 known to c2")
    info = json.loads(b.docker("network", "inspect", "ovl").out)[0]
    assert info["Scope"] == "global" and info["Driver"] == "overlay" and info["Attachable"] and info["IPAM"]["Config"][0]["Subnet"] == "10.91.0.0/24"
    # containers are those of the host that is asked; the hosts are told by all
    for host, name in ((a, "c1"), (b, "c2")):
        info = host.json("GET", "/networks/ovl?verbose=true")
        assert [c["Name"] for c in info["Containers"].values()] == [name]
        wait_until(lambda: [peer["IP"] for peer in host.json("GET", "/networks/ovl")["Peers"]] == [a.address, b.address], 5, "both hosts told")
        assert all(peer["Name"] for peer in info["Peers"])
    assert "Peers" not in a.json("GET", "/networks/bridge")
    refused = b.docker("network", "rm", "ovl", check=False)
    assert refused.code != 0 and "has active endpoints" in refused.err
    a.docker("rm", "-f", "c1")
    wait_until(lambda: [peer["IP"] for peer in b.json("GET", "/networks/ovl")["Peers"]] == [b.address], 5, "one host told")
    refused = a.docker("network", "rm", "ovl", check=False)
    assert refused.code != 0 and "has active endpoints: container c2" in refused.err
    b.docker("rm", "-f", "c2")
    a.docker("network", "rm", "ovl")
    wait_until(lambda: not networks(b), 5, "the network gone on the other host")
    assert not links(a)
    wait_until(lambda: not links(b), 5, "links gone on the other host")
    assert "gantry-overlay" not in a.nft() + b.nft()


def six(cluster):
    """Two containers on each of three hosts: [(host, name)]."""
    placed = [(host, f"c{index}{letter}") for index, host in enumerate(cluster.hosts, 1) for letter in "ab"]
    for host, name in placed:
        sleeper(host, name, "--network-alias", "alias-" + name)
    return placed


def knows_all(host, container, names):
    return all(len(resolves(host, container, name)) == 1 for name in names)


def converges(cluster, placed, what):
    """What Docker's users would see: names and addresses of all, within five seconds (of a machine that has nothing else to do)."""
    names = [name for _, name in placed]
    wait_until(lambda: all(knows_all(host, name, names) for host, name in placed[::2]), 5, f"names after {what}")
    for host, name in placed[::2]:
        for other in names:
            if other != name:
                assert pings(host, name, other) or pings(host, name, other, 2), f"{name} does not reach {other} after {what}"


class Flow:
    """Pings that go on in a container, five in a second."""

    def __init__(self, host, container, target):
        self.process = subprocess.Popen(host.in_netns(DOCKER, "exec", "-i", container, "sh", "-c",
                                                      f"ping -i 0.2 -W 1 {target} & p=$!; read x; kill -INT $p; wait $p"),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=host.env)

    def lost(self):
        """Ends it: how many got no answer."""
        time.sleep(1)
        out, _ = self.process.communicate(b"\n", timeout=20 * SLOW)
        sent, received = map(int, re.search(rb"(\d+) packets transmitted, (\d+) packets received", out).groups())
        assert sent > 3
        return sent - received


def test_three_hosts_go_on_whatever_dies(make_cluster):
    cluster = make_cluster(members=3)
    a, b, c = cluster.hosts
    create(cluster, "ovl", "--subnet", "10.91.0.0/24", "--subnet", "fd00:91::/64", "--ipv6")
    placed = six(cluster)
    addresses = {name: address(host, name) for host, name in placed}
    assert len(set(addresses.values())) == 6
    converges(cluster, placed, "the start")
    # reverse look-ups, aliases, IPv6
    assert "c3a" in a.docker("exec", "c1a", "nslookup", addresses["c3a"], "127.0.0.11", check=False).out
    assert resolves(a, "c1a", "alias-c2b") == [addresses["c2b"]]
    assert a.docker("exec", "c1a", "ping", "-6", "-c", "1", "-W", "2", address(c, "c3a", field="GlobalIPv6Address"), check=False).code == 0
    # nothing is flooded: every container of another host is an entry, and no other
    assert len(entries(a)) == 4 and "00:00:00:00:00:00" not in entries(a)

    # one member of etcd: all goes on, changes too
    flow = Flow(a, "c1a", addresses["c2a"])
    cluster.members[0].kill()
    sleeper(b, "late")
    wait_until(lambda: resolves(a, "c1a", "late"), 5, "a new container known after the death of one etcd member")
    assert flow.lost() == 0
    cluster.members[0].start()
    b.docker("rm", "-f", "late")
    wait_until(lambda: not resolves(a, "c1a", "late"), 5, "a removed container forgotten")

    # all of etcd: traffic and names go on, changes are refused in time, containers can end
    flow = Flow(a, "c1a", addresses["c2a"])
    for member in cluster.members:
        member.kill()
    time.sleep(1)
    refused = b.docker("run", "-d", "--name", "never", "--network", "ovl", IMAGE, "sleep", "100", check=False)
    assert refused.code != 0 and "etcd" in refused.err, refused
    refused = c.docker("network", "create", "-d", "overlay", "other", check=False)
    assert refused.code != 0 and "etcd" in refused.err, refused
    b.docker("rm", "-f", "never", check=False)
    c.docker("rm", "-f", "c3b")
    assert resolves(a, "c1a", "c2b") == [addresses["c2b"]]
    assert flow.lost() == 0
    for member in cluster.members:
        member.start()
    wait_until(lambda: all(member.ready() for member in cluster.members), 20, "etcd answering again")
    wait_until(lambda: not resolves(a, "c1a", "c3b"), 5, "what ended meanwhile forgotten")
    placed.remove((c, "c3b"))
    sleeper(c, "c3c")
    placed.append((c, "c3c"))
    converges(cluster, placed, "the return of etcd")

    # a daemon, killed: traffic goes on; what it missed it knows afterwards
    flow = Flow(a, "c1a", addresses["c2a"])
    b.kill9()
    sleeper(a, "c1c")
    placed.append((a, "c1c"))
    b.start()
    converges(cluster, placed, "the return of a daemon")
    assert flow.lost() == 0

    # a host: its containers vanish with its lease
    c.kill9()
    cluster.fabric.cut(cluster.ports[2])
    wait_until(lambda: not resolves(a, "c1a", "c3a") and not resolves(b, "c2a", "c3c"), TTL + 5, "the dead host's names forgotten")
    assert len(entries(a)) == 2 and pings(a, "c1a", "c2b")
    # and come back with it
    cluster.fabric.mend(cluster.ports[2])
    c.start()
    converges(cluster, placed, "the return of a host")

    for host, name in placed:
        host.docker("rm", "-f", name)
    a.docker("network", "rm", "ovl")
    wait_until(lambda: not any(networks(host) or links(host) for host in cluster.hosts), 5, "everything gone")
    assert not any("gantry-overlay" in host.nft() for host in cluster.hosts)


def keys_of(cluster):
    """What is in etcd, as text."""
    answer = cluster.members[0].call("/v3/kv/range", {"key": "AA==", "range_end": "AA=="})
    return {base64.b64decode(kv["key"]).decode(): base64.b64decode(kv.get("value", "")).decode() for kv in answer.get("kvs", [])}


def test_a_host_that_was_cut_off_registers_again(make_cluster):
    cluster = make_cluster(hosts=2)
    a, b = cluster.hosts
    create(cluster, "ovl", "--subnet", "10.91.0.0/24")
    sleeper(a, "c1")
    ip2 = sleeper(b, "c2")
    wait_until(lambda: resolves(a, "c1", "c2") == [ip2], 5, "c2 known")
    cluster.fabric.cut(cluster.ports[1])
    wait_until(lambda: not resolves(a, "c1", "c2") and not entries(a), TTL + 8, "c2 gone with its lease")
    assert not any("/hosts/" + b.address in key for key in keys_of(cluster))
    cluster.fabric.mend(cluster.ports[1])
    wait_until(lambda: resolves(a, "c1", "c2") == [ip2], 8, "c2 registered again")
    wait_until(lambda: pings(a, "c1", "c2") and pings(b, "c2", "c1"), 5, "traffic again")


def test_no_two_hosts_give_the_same_address(make_cluster):
    cluster = make_cluster()
    create(cluster, "ovl", "--subnet", "10.91.0.0/27", "--ip-range", "10.91.0.16/28", "--aux-address", "router=10.91.0.20")
    for host in cluster.hosts:
        for i in range(5):
            host.docker("create", "--name", f"r{i}", "--network", "ovl", IMAGE, "sleep", "10000")

    def start_all(host):
        for i in range(5):
            host.docker("start", f"r{i}", check=False)
    threads = [threading.Thread(target=start_all, args=(host,)) for host in cluster.hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = [address(host, f"r{i}") for host in cluster.hosts for i in range(5)]
    given = [ip for ip in given if ip]
    # .16 is the gateway, .20 the auxiliary address, .31 broadcast
    assert len(given) == 13 and len(set(given)) == 13, sorted(given)
    assert all(17 <= int(ip.split(".")[3]) <= 30 for ip in given) and "10.91.0.20" not in given
    full = cluster.hosts[0].docker("run", "--rm", "--network", "ovl", IMAGE, "true", check=False)
    assert full.code != 0 and "no available IPv4 addresses" in full.err
    # a wished-for one that another host has
    for host in cluster.hosts[1:]:
        taken = host.docker("run", "--rm", "--network", "ovl", "--ip", given[0], IMAGE, "true", check=False)
        if host is not cluster.hosts[0]:
            assert taken.code != 0 and "Address already in use" in taken.err, taken
    assert cluster.hosts[1].docker("run", "--rm", "--network", "ovl", "--ip", "10.91.0.5", IMAGE, "ip", "addr").out.count("10.91.0.5/27") == 1
    outside = cluster.hosts[1].docker("run", "--rm", "--network", "ovl", "--ip", "10.92.0.5", IMAGE, "true", check=False)
    assert outside.code != 0 and "does not belong" in outside.err


def test_networks_made_at_once(make_cluster):
    cluster = make_cluster()
    results = []

    def make(host, name, *options):
        results.append((name, host.docker("network", "create", "-d", "overlay", *options, name, check=False)))
    threads = [threading.Thread(target=make, args=(host, "same")) for host in cluster.hosts]
    threads += [threading.Thread(target=make, args=(host, f"own{i}")) for i, host in enumerate(cluster.hosts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(name == "same" and done.code == 0 for name, done in results) == 1, results
    made = {name for name, done in results if done.code == 0}
    wait_until(lambda: all(set(networks(host)) == made for host in cluster.hosts), 10, "the same networks everywhere")
    records = [json.loads(value) for key, value in keys_of(cluster).items() if "/networks/" in key]
    assert len({record["vni"] for record in records}) == len(records)
    assert len({record["subnets"][0]["subnet"] for record in records}) == len(records)
    clash = cluster.hosts[1].docker("network", "create", "-d", "overlay", "--subnet", records[0]["subnets"][0]["subnet"], "clash", check=False)
    assert clash.code != 0 and "verlaps" in clash.err
    for name in made:
        cluster.hosts[2].docker("network", "rm", name)
    wait_until(lambda: not any(networks(host) for host in cluster.hosts), 5, "all networks gone")
    assert not any("/networks/" in key or "/claims/" in key for key in keys_of(cluster))


def test_the_way_out_and_internal(make_cluster):
    cluster = make_cluster(hosts=2)
    a, b = cluster.hosts
    create(cluster, "ovl", "--subnet", "10.91.0.0/24")
    create(cluster, "inner", "--subnet", "10.92.0.0/24", "--internal")
    sleeper(a, "out")
    ip = sleeper(a, "in", network="inner")
    ip2 = sleeper(b, "in2", network="inner")
    # out under the host's address: etcd's member knows no way to 10.91.0.0/24
    assert pings(a, "out", f"{FABRIC_HOST}.21", 2)
    assert not pings(a, "in", f"{FABRIC_HOST}.21")
    assert pings(a, "in", ip2, 3)
    # networks are apart, also through the gateway
    assert not pings(a, "out", ip)
    assert "MASQUERADE" not in a.nft() and "masquerade" in a.nft()
    # a second leg on a bridge publishes, where it has the default route
    a.docker("network", "create", "front")
    a.gantry("run", "-d", "--name", "web", "--network", "name=ovl", "--network", "name=front,gw-priority=1", "-p", "8080:80", IMAGE,
             "sh", "-c", "echo hello >/index.html; exec httpd -f -p 80 -h /")
    wait_until(lambda: a.command("curl", "-s", "-m", "2", "http://127.0.0.1:8080/", check=False).out == "hello\n", 10, "the published port")
    web = address(a, "web")
    sleeper(b, "far")
    inside = f"--net=/proc/{b.inspect('far')['State']['Pid']}/ns/net"
    wait_until(lambda: run("nsenter", inside, "curl", "-s", "-m", "2", f"http://{web}/").out == "hello\n", 10, "the other leg")


def test_an_underlay_of_ipv6(make_cluster):
    """Tunnels over IPv6; rules that somebody flushed are back with the next container; a subnet that a host has for itself."""
    cluster = make_cluster(hosts=2)
    a, b = cluster.hosts
    for index, host in enumerate(cluster.hosts, 1):
        check("ip", "-n", host.name, "addr", "add", f"fd00:77::1{index}/64", "dev", "under", "nodad")
        host.write_ini({"plugin.net-overlay": {**host.settings, "underlay": f"fd00:77::1{index}"}})
        host.restart()
    b.docker("network", "create", "--subnet", "10.93.0.0/16", "mine")
    create(cluster, "ovl", "--subnet", "10.91.0.0/24")
    create(cluster, "clash", "--subnet", "10.93.1.0/24")
    sleeper(a, "c1")
    ip2 = sleeper(b, "c2")
    assert pings(a, "c1", ip2, 3)
    assert "mtu 1430" in a.docker("exec", "c1", "ip", "link", "show", "eth0").out
    assert a.docker("exec", "c1", "ping", "-c", "1", "-W", "1", "-s", "1400", ip2, check=False).code == 0
    refused = b.docker("run", "--rm", "--network", "clash", IMAGE, "true", check=False)
    assert refused.code != 0 and "its subnet 10.93.1.0/24 overlaps with network mine of this host" in refused.err
    a.docker("run", "--rm", "--network", "clash", IMAGE, "true")
    a.command("nft", "flush", "ruleset")
    a.docker("run", "--rm", "--network", "ovl", IMAGE, "true")
    assert a.nft().count("gantry-overlay") == 2
    b.restart()
    refused = b.docker("run", "--rm", "--network", "clash", IMAGE, "true", check=False)
    assert refused.code != 0 and "overlaps" in refused.err
    b.docker("network", "rm", "clash")
    wait_until(lambda: "clash" not in networks(a), 5, "the network gone")


def test_rename_and_connect(make_cluster):
    cluster = make_cluster(hosts=2)
    a, b = cluster.hosts
    create(cluster, "ovl", "--subnet", "10.91.0.0/24")
    sleeper(a, "c1")
    b.docker("run", "-d", "--name", "c2", IMAGE, "sleep", "10000")
    b.docker("network", "connect", "--alias", "second", "ovl", "c2")
    wait_until(lambda: resolves(a, "c1", "second") == resolves(a, "c1", "c2") == [address(b, "c2")], 5, "a connected container known")
    b.docker("rename", "c2", "newname")
    wait_until(lambda: resolves(a, "c1", "newname") and not resolves(a, "c1", "c2"), 5, "a new name known")
    b.docker("network", "disconnect", "ovl", "newname")
    wait_until(lambda: not resolves(a, "c1", "newname") and not entries(a), 5, "a disconnected container forgotten")


def test_refusals(make_cluster, fresh_daemon):
    fresh_daemon.start()
    refused = fresh_daemon.docker("network", "create", "-d", "overlay", "ovl", check=False)
    assert refused.code != 0 and "need etcd: set etcd" in refused.err
    cluster = make_cluster(hosts=1)
    a = cluster.hosts[0]
    for options, why in ((("--opt", "what=ever"), 'unknown option "what"'),
                         (("--opt", "com.docker.network.driver.mtu=1"), "allowed is 68 to 65535")):
        refused = a.docker("network", "create", "-d", "overlay", *options, "refused", check=False)
        assert refused.code != 0 and why in refused.err, refused
    # two engines with one address
    twin = cluster.add_host(2)
    twin.write_ini({"plugin.net-overlay": {**twin.settings, "underlay": a.address}})
    run("ip", "-n", twin.name, "addr", "add", a.address + "/32", "dev", "lo")
    twin.restart()
    wait_until(lambda: "is that of host" in twin.log(), 10, "the second engine with one address refused")


def test_history_lost_and_hostile_records(make_cluster):
    """What others write into etcd is input: it is bounded, passed over, and breaks nothing. And a watch whose history is compacted reads anew."""
    cluster = make_cluster(hosts=2)
    a, b = cluster.hosts
    create(cluster, "ovl", "--subnet", "10.91.0.0/24")
    sleeper(a, "c1")
    ip2 = sleeper(b, "c2")
    net = networks(a)["ovl"]["Id"]
    member = cluster.members[0]

    def put(key, value):
        assert member.call("/v3/kv/put", {"key": base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()}) is not None
    live = b"gantry/overlay/live/"
    record = [value for key, value in keys_of(cluster).items() if f"endpoints/{net}/" in key][0]
    for i, value in enumerate((b"", b"{}", b"[" * 5000, b"\0\1\2", b'{"version":1}', record.encode().replace(b"10.", b"999."), b"x" * 200000,
                               record.encode()[:-1] + b',"names":[' + b'"n",' * 400 + b'"n"]}', b'{"version":1,"name":"a b","vni":1}')):
        put(live + b"networks/" + b"%064x" % i, value)
        put(live + b"endpoints/" + net.encode() + b"/" + b"%064x" % i, value)
        put(live + b"endpoints/" + value[:100] + b"/x", value)
        put(live + b"hosts/" + value[:100], value)
    put(live + b"endpoints/" + b"f" * 300, b"{}")
    put(live + b"junk", b"junk")
    # a record of a container that is nowhere, with a long list of names
    put(live + b"endpoints/" + net.encode() + b"/" + b"e" * 64,
        json.dumps({**json.loads(record), "vtep": "10.77.0.99", "mac": "02:42:00:00:00:99", "ipv4": "10.91.0.99/24", "ipv6": "",
                    "container": "e" * 64, "names": [f"ghost{i}" for i in range(300)]}).encode())
    wait_until(lambda: resolves(a, "c1", "ghost299") == ["10.91.0.99"], 5, "a record from outside taken")
    assert list(networks(a)) == ["ovl"] and pings(a, "c1", ip2, 2)
    # history is lost while a host hears nothing
    cluster.fabric.cut(cluster.ports[0])
    b.docker("rename", "c2", "c2new")
    wait_until(lambda: any("c2new" in value for value in keys_of(cluster).values()), 10, "the new name in etcd")
    revision = member.call("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
    assert member.call("/v3/kv/compaction", {"revision": revision, "physical": True}) is not None
    cluster.fabric.mend(cluster.ports[0])
    wait_until(lambda: resolves(a, "c1", "c2new") == [ip2], 15, "a host that lost history knows what is")


def test_etcd_with_tls_and_users(workdir):
    """Certificates that etcd demands of its clients, and a user with a password in a file."""
    directory = tempfile.mkdtemp(prefix="gtpki-", dir=workdir)

    def openssl(*args):
        check("openssl", *args)

    def certificate(name, san):
        key, csr, crt, ext = (os.path.join(directory, f"{name}.{end}") for end in ("key", "csr", "crt", "ext"))
        with open(ext, "w") as f:
            f.write(f"subjectAltName={san}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", csr, "-subj", f"/O={name}")
        openssl("x509", "-req", "-in", csr, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", crt, "-days", "2", "-extfile", ext)
        return crt, key
    ca, ca_key = os.path.join(directory, "ca.crt"), os.path.join(directory, "ca.key")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", "/O=ca")
    server, server_key = certificate("etcd", f"IP:{FABRIC_HOST}.21")
    client, client_key = certificate("host", "DNS:host")
    password = os.path.join(directory, "password")
    with open(password, "w") as f:
        f.write("secret word\n")
    os.chmod(password, 0o600)

    cluster = Cluster(workdir, hosts=0)
    try:
        member = Etcd(cluster.fabric, cluster.dir, 1, 1, client="https")
        cluster.members = [member]
        member.extra = ["--cert-file", server, "--key-file", server_key, "--trusted-ca-file", ca, "--client-cert-auth"]

        member.curl = ["--cacert", ca, "--cert", client, "--key", client_key]
        member.start()
        wait_until(member.ready, 20, "etcd answering over TLS")
        for path, body in (("/v3/auth/user/add", {"name": "root", "password": "r"}), ("/v3/auth/role/add", {"name": "root"}),
                           ("/v3/auth/user/grant", {"user": "root", "role": "root"}), ("/v3/auth/role/add", {"name": "overlay"}),
                           ("/v3/auth/role/grant", {"name": "overlay", "perm": {"permType": "READWRITE", "key": "Z2FudHJ5Lw==", "range_end": "Z2FudHJ5MA=="}}),
                           ("/v3/auth/user/add", {"name": "gantry", "password": "secret word"}),
                           ("/v3/auth/user/grant", {"user": "gantry", "role": "overlay"}), ("/v3/auth/enable", {})):
            answer = member.call(path, body)
            assert answer is not None and "error" not in answer, (path, answer)
        tls = {"ca": ca, "cert": client, "key": client_key}
        for index in (1, 2):
            cluster.add_host(index, **tls, user="gantry", password_file=password)
        create(cluster, "ovl", "--subnet", "10.91.0.0/24")
        a, b = cluster.hosts
        sleeper(a, "c1")
        ip2 = sleeper(b, "c2")
        wait_until(lambda: resolves(a, "c1", "c2") == [ip2], 5, "c2 known")
        assert pings(a, "c1", ip2, 2)
        # without the certificate, and with a wrong password, changes are refused and say why
        wrong = os.path.join(directory, "wrong")
        with open(wrong, "w") as f:
            f.write("guess\n")
        os.chmod(wrong, 0o600)
        for settings, why in (({}, "etcd at https"), ({**tls, "user": "gantry", "password_file": wrong}, "authentication failed"),
                              (tls, "wants a user")):
            a.write_ini({"plugin.net-overlay": {"etcd": member.url, "underlay": a.address, "lease_ttl": TTL, "timeout": 3, **settings}})
            a.restart()
            refused = a.docker("network", "create", "-d", "overlay", "refused", check=False)
            assert refused.code != 0 and why in refused.err, refused
        os.chmod(password, 0o644)
        a.write_ini({"plugin.net-overlay": a.settings})
        a.restart()
        refused = a.docker("network", "create", "-d", "overlay", "refused", check=False)
        assert refused.code != 0 and "chmod o-rwx" in refused.err, refused
    finally:
        cluster.close()
        shutil.rmtree(directory, ignore_errors=True)
