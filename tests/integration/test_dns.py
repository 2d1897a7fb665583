"""Names of containers: the resolver of user-defined networks at 127.0.0.11, seen by real resolvers and by raw messages."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from harness import IMAGE, SLOW, run, wait_until

A, PTR, MX, AAAA, ANY = 1, 12, 15, 28, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)

# One question from inside a network namespace; the answer as hex on stdout.
ASK = """
import socket, struct, sys
packet, tcp, port, timeout = bytes.fromhex(sys.argv[1]), sys.argv[2] == "tcp", int(sys.argv[3]), float(sys.argv[4])
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
s.settimeout(timeout)
s.connect(("127.0.0.11", port))
if tcp:
    s.sendall(struct.pack("!H", len(packet)) + packet)
    f = s.makefile("rb")
    print(f.read(struct.unpack("!H", f.read(2))[0]).hex())
else:
    s.send(packet)
    print(s.recv(65535).hex())
"""


def wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


def question(name, kind=A, ident=0x1234, flags=0x0100, edns=None, klass=1):
    extra = b"" if edns is None else b"\0" + struct.pack("!HHIH", 41, edns, 0, 0)
    return struct.pack("!6H", ident, flags, 1, 0, 0, 1 if extra else 0) + wire(name) + struct.pack("!HH", kind, klass) + extra


class Answer:
    def __init__(self, packet):
        self.packet = packet
        self.id, flags, qd, an, _, self.additional = struct.unpack("!6H", packet[:12])
        self.rcode, self.cut, self.response = flags & 15, bool(flags & 0x200), bool(flags & 0x8000)
        at, self.records, self.question = 12, [], None
        if qd:
            self.question, at = self._name(at)
            at += 4
        for _ in range(an):
            name, at = self._name(at)
            kind, _, ttl, size = struct.unpack("!HHIH", packet[at:at + 10])
            data = packet[at + 10:at + 10 + size]
            if kind == A:
                data = socket.inet_ntop(socket.AF_INET, data)
            elif kind == AAAA:
                data = socket.inet_ntop(socket.AF_INET6, data)
            elif kind == PTR:
                data = self._name(at + 10)[0]
            self.records.append((kind, data))
            at += 10 + size

    def _name(self, at):
        labels, end = [], None
        while self.packet[at]:
            if self.packet[at] >= 0xc0:
                end, at = end or at + 2, struct.unpack("!H", self.packet[at:at + 2])[0] & 0x3fff
                continue
            labels.append(self.packet[at + 1:at + 1 + self.packet[at]].decode("latin-1"))
            at += self.packet[at] + 1
        return ".".join(labels), end or at + 1

    @property
    def data(self):
        return [data for _, data in self.records]


def send(daemon, container, packet, tcp=False, port=53, timeout=8):
    pid = daemon.inspect(container)["State"]["Pid"]
    done = subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", ASK, packet.hex(), "tcp" if tcp else "udp", str(port), str(timeout)],
                          capture_output=True, text=True, timeout=60 * SLOW)
    return Answer(bytes.fromhex(done.stdout)) if done.returncode == 0 else None


def ask(daemon, container, name, kind=A, tcp=False, **kw):
    answer = send(daemon, container, question(name, kind, **kw), tcp)
    assert answer is not None, f"no answer on {name}"
    assert answer.id == 0x1234 and answer.response
    return answer


def address(daemon, container, network, field="IPAddress"):
    return daemon.inspect(container)["NetworkSettings"]["Networks"][network][field]


def sleeper(daemon, name, *options):
    daemon.docker("run", "-d", "--name", name, *options, IMAGE, "sleep", "1000")


def test_resolv_conf(daemon):
    daemon.docker("network", "create", "net1")
    text = daemon.docker("run", "--rm", "--network", "net1", "--dns", "10.1.2.3", "--dns-search", "example.org", IMAGE, "cat", "/etc/resolv.conf").out
    assert [line for line in text.splitlines() if line.startswith("nameserver")] == ["nameserver 127.0.0.11"]
    assert "search example.org" in text and "options ndots:0" in text and "# ExtServers: [host(10.1.2.3)]" in text
    options = daemon.docker("run", "--rm", "--network", "net1", "--dns-option", "ndots:3", "--dns-option", "rotate", IMAGE, "cat", "/etc/resolv.conf").out
    assert "options ndots:3 rotate" in options
    assert "127.0.0.11" not in daemon.docker("run", "--rm", "--dns", "10.1.2.3", IMAGE, "cat", "/etc/resolv.conf").out


def test_names_aliases_and_short_ids(daemon):
    daemon.docker("network", "create", "net1")
    sleeper(daemon, "db", "--network", "net1", "--network-alias", "store", "--network-alias", "db.example.test", "--hostname", "dbhost")
    sleeper(daemon, "web", "--network", "net1")
    ip, ident = address(daemon, "db", "net1"), daemon.inspect("db")["Id"]
    for name in ("db", "DB", "store", "db.example.test", "dbhost", ident[:12], "db.net1", "Store.NET1"):
        for tcp in (False, True):
            answer = ask(daemon, "web", name, tcp=tcp)
            assert (answer.rcode, answer.data, answer.question) == (NOERROR, [ip], name), name
    assert ask(daemon, "web", "web").data == [address(daemon, "web", "net1")]
    for kind in (AAAA, MX, 65):
        answer = ask(daemon, "web", "db", kind)
        assert (answer.rcode, answer.data) == (NOERROR, [])
    reverse = ".".join(reversed(ip.split("."))) + ".in-addr.arpa"
    assert ask(daemon, "web", reverse, PTR).data == ["db.net1"]


def test_real_resolvers(daemon, tmp_path):
    daemon.docker("network", "create", "net1")
    daemon.docker("run", "-d", "--name", "web", "--network", "net1", "--network-alias", "site", IMAGE, "sh", "-c",
                  "mkdir /www; echo served > /www/index.html; httpd -f -p 80 -h /www")
    ip = address(daemon, "web", "net1")
    first = daemon.docker("run", "--rm", "--network", "net1", IMAGE, "nslookup", "web").out  # resolves from the first instruction on
    assert ip in first
    wait_until(lambda: daemon.docker("run", "--rm", "--network", "net1", IMAGE, "wget", "-qO-", "http://site/", check=False).out == "served\n", what="a page")
    assert daemon.docker("run", "--rm", "--network", "net1", IMAGE, "ping", "-c1", "-W2", "web.net1").code == 0
    source = "#include <netdb.h>\n#include <stdio.h>\n#include <arpa/inet.h>\nint main(int c, char **v) { struct addrinfo *r, h = {.ai_socktype = 1};" \
             " int rc = getaddrinfo(v[c - 1], 0, &h, &r); if (rc) { puts(gai_strerror(rc)); return 1; } char t[64];" \
             " for (; r; r = r->ai_next) puts(inet_ntop(r->ai_family, r->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)r->ai_addr)->sin_addr" \
             " : (void *)&((struct sockaddr_in6 *)r->ai_addr)->sin6_addr, t, sizeof t)); return 0; }"
    subprocess.run(["gcc", "-w", "-static", "-x", "c", "-o", str(tmp_path / "resolve"), "-"], input=source.encode(), check=True, stderr=subprocess.DEVNULL)
    assert daemon.docker("run", "--rm", "--network", "net1", "-v", f"{tmp_path}:/srv:ro", IMAGE, "/srv/resolve", "site").out == ip + "\n"


def test_several_addresses_are_rotated(daemon):
    daemon.docker("network", "create", "net1")
    for i in range(3):
        sleeper(daemon, f"c{i}", "--network", "net1", "--network-alias", "all")
    addresses = {address(daemon, f"c{i}", "net1") for i in range(3)}
    answers = [ask(daemon, "c0", "all").data for _ in range(3)]
    assert all(set(a) == addresses for a in answers)
    assert {a[0] for a in answers} == addresses


def test_networks_are_apart(daemon):
    daemon.docker("network", "create", "left")
    daemon.docker("network", "create", "--internal", "right")
    sleeper(daemon, "l1", "--network", "left")
    sleeper(daemon, "r1", "--network", "right")
    sleeper(daemon, "both", "--network", "left", "--network-alias", "middle")
    assert ask(daemon, "r1", "both").rcode == NXDOMAIN
    daemon.docker("network", "connect", "--alias", "centre", "right", "both")
    assert ask(daemon, "r1", "both").data == [address(daemon, "both", "right")]
    assert ask(daemon, "r1", "centre").data == [address(daemon, "both", "right")]
    assert ask(daemon, "r1", "middle").rcode == NXDOMAIN
    assert ask(daemon, "both", "r1").data == [address(daemon, "r1", "right")]
    assert ask(daemon, "both", "l1").data == [address(daemon, "l1", "left")]
    assert ask(daemon, "r1", "l1").rcode == NXDOMAIN
    daemon.docker("network", "disconnect", "right", "both")
    assert ask(daemon, "r1", "both").rcode == NXDOMAIN
    assert ask(daemon, "both", "r1.right").rcode != NOERROR


def test_a_container_comes_into_its_first_network_while_it_runs(daemon):
    daemon.docker("network", "create", "net1")
    sleeper(daemon, "c1", "--network", "net1")
    sleeper(daemon, "late")
    assert "127.0.0.11" not in daemon.docker("exec", "late", "cat", "/etc/resolv.conf").out
    daemon.docker("network", "connect", "net1", "late")
    assert "nameserver 127.0.0.11" in daemon.docker("exec", "late", "cat", "/etc/resolv.conf").out
    assert address(daemon, "c1", "net1") in daemon.docker("exec", "late", "nslookup", "c1").out


def test_rename_and_death(daemon):
    daemon.docker("network", "create", "net1")
    sleeper(daemon, "asker", "--network", "net1", "--dns", "127.0.0.200")
    sleeper(daemon, "before", "--network", "net1")
    ip = address(daemon, "before", "net1")
    daemon.docker("rename", "before", "after")
    assert ask(daemon, "asker", "after").data == [ip]
    assert ask(daemon, "asker", "before").rcode == SERVFAIL
    daemon.docker("stop", "-t", "0", "after")
    assert ask(daemon, "asker", "after").rcode == SERVFAIL
    daemon.docker("start", "after")
    assert ask(daemon, "asker", "after").data == [address(daemon, "after", "net1")]


def test_ipv6(daemon):
    daemon.docker("network", "create", "--ipv6", "--subnet", "fd00:78::/64", "--subnet", "10.78.0.0/24", "six")
    sleeper(daemon, "c1", "--network", "six")
    v6 = address(daemon, "c1", "six", "GlobalIPv6Address")
    assert ask(daemon, "c1", "c1", AAAA).data == [v6]
    assert set(ask(daemon, "c1", "c1", ANY).data) == {v6, address(daemon, "c1", "six")}
    packed = socket.inet_pton(socket.AF_INET6, v6).hex()
    assert ask(daemon, "c1", ".".join(reversed(packed)) + ".ip6.arpa", PTR).data == ["c1.six"]


def test_the_daemon_is_killed_and_starts_again(fresh_daemon):
    daemon = fresh_daemon.start()
    daemon.docker("network", "create", "net1")
    sleeper(daemon, "c1", "--network", "net1", "--network-alias", "alias")
    sleeper(daemon, "c2", "--network", "net1")
    ip = address(daemon, "c1", "net1")
    assert ask(daemon, "c2", "alias").data == [ip]
    for crash in (True, False, True):
        daemon.restart(crash=crash)
        pid = daemon.inspect("c2")["State"]["Pid"]
        wait_until(lambda: (a := send(daemon, "c2", question("alias"), timeout=0.5)) and a.data == [ip], 1, "an answer")
        assert ask(daemon, "c2", "alias", tcp=True).data == [ip]
        rules = run("nsenter", f"--net=/proc/{pid}/ns/net", "nft", "list", "ruleset").out
        assert rules.count("dport 53") == 2


def test_a_name_server_of_the_containers_own(daemon, tmp_path):
    daemon.docker("network", "create", "net1")
    server = """
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(53) }, from;
	char bytes[512];
	int fd = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || bind(tcp, (struct sockaddr *)&at, sizeof at) < 0 || listen(tcp, 1) < 0)
		return 1;
	write(1, "up\\n", 3);
	for (;;) {
		socklen_t len = sizeof from;
		ssize_t n = recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &len);
		sendto(fd, bytes, n, 0, (struct sockaddr *)&from, len);
	}
}
"""
    subprocess.run(["gcc", "-O1", "-w", "-static", "-x", "c", "-o", str(tmp_path / "server"), "-"], input=server.encode(), check=True)
    daemon.docker("run", "-d", "--name", "ns", "--network", "net1", "-v", f"{tmp_path}:/srv:ro", IMAGE, "/srv/server")
    wait_until(lambda: daemon.docker("logs", "ns").out == "up\n", what="the container's own server")
    assert ask(daemon, "ns", "ns").data == [address(daemon, "ns", "net1")]
    script = "import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(3);s.sendto(b'hello',(sys.argv[1],53));print(s.recv(99).decode())"
    assert daemon.command(sys.executable, "-c", script, address(daemon, "ns", "net1")).out == "hello\n"


# ---- everything else: upstream servers ----

class Upstream:
    """A name server in another namespace. Its names say how it is to behave."""

    SCRIPT = textwrap.dedent("""
        import json, socket, struct, sys, threading
        address, seen = sys.argv[1], sys.argv[2]
        log = open(seen, "a", buffering=1)
        def respond(packet, tcp, source):
            at, labels = 12, []
            while packet[at]:
                labels.append(packet[at + 1:at + 1 + packet[at]].decode("latin-1")); at += packet[at] + 1
            end = at + 5
            name = ".".join(labels).lower()
            edns = packet[end:]
            log.write(json.dumps({"name": name, "tcp": tcp, "id": packet[:2].hex(), "port": source, "edns": edns.hex(), "at": address}) + "\\n")
            head = lambda flags, an, ident=packet[:2]: ident + struct.pack("!5H", flags, 1, an, 0, 0)
            record = lambda n: b"\\xc0\\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([192, 0, 2, n])
            body = packet[12:end]
            if name.startswith("silent"): return []
            if name.startswith("missing"): return [head(0x8183, 0) + body]
            if name.startswith("broken"): return [head(0x8182, 0) + body]
            if name.startswith("long") and not tcp: return [head(0x8380, 0) + body]
            if name.startswith(("long", "large")):
                n = 100
                return [head(0x8180, n) + body + b"".join(record(i) for i in range(n))]
            if name.startswith("forged"):
                wrong = bytes([packet[0] ^ 255, packet[1]])
                other = b"\\x05other\\0" + body[-4:]
                return [head(0x8180, 1, wrong) + body + record(66), head(0x8180, 1) + other + record(66), b"xx", head(0x8180, 1) + body + record(1)]
            return [head(0x8180, 1) + body + record(int(address.split(".")[-1]))]
        def udp():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((address, 53))
            print("up", flush=True)
            while True:
                packet, source = s.recvfrom(4096)
                for answer in respond(packet, False, source[1]): s.sendto(answer, source)
        def one(c, source):
            f = c.makefile("rb")
            while True:
                size = f.read(2)
                if len(size) < 2: return
                for answer in respond(f.read(struct.unpack("!H", size)[0]), True, source[1]): c.sendall(struct.pack("!H", len(answer)) + answer)
        def tcp():
            l = socket.create_server((address, 53))
            while True:
                c, source = l.accept(); threading.Thread(target=one, args=(c, source), daemon=True).start()
        threading.Thread(target=tcp, daemon=True).start()
        udp()
    """)

    def __init__(self, netns, address, path):
        self.path = path
        self.process = subprocess.Popen(["ip", "netns", "exec", netns, sys.executable, "-c", self.SCRIPT, address, str(path)], stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"up\n"

    def seen(self):
        with open(self.path) as f:
            return [json.loads(line) for line in f]

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def outside(daemon):
    """A second host: a namespace wired to the daemon's, 10.232.0.1 and .3 there and 10.232.0.2 here."""
    name = daemon.name + "d"
    run("ip", "netns", "add", name)
    run("ip", "-n", daemon.name, "link", "add", "up1", "type", "veth", "peer", "name", "up1", "netns", name)
    for ns, at in ((name, "10.232.0.1/24"), (name, "10.232.0.3/24"), (daemon.name, "10.232.0.2/24")):
        run("ip", "-n", ns, "address", "add", at, "dev", "up1")
        run("ip", "-n", ns, "link", "set", "up1", "up")
    run("ip", "-n", name, "link", "set", "lo", "up")
    yield name
    run("ip", "netns", "del", name)
    run("ip", "-n", daemon.name, "link", "del", "up1")


@pytest.fixture
def upstream(outside, tmp_path):
    server = Upstream(outside, "10.232.0.1", tmp_path / "seen")
    yield server
    server.stop()


def test_other_names_are_asked_of_the_upstream_server(daemon, upstream):
    daemon.docker("network", "create", "net1")
    sleeper(daemon, "c1", "--network", "net1", "--dns", "10.232.0.1")
    for tcp in (False, True):
        answer = ask(daemon, "c1", "Host.Example.test", tcp=tcp)
        assert (answer.rcode, answer.data, answer.question) == (NOERROR, ["192.0.2.1"], "Host.Example.test")
        assert ask(daemon, "c1", "missing.test", tcp=tcp).rcode == NXDOMAIN
        assert ask(daemon, "c1", "broken.test", tcp=tcp).rcode == SERVFAIL
        assert ask(daemon, "c1", "forged.test").data == ["192.0.2.1"]
    assert {line["tcp"] for line in upstream.seen() if line["name"] == "host.example.test"} == {False, True}
    assert not any(line["name"].startswith("c1") for line in upstream.seen())
    ask(daemon, "c1", "c1", AAAA)
    ask(daemon, "c1", "c1", 65)
    assert not any(line["name"].startswith("c1") for line in upstream.seen())
    assert "192.0.2.1" in daemon.docker("exec", "c1", "nslookup", "host.example.test").out


def test_long_answers_and_edns(daemon, upstream):
    daemon.docker("network", "create", "net1")
    sleeper(daemon, "c1", "--network", "net1", "--dns", "10.232.0.1")
    cut = ask(daemon, "c1", "long.test")
    assert cut.cut and not cut.records
    assert len(ask(daemon, "c1", "long.test", tcp=True).records) == 100
    too_long = ask(daemon, "c1", "large.test")
    assert too_long.cut and len(too_long.packet) <= 512
    assert len(ask(daemon, "c1", "large.test", edns=4096).records) == 100
    assert upstream.seen()[-1]["edns"].startswith("0000291000")
    daemon.docker("exec", "c1", "nslookup", "large.test", check=False)


def test_ids_and_ports_of_forwarded_questions_are_random(daemon, upstream):
    daemon.docker("network", "create", "net1")
    sleeper(daemon, "c1", "--network", "net1", "--dns", "10.232.0.1")
    for i in range(12):
        ask(daemon, "c1", f"name{i}.test")
    lines = upstream.seen()
    assert len({line["id"] for line in lines}) >= 11 and len({line["port"] for line in lines}) >= 11
    assert "1234" not in [line["id"] for line in lines][:1]


def test_the_next_server_where_one_is_silent_closed_or_broken(daemon, outside, upstream, tmp_path):
    daemon.docker("network", "create", "net1")
    second = Upstream(outside, "10.232.0.3", tmp_path / "second")
    try:
        sleeper(daemon, "closed", "--network", "net1", "--dns", "10.232.0.2", "--dns", "10.232.0.3")  # nobody listens at the first
        closed = time.monotonic()
        assert ask(daemon, "closed", "host.test").data == ["192.0.2.3"]
        closed = time.monotonic() - closed
        sleeper(daemon, "silent", "--network", "net1", "--dns", "10.232.0.77", "--dns", "10.232.0.3")  # nobody is there
        silent = time.monotonic()
        assert ask(daemon, "silent", "host.test").data == ["192.0.2.3"]
        assert closed < time.monotonic() - silent       # a refusal is heard, not waited out
        assert ask(daemon, "silent", "host.test", tcp=True).data == ["192.0.2.3"]
        sleeper(daemon, "both", "--network", "net1", "--dns", "10.232.0.1", "--dns", "10.232.0.3")
        assert ask(daemon, "both", "broken.test").rcode == SERVFAIL
        assert [s.seen()[-1]["name"] for s in (upstream, second)] == ["broken.test"] * 2
        assert ask(daemon, "both", "silent.test").rcode == SERVFAIL
    finally:
        second.stop()


def test_nothing_leaves_internal_networks(daemon, upstream):
    daemon.docker("network", "create", "--internal", "closed")
    sleeper(daemon, "c1", "--network", "closed", "--dns", "10.232.0.1")
    assert ask(daemon, "c1", "host.test").rcode == NXDOMAIN
    assert ask(daemon, "c1", "c1").data == [address(daemon, "c1", "closed")]
    assert upstream.seen() == [] if os.path.exists(upstream.path) else True


def test_hostile_messages(daemon, upstream):
    daemon.docker("network", "create", "net1")
    sleeper(daemon, "c1", "--network", "net1", "--dns", "10.232.0.1")
    good = question("c1")
    for packet in (b"", b"x", good[:11], question("c1", flags=0x8100), os.urandom(5000)):
        assert send(daemon, "c1", packet, timeout=0.3) is None
    two = good[:4] + b"\0\2" + good[6:]
    loop = good[:12] + b"\xc0\x0c" + good[-4:]
    for packet in (good[:12], good[:-3], two, loop, good[:12] + b"\x3fabc"):
        assert send(daemon, "c1", packet).rcode == FORMERR
    assert send(daemon, "c1", question("c1", flags=0x2800)).rcode == NOTIMP
    assert send(daemon, "c1", question("c1", 252)).rcode == REFUSED
    assert send(daemon, "c1", b"\0", tcp=True) is None
    assert ask(daemon, "c1", "c1").data == [address(daemon, "c1", "net1")]


def test_300_names_at_once(daemon, upstream):
    daemon.docker("network", "create", "net1")
    sleeper(daemon, "c1", "--network", "net1", "--dns", "10.232.0.1", "--network-alias", "own")
    pid = daemon.inspect("c1")["State"]["Pid"]
    script = textwrap.dedent("""
        import socket, struct
        codes, sockets = [], []
        for n in range(6):  # a socket's buffer has room for some 200 small datagrams
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(8); s.connect(("127.0.0.11", 53)); sockets.append(s)
            for i in range(100):
                name = f"name{n}-{i}.test" if i % 2 else "own"
                s.send(struct.pack("!6H", i, 0x100, 1, 0, 0, 0) + b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\\0\\0\\1\\0\\1")
        for s in sockets:
            codes += [s.recv(9999)[3] & 15 for i in range(100)]
        print(codes.count(0))
    """)
    done = run("nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", script)
    assert done.out == "600\n", (done, run("nsenter", f"--net=/proc/{pid}/ns/net", "sh", "-c", "grep Udp: /proc/net/snmp").out, len(upstream.seen()))


def test_ndots_keeps_single_labels_inside(daemon, upstream):
    daemon.docker("network", "create", "net1")
    sleeper(daemon, "c1", "--network", "net1", "--dns", "10.232.0.1", "--dns-option", "ndots:2")
    sleeper(daemon, "c2", "--network", "net1", "--dns", "10.232.0.1")
    assert ask(daemon, "c1", "single").rcode == NXDOMAIN
    assert ask(daemon, "c2", "single").data == ["192.0.2.1"]


# ---- links ----

def test_links_in_user_defined_networks_are_the_containers_own_aliases(daemon):
    daemon.docker("network", "create", "net1")
    daemon.docker("network", "create", "net2")
    sleeper(daemon, "db", "--network", "net1")
    sleeper(daemon, "web", "--network", "net1", "--link", "db:store", "--dns", "127.0.0.200")
    sleeper(daemon, "other", "--network", "net1", "--dns", "127.0.0.200")
    ip = address(daemon, "db", "net1")
    assert ask(daemon, "web", "store").data == [ip] and ask(daemon, "web", "STORE", tcp=True).data == [ip]
    assert ask(daemon, "web", "store", AAAA).rcode == NOERROR
    assert ask(daemon, "other", "store").rcode == SERVFAIL
    assert daemon.inspect("web")["NetworkSettings"]["Networks"]["net1"]["Links"] == ["db:store"]
    assert daemon.inspect("web")["HostConfig"]["Links"] == ["/db:/web/store"]
    daemon.docker("network", "connect", "--link", "late:l", "net2", "other")  # what is not there yet is found when it comes
    assert ask(daemon, "other", "l").rcode == SERVFAIL
    sleeper(daemon, "late", "--network", "net2")
    assert ask(daemon, "other", "l").data == [address(daemon, "late", "net2")]
    daemon.docker("rename", "db", "database")
    assert ask(daemon, "web", "store").data == [ip]
    refused = daemon.docker("run", "--rm", "--network", "host", "--link", "database:x", IMAGE, "true", check=False)
    assert refused.code == 125 and "link" in refused.err


def test_links_on_the_default_bridge(daemon):
    daemon.docker("run", "-d", "--name", "db", "--hostname", "dbhost", "--expose", "5432", "--expose", "53/udp", "-e", "USER=me", IMAGE, "sleep", "1000")
    sleeper(daemon, "web", "--link", "db:my-store", "--link", "db")
    ip = address(daemon, "db", "bridge")
    hosts = lambda: daemon.docker("exec", "web", "cat", "/etc/hosts").out
    assert f"{ip}\tmy-store dbhost db\n" in hosts() and f"{ip}\tdb dbhost\n" in hosts()
    env = daemon.docker("exec", "web", "env").out.splitlines()
    for line in (f"MY_STORE_PORT=udp://{ip}:53", f"MY_STORE_PORT_5432_TCP=tcp://{ip}:5432", f"MY_STORE_PORT_5432_TCP_ADDR={ip}", "MY_STORE_PORT_5432_TCP_PORT=5432",
                 "MY_STORE_PORT_5432_TCP_PROTO=tcp", "MY_STORE_NAME=/web/my-store", "MY_STORE_ENV_USER=me", "DB_NAME=/web/db"):
        assert line in env, (line, env)
    assert daemon.inspect("web")["HostConfig"]["Links"] == ["/db:/web/my-store", "/db:/web/db"]
    assert daemon.docker("exec", "web", "ping", "-c1", "-W2", "my-store").code == 0
    daemon.docker("stop", "-t", "0", "db")
    sleeper(daemon, "squatter")  # takes the address over
    daemon.docker("start", "db")
    moved = address(daemon, "db", "bridge")
    wait_until(lambda: f"{moved}\tmy-store dbhost db\n" in hosts(), what="the new address in hosts")
    if moved != ip:
        assert f"{ip}\tmy-store" not in hosts()
    daemon.docker("stop", "-t", "0", "web", "db")
    refused = daemon.docker("start", "web", check=False)
    assert refused.code == 1 and "Cannot link to a non running container: /db AS /web/my-store" in refused.err
    missing = daemon.docker("run", "--rm", "--link", "nobody:x", IMAGE, "true", check=False)
    assert missing.code == 125 and "nobody" in missing.err


def test_links_outlive_the_daemon(fresh_daemon):
    daemon = fresh_daemon.start()
    daemon.docker("network", "create", "net1")
    sleeper(daemon, "db")
    sleeper(daemon, "web", "--link", "db:store")
    sleeper(daemon, "udb", "--network", "net1")
    sleeper(daemon, "uweb", "--network", "net1", "--link", "udb:store")
    daemon.restart(crash=True)
    assert daemon.inspect("web")["HostConfig"]["Links"] == ["/db:/web/store"]
    wait_until(lambda: (a := send(daemon, "uweb", question("store"), timeout=0.5)) and a.data == [address(daemon, "udb", "net1")], 1, "an answer")
    daemon.docker("stop", "-t", "0", "db")
    sleeper(daemon, "squatter")
    daemon.docker("start", "db")
    ip = address(daemon, "db", "bridge")
    wait_until(lambda: f"{ip}\tstore" in daemon.docker("exec", "web", "cat", "/etc/hosts").out, what="the new address in hosts")
