"""Networks that span hosts: real etcd members and three hosts, each a network namespace with a daemon of its own, joined by a bridge in one more."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from harness import IMAGE, Daemon, run, wait_until

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
        self.extra = []
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
        done = run("nsenter", "--net=/run/netns/" + self.netns, "curl", "-s", "-m", "3", "-d", json.dumps(body), self.url + path)
        return json.loads(done.out) if done.code == 0 and done.out.startswith("{") else None

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
def make_cluster(workdir):
    made = []

    def make(**kw):
        made.append(Cluster(workdir, **kw))
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
    refused = b.docker("network", "rm", "ovl", check=False)
    assert refused.code != 0 and "has active endpoints" in refused.err
    a.docker("rm", "-f", "c1")
    refused = a.docker("network", "rm", "ovl", check=False)
    assert refused.code != 0 and "has active endpoints: container c2" in refused.err
    b.docker("rm", "-f", "c2")
    a.docker("network", "rm", "ovl")
    wait_until(lambda: not networks(b), 5, "the network gone on the other host")
    assert not links(a)
    wait_until(lambda: not links(b), 5, "links gone on the other host")
    assert "gantry-overlay" not in a.nft() + b.nft()
