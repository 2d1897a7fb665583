"""Networks that span hosts, with many containers; and ports that are published there. What there is comes from test_overlay.py."""

import base64
import json
import re

import pytest

from harness import IMAGE, run, wait_until
from test_overlay import ETCD, FABRIC_HOST, address, create, keys_of, make_cluster, networks, pings, resolves, sleeper  # noqa: F401

pytestmark = pytest.mark.skipif(ETCD is None, reason="etcd is not installed (scripts/install-dependencies --tests)")

MANY = 1000
PER_TRANSACTION = 100


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def change(cluster, operations):
    for i in range(0, len(operations), PER_TRANSACTION):
        assert cluster.members[0].call("/v3/kv/txn", {"success": operations[i:i + PER_TRANSACTION]}) is not None


def key_of(network_id, number):
    return f"gantry/overlay/live/endpoints/{network_id}/{number:064x}"


def record_of(number):
    """A container of a host that is not there: an address, a MAC and a host of its own for each number."""
    return json.dumps({"version": 1, "container": f"{number:064x}", "host": f"ghost{number % 10}", "vtep": f"10.77.0.{200 + number % 10}",
                       "mac": f"02:99:00:00:{number >> 8:02x}:{number & 255:02x}", "ipv4": f"10.91.{100 + (number >> 8)}.{number & 255}/16", "ipv6": "",
                       "names": [f"far{number}"]})


def put(network_id, numbers):
    return [{"requestPut": {"key": encoded(key_of(network_id, n)), "value": encoded(record_of(n))}} for n in numbers]


def delete(network_id, numbers):
    return [{"requestDeleteRange": {"key": encoded(key_of(network_id, n))}} for n in numbers]


def entries(host):
    """MACs in the VXLAN links' tables and in the bridges', and addresses in the neighbour tables, of containers of other hosts."""
    fdb = [line for line in run("ip", "netns", "exec", host.name, "bridge", "fdb").out.splitlines() if "gtx" in line and line.startswith("02:")]
    addresses = [line for line in run("ip", "-n", host.name, "neigh", "show", "nud", "permanent").out.splitlines() if "gtx" in line]
    return (sum(" dst " in line for line in fdb), sum(" master " in line and "permanent" not in line for line in fdb), len(addresses))


def syncs(host, network="ovl"):
    """What was read and written each time that the kernel's entries of a network were compared with etcd's."""
    return [tuple(map(int, found)) for found in
            re.findall(rf"network {network}: who is behind which host: (\d+) entries read, (\d+) added, (\d+) removed", host.log())]


def test_a_thousand_containers_of_other_hosts(make_cluster):  # noqa: F811
    """What comes or goes is written, and nothing else; what a daemon finds as it should be it leaves."""
    cluster = make_cluster(hosts=1)
    a = cluster.hosts[0]
    create(cluster, "ovl", "--subnet", "10.91.0.0/16")
    create(cluster, "other", "--subnet", "10.92.0.0/16")
    net = networks(a)["ovl"]["Id"]
    change(cluster, put(net, range(MANY)))
    wait_until(lambda: networks(a) and f"{MANY - 1:064x}" in str(keys_of(cluster)), 10, "the records in etcd")
    # the first container makes the links, and their entries at once
    sleeper(a, "c1")
    wait_until(lambda: entries(a) == (MANY, MANY, MANY), 20, "entries of all")
    assert sum(added for _, added, _ in syncs(a)) <= 3 * MANY
    wait_until(lambda: resolves(a, "c1", f"far{MANY - 1}") == [f"10.91.{100 + (MANY - 1 >> 8)}.{MANY - 1 & 255}"], 10, "the last one's name")
    # later ones of here, another network's links, and one more abroad, compare nothing of this network's
    before = len(syncs(a))
    sleeper(a, "c2")
    sleeper(a, "c3", network="other")
    assert pings(a, "c1", "c2", 3)
    change(cluster, put(net, [MANY]))
    wait_until(lambda: entries(a) == (MANY + 1, MANY + 1, MANY + 1), 5, "entries of one more")
    change(cluster, delete(net, range(MANY + 1)[-11:]))
    wait_until(lambda: entries(a) == (MANY - 10, MANY - 10, MANY - 10), 5, "entries of ten less")
    assert len(syncs(a)) == before
    # what changed while nobody followed: ten gone, five new, one on another host, and an entry that somebody removed
    a.kill9()
    change(cluster, delete(net, range(10)) + put(net, range(MANY, MANY + 5)))
    moved = json.dumps({**json.loads(record_of(20)), "vtep": "10.77.0.250"})
    change(cluster, [{"requestPut": {"key": encoded(key_of(net, 20)), "value": encoded(moved)}}])
    link = next(name for name in a.links() if name == f"gtx{net[:12]}")
    run("ip", "netns", "exec", a.name, "bridge", "fdb", "del", "02:99:00:00:00:1e", "dev", link, "dst", "10.77.0.200", "self")
    before = len(syncs(a))
    a.start()
    left = MANY - 10 - 10 + 5
    wait_until(lambda: entries(a) == (left, left, left), 20, "entries as they should be")
    wait_until(lambda: len(syncs(a)) > before, 10, "a comparison")
    assert "10.77.0.250" in run("ip", "netns", "exec", a.name, "bridge", "fdb", "show", "dev", link).out
    done = syncs(a)[before:]
    assert sum(added for _, added, _ in done) == 3 * 5 + 1 + 1, done
    assert sum(removed for _, _, removed in done) == 3 * 10 + 1, done
    # and again with nothing to do
    before = len(syncs(a))
    a.restart(crash=True)
    wait_until(lambda: len(syncs(a)) > before, 10, "a comparison")
    assert all((added, removed) == (0, 0) for _, added, removed in syncs(a)[before:])
    change(cluster, delete(net, range(MANY + 5)))
    wait_until(lambda: entries(a) == (0, 0, 0), 20, "no entries")


HTTPD = ["sh", "-c", "mkdir /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www"]


def fetch(netns, url):
    return run("nsenter", f"--net={netns}", "curl", "-s", "-m", "2", url).out


def inside(host, name):
    return f"/proc/{host.inspect(name)['State']['Pid']}/ns/net"


def test_ports_are_published_where_the_container_runs(make_cluster):  # noqa: F811
    cluster = make_cluster(hosts=2)
    a, b = cluster.hosts
    outside = "/run/netns/" + cluster.members[0].netns  # neither host, but on their wire
    ns_a, ns_b = ("/run/netns/" + host.name for host in cluster.hosts)
    create(cluster, "ovl", "--subnet", "10.91.0.0/24")
    create(cluster, "inner", "--subnet", "10.92.0.0/24", "--internal")
    sleeper(a, "c1")
    sleeper(b, "c2")
    sleeper(b, "shut", network="inner")
    b.docker("run", "-d", "--name", "web", "--network", "ovl", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "80", IMAGE, *HTTPD)
    web = address(b, "web")
    assert {"80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080", "80/tcp -> 127.0.0.1:8081"} < set(b.docker("port", "web").out.splitlines())
    picked = b.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"][-1]["HostPort"]
    from_b = f"http://{FABRIC_HOST}.12"

    def served():
        for netns, url in ((outside, f"{from_b}:8080"), (ns_a, f"{from_b}:8080"), (ns_b, f"{from_b}:8080"), (ns_b, "http://127.0.0.1:8080"),
                           (ns_b, "http://[::1]:8080"), (ns_b, "http://127.0.0.1:8081"), (outside, f"{from_b}:{picked}"), (ns_b, "http://10.91.0.1:8080"),
                           (inside(a, "c1"), f"{from_b}:8080"), (inside(b, "c2"), f"{from_b}:8080"), (inside(b, "web"), f"{from_b}:8080"),
                           (inside(b, "c2"), f"http://{web}")):
            wait_until(lambda: fetch(netns, url) == "served\n", 5, f"an answer from {url} to {netns}")
        for netns, url in ((outside, f"http://{FABRIC_HOST}.11:8080"), (outside, f"{from_b}:8081"), (inside(b, "c2"), "http://10.91.0.1:8081"),
                           (inside(b, "shut"), f"http://{web}"), (inside(b, "shut"), "http://10.92.0.1:8080")):
            assert fetch(netns, url) == "", (netns, url)
        assert f"{web}:80" not in fetch(outside, f"http://{web}")
    served()
    # one port, whichever driver has it first
    b.docker("network", "create", "front")
    for network in ("front", "ovl"):
        taken = b.docker("run", "--rm", "--network", network, "-p", "8080:80", IMAGE, "true", check=False)
        assert taken.code == 125 and "8080" in taken.err and ("already" in taken.err), taken
    # a daemon that dies, and one whose etcd is away when it comes back; somebody who flushes the rules
    b.kill9()
    assert fetch(outside, f"{from_b}:8080") == "served\n"
    cluster.members[0].kill()
    b.start()
    assert fetch(outside, f"{from_b}:8080") == "served\n" and fetch(ns_b, "http://[::1]:8080") == "served\n"
    cluster.members[0].start()
    wait_until(lambda: b.docker("run", "--rm", "--network", "ovl", IMAGE, "true", check=False).code == 0, 20, "etcd known again")
    served()
    b.command("nft", "flush", "ruleset")
    assert fetch(outside, f"{from_b}:8080") == ""
    b.docker("run", "--rm", "--network", "ovl", IMAGE, "true")
    served()
    b.command("nft", "flush", "ruleset")
    b.docker("run", "-d", "--name", "second", "--network", "ovl", "-p", "8090:80", IMAGE, *HTTPD)
    wait_until(lambda: fetch(outside, f"{from_b}:8090") == "served\n", 5, "the second one's port")
    served()
    b.docker("rm", "-f", "second")
    # the rules go with the container; the client's address is what it is
    b.docker("rm", "-f", "web")
    assert "8080" not in b.nft() and fetch(outside, f"{from_b}:8080") == ""
    b.docker("run", "-d", "--name", "c3", "--network", "ovl", "-p", "9000:9000", IMAGE, "nc", "-ll", "-p", "9000", "-e", "sh", "-c", "netstat -tn | grep 9000")
    told = wait_until(lambda: run("nsenter", f"--net={outside}", "timeout", "3", "bash", "-c", f"cat < /dev/tcp/{FABRIC_HOST}.12/9000").out, what="an answer")
    assert f"{FABRIC_HOST}.21" in told
    # internal networks publish nothing, and say so
    assert "discarded" in b.docker("run", "--rm", "--network", "inner", "-p", "8095:80", IMAGE, "true").err.lower()
    for host in cluster.hosts:
        host.remove_everything()
    wait_until(lambda: not any("gantry-overlay" in host.nft() for host in cluster.hosts), 10, "no rules")


def test_both_families_on_one_host(make_cluster):  # noqa: F811
    """A container with IPv6 is published on it by the kernel, and rules that somebody flushed come back in both families."""
    cluster = make_cluster(hosts=1)
    a = cluster.hosts[0]
    create(cluster, "ovl", "--subnet", "10.91.0.0/24", "--subnet", "fd00:91::/64", "--ipv6")
    a.docker("run", "-d", "--name", "web", "--network", "ovl", "-p", "8080:80", IMAGE, "sh", "-c",
             "mkdir /www; echo served > /www/index.html; exec httpd -f -p [::]:80 -h /www")
    ns, own = "/run/netns/" + a.name, inside(a, "web")
    urls = ("http://127.0.0.1:8080", "http://[::1]:8080", "http://10.91.0.1:8080", "http://[fd00:91::1]:8080")

    def served():
        for netns, url in [(ns, url) for url in urls] + [(own, url) for url in urls[2:]]:
            wait_until(lambda: fetch(netns, url) == "served\n", 5, f"an answer from {url}")
    served()

    def rules():  # networks and elements come in any order
        text = "".join(a.command("nft", "list", "table", family, "gantry-overlay", check=False).out for family in ("ip", "ip6"))
        return sorted(text.replace(",", "").split())
    whole = rules()
    for repair in (lambda: a.docker("run", "--rm", "--network", "ovl", IMAGE, "true"), lambda: a.restart(crash=True)):
        a.command("nft", "flush", "ruleset")
        assert fetch(ns, urls[2]) == ""
        repair()
        wait_until(lambda: rules() == whole, 10, "the rules as they were")
        served()
