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

from harness import IMAGE, run, wait_until

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
                          capture_output=True, text=True, timeout=60)
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
