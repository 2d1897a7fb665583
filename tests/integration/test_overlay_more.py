"""Networks that span hosts, with many containers. What there is comes from test_overlay.py."""

import base64
import json
import re

import pytest

from harness import run, wait_until
from test_overlay import ETCD, create, keys_of, make_cluster, networks, pings, resolves, sleeper  # noqa: F401

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
