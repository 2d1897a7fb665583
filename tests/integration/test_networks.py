"""The bridge, host and none networks as users see them: addresses, the way out, published ports, names in files."""

import json
import socket
import subprocess

import pytest

from harness import IMAGE, run, wait_until

HTTPD = ["sh", "-c", "mkdir /www; echo served > /www/index.html; httpd -f -p 80 -h /www"]


def fetch(daemon, url):
    return daemon.command("curl", "-s", "-m", "5", url, check=False)


def fetched(daemon, url):
    return wait_until(lambda: fetch(daemon, url).out, 10, f"an answer from {url}")


@pytest.fixture
def outside(daemon):
    """A second host: a namespace wired to the daemon's, 10.231.0.1 there and 10.231.0.2 here."""
    name = daemon.name + "o"
    run("ip", "netns", "add", name)
    run("ip", "-n", daemon.name, "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", name)
    for ns, address in ((name, "10.231.0.1/24"), (daemon.name, "10.231.0.2/24")):
        run("ip", "-n", ns, "address", "add", address, "dev", "up0")
        run("ip", "-n", ns, "link", "set", "up0", "up")
    run("ip", "-n", name, "link", "set", "lo", "up")
    yield name
    run("ip", "netns", "del", name)
    run("ip", "-n", daemon.name, "link", "del", "up0")


def test_an_address_of_the_bridge(daemon):
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "100")
    network = daemon.inspect("c1")["NetworkSettings"]["Networks"]["bridge"]
    bridge = daemon.json("GET", "/networks/bridge")
    assert bridge["Options"] == {"com.docker.network.bridge.default_bridge": "true", "com.docker.network.bridge.name": "gtbr0"}
    assert network["Gateway"] == bridge["IPAM"]["Config"][0]["Gateway"]
    shown = daemon.docker("exec", "c1", "ip", "-o", "addr", "show", "eth0").out
    assert f"inet {network['IPAddress']}/{network['IPPrefixLen']}" in shown
    assert f"default via {network['Gateway']}" in daemon.docker("exec", "c1", "ip", "route").out
    assert network["MacAddress"] in daemon.docker("exec", "c1", "cat", "/sys/class/net/eth0/address").out


def test_containers_reach_each_other_and_the_gateway(daemon):
    daemon.docker("run", "-d", "--name", "server", IMAGE, *HTTPD)
    info = daemon.inspect("server")["NetworkSettings"]["Networks"]["bridge"]
    wait_until(lambda: daemon.docker("run", "--rm", IMAGE, "wget", "-qO-", f"http://{info['IPAddress']}/", check=False).out == "served\n",
               what="the other container's answer")
    assert daemon.docker("run", "--rm", IMAGE, "ping", "-c1", "-W2", info["Gateway"], check=False).code == 0


def test_the_way_out_is_masqueraded(daemon, outside):
    server = subprocess.Popen(["ip", "netns", "exec", outside, "python3", "-c",
                               "import socket\ns=socket.create_server(('10.231.0.1',7000))\nwhile True:\n c,a=s.accept(); c.sendall(a[0].encode()); c.close()"])
    try:
        out = wait_until(lambda: daemon.docker("run", "--rm", IMAGE, "nc", "-w", "3", "10.231.0.1", "7000", check=False).out, what="an answer")
        assert out == "10.231.0.2"
    finally:
        server.kill()
        server.wait()


def test_published_ports(daemon, outside):
    daemon.docker("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8081:80", IMAGE, *HTTPD)
    assert fetched(daemon, "http://127.0.0.1:8080/") == "served\n"
    assert fetched(daemon, "http://10.231.0.2:8080/") == "served\n"
    assert fetched(daemon, "http://127.0.0.1:8081/") == "served\n"
    out = run("ip", "netns", "exec", outside, "curl", "-s", "-m", "5", "http://10.231.0.2:8080/").out
    assert out == "served\n"
    assert run("ip", "netns", "exec", outside, "curl", "-s", "-m", "2", "http://10.231.0.2:8081/").code != 0
    assert set(daemon.docker("port", "web").out.splitlines()) == {"80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080", "80/tcp -> 127.0.0.1:8081"}
    hairpin = daemon.docker("run", "--rm", IMAGE, "wget", "-qO-", "http://10.231.0.2:8080/", check=False)
    assert hairpin.out == "served\n"
    assert "0.0.0.0:8080->80/tcp" in daemon.docker("ps").out
    daemon.docker("stop", "-t", "0", "web")
    assert fetch(daemon, "http://127.0.0.1:8080/").code != 0


def test_localhost_is_both_of_its_addresses(daemon, outside):
    """Clients that take localhost for ::1 reach a container that has IPv4 alone."""
    for ns, address in ((outside, "fd00:231::1/64"), (daemon.name, "fd00:231::2/64")):
        run("ip", "-n", ns, "address", "add", address, "dev", "up0", "nodad")
    daemon.docker("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "[::1]:8082:80", "-p", "80", IMAGE, *HTTPD)
    bindings = daemon.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"]
    assert [(b["HostIp"], b["HostPort"]) for b in bindings[:4]] == [("0.0.0.0", "8080"), ("::", "8080"), ("127.0.0.1", "8081"), ("::1", "8082")]
    assert [b["HostIp"] for b in bindings[4:]] == ["0.0.0.0", "::"] and bindings[4]["HostPort"] == bindings[5]["HostPort"]
    shown = daemon.docker("ps", "--format", "{{.Ports}}").out
    assert "0.0.0.0:8080->80/tcp" in shown and "[::]:8080->80/tcp" in shown and "127.0.0.1:8081->80/tcp" in shown and "[::1]:8082->80/tcp" in shown
    assert "[::]:8080->80/tcp" in daemon.gantry("ps").out
    picked = bindings[5]["HostPort"]

    def served():
        for url in ("127.0.0.1:8080", "[::1]:8080", "[fd00:231::2]:8080", "127.0.0.1:8081", "[::1]:8082", f"127.0.0.1:{picked}", f"[::1]:{picked}"):
            assert fetched(daemon, f"http://{url}/") == "served\n", url
        assert run("ip", "netns", "exec", outside, "curl", "-s", "-m", "5", "http://[fd00:231::2]:8080/").out == "served\n"
        assert fetch(daemon, "http://[::1]:8081/").code == 7 and fetch(daemon, "http://127.0.0.1:8082/").code == 7
        assert run("ip", "netns", "exec", outside, "curl", "-s", "-m", "5", "http://[fd00:231::2]:8082/").code == 7
    served()
    daemon.kill9()
    assert fetch(daemon, "http://[::1]:8080/").code == 7 and fetch(daemon, "http://127.0.0.1:8080/").out == "served\n"
    daemon.start()
    served()
    taken = daemon.docker("run", "--rm", "-p", "[::]:8080:80", IMAGE, "true", check=False)
    assert taken.code == 125 and "8080 failed: port is already allocated" in taken.err
    daemon.docker("rm", "-f", "web")
    assert fetch(daemon, "http://[::1]:8080/").code == 7


def test_a_host_without_ipv6_publishes_on_ipv4(daemon):
    daemon.command("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1")
    try:
        daemon.docker("run", "-d", "--name", "web", "-p", "8080:80", IMAGE, *HTTPD)
        assert daemon.docker("port", "web").out.splitlines() == ["80/tcp -> 0.0.0.0:8080"]
        assert fetched(daemon, "http://127.0.0.1:8080/") == "served\n"
        daemon.docker("rm", "-f", "web")
    finally:
        daemon.command("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=0")


def test_the_clients_address_is_kept(daemon, outside):
    daemon.docker("run", "-d", "--name", "c1", "-p", "9000:9000", IMAGE, "nc", "-ll", "-p", "9000", "-e", "sh", "-c", "netstat -tn | grep 9000")
    out = wait_until(lambda: run("ip", "netns", "exec", outside, "timeout", "3", "bash", "-c", "cat < /dev/tcp/10.231.0.2/9000").out, what="an answer")
    assert "10.231.0.1" in out


UDP_ECHO = """
#include <netinet/in.h>
#include <sys/socket.h>
int main(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(53) }, from;
	char bytes[512];
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
		return 1;
	for (;;) {
		socklen_t len = sizeof from;
		ssize_t n = recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &len);
		if (n < 0 || sendto(fd, bytes, (size_t)n, 0, (struct sockaddr *)&from, len) != n)
			return 1;
	}
}
"""


def test_udp_is_published_too(daemon, outside, tmp_path):
    subprocess.run(["gcc", "-O1", "-static", "-x", "c", "-o", str(tmp_path / "echo"), "-"], input=UDP_ECHO.encode(), check=True)
    daemon.docker("run", "-d", "--name", "c1", "-p", "5353:53/udp", "-v", f"{tmp_path}:/srv:ro", IMAGE, "/srv/echo")
    script = ("import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(1)\n"
              "s.sendto(b'ping',(sys.argv[1],5353));print(s.recv(100).decode())")
    out = wait_until(lambda: daemon.command("/usr/bin/python3", "-c", script, "127.0.0.1", check=False).out, what="an echo")
    assert out == "ping\n"
    assert daemon.command("/usr/bin/python3", "-c", script.replace("AF_INET,", "AF_INET6,"), "::1").out == "ping\n"
    assert run("ip", "netns", "exec", outside, "/usr/bin/python3", "-c", script, "10.231.0.2").out == "ping\n"


def test_ranges_and_ephemeral_ports(daemon):
    daemon.docker("run", "-d", "--name", "c1", "-p", "7000-7002:80-82", "-p", "90", IMAGE, *HTTPD)
    ports = daemon.inspect("c1")["NetworkSettings"]["Ports"]
    assert [ports[f"{p}/tcp"][0]["HostPort"] for p in (80, 81, 82)] == ["7000", "7001", "7002"]
    assert 1024 < int(ports["90/tcp"][0]["HostPort"]) < 65536
    assert fetched(daemon, "http://127.0.0.1:7000/") == "served\n"


def test_a_port_in_use_is_told_and_nothing_stays(daemon):
    daemon.docker("run", "-d", "--name", "first", "-p", "8080:80", IMAGE, *HTTPD)
    second = daemon.docker("run", "--name", "second", "-p", "8080:80", IMAGE, "true", check=False)
    assert second.code == 125 and "8080" in second.err
    assert daemon.state("second") == "created"
    assert daemon.docker("port", "first").out.splitlines() == ["80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080"]
    busy = subprocess.Popen(daemon.in_netns("python3", "-c", "import socket,time\ns=socket.create_server(('0.0.0.0',8090))\nprint('up',flush=True)\ntime.sleep(60)"), stdout=subprocess.PIPE)
    try:
        busy.stdout.readline()
        third = daemon.docker("run", "--rm", "-p", "8090:80", IMAGE, "true", check=False)
        assert third.code == 125 and "8090" in third.err
    finally:
        busy.kill()
        busy.wait()


def test_ipv6(daemon):
    daemon.docker("network", "create", "--ipv6", "--subnet", "fd00:77::/64", "--subnet", "10.77.0.0/24", "six")
    daemon.docker("run", "-d", "--name", "c1", "--network", "six", "-p", "[::]:8086:80", IMAGE, "sh", "-c",
                  "mkdir /www; echo served > /www/index.html; httpd -f -p [::]:80 -h /www")
    network = daemon.inspect("c1")["NetworkSettings"]["Networks"]["six"]
    assert network["GlobalIPv6Address"].startswith("fd00:77::")
    assert fetched(daemon, f"http://[{network['GlobalIPv6Address']}]/") == "served\n"
    gateway = daemon.json("GET", "/networks/six")["IPAM"]["Config"]
    v6 = next(c["Gateway"] for c in gateway if ":" in c["Gateway"])
    assert fetched(daemon, f"http://[{v6}]:8086/") == "served\n"
    daemon.docker("rm", "-f", "c1")


def test_host_and_none(daemon):
    own = daemon.command("readlink", "/proc/self/ns/net").out
    assert daemon.docker("run", "--rm", "--network", "host", IMAGE, "readlink", "/proc/self/ns/net").out == own
    links = daemon.docker("run", "--rm", "--network", "none", IMAGE, "ls", "/sys/class/net").out.split()
    assert links == ["lo"]
    assert daemon.docker("run", "--rm", "--network", "none", IMAGE, "ping", "-c1", "127.0.0.1").code == 0


def test_files_with_names(daemon):
    out = daemon.docker("run", "--rm", "-h", "me", "--add-host", "friend:10.1.2.3", "--add-host", "gw:host-gateway", "--dns", "9.9.9.9",
                        "--dns-search", "example.org", "--dns-option", "ndots:2", IMAGE, "cat", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname").out
    assert "10.1.2.3\tfriend" in out and "\tgw" in out and "nameserver 9.9.9.9" in out
    assert "search example.org" in out and "ndots:2" in out and out.strip().endswith("me")
    assert any(line.split()[-1:] == ["me"] for line in out.splitlines())


def test_user_defined_networks(daemon):
    nid = daemon.docker("network", "create", "--subnet", "10.99.0.0/24", "--gateway", "10.99.0.254", "--label", "a=b", "net1").out.strip()
    assert len(nid) == 64
    assert "net1" in daemon.docker("network", "ls").out
    daemon.docker("run", "-d", "--name", "c1", "--network", "net1", "--ip", "10.99.0.77", "--mac-address", "02:42:aa:bb:cc:dd", IMAGE, "sleep", "100")
    settings = daemon.inspect("c1")["NetworkSettings"]["Networks"]["net1"]
    assert (settings["IPAddress"], settings["Gateway"], settings["MacAddress"]) == ("10.99.0.77", "10.99.0.254", "02:42:aa:bb:cc:dd")
    assert list(daemon.json("GET", "/networks/net1")["Containers"].values())[0]["Name"] == "c1"
    taken = daemon.docker("run", "--rm", "--network", "net1", "--ip", "10.99.0.77", IMAGE, "true", check=False)
    assert taken.code == 125 and "10.99.0.77" in taken.err
    refused = daemon.docker("network", "rm", "net1", check=False)
    assert refused.code == 1 and "active endpoints" in refused.err
    overlap = daemon.docker("network", "create", "--subnet", "10.99.0.0/25", "net2", check=False)
    assert overlap.code == 1 and "overlap" in overlap.err.lower()
    daemon.docker("network", "connect", "bridge", "c1")
    assert "eth1" in daemon.docker("exec", "c1", "ls", "/sys/class/net").out
    daemon.docker("network", "disconnect", "net1", "c1")
    assert list(daemon.inspect("c1")["NetworkSettings"]["Networks"]) == ["bridge"]
    daemon.docker("network", "rm", "net1")
    for name in ("bridge", "host", "none"):
        assert daemon.docker("network", "rm", name, check=False).code == 1


def test_the_default_route_moves_on(daemon):
    daemon.docker("network", "create", "--subnet", "10.98.0.0/24", "aaa")
    daemon.docker("run", "-d", "--name", "c1", "--network", "aaa", IMAGE, "sleep", "100")
    daemon.docker("network", "connect", "bridge", "c1")
    networks = daemon.inspect("c1")["NetworkSettings"]["Networks"]
    assert "default via 10.98.0.1 " in daemon.docker("exec", "c1", "ip", "route").out
    assert networks["bridge"]["Gateway"] == daemon.json("GET", "/networks/bridge")["IPAM"]["Config"][0]["Gateway"]
    daemon.docker("network", "disconnect", "aaa", "c1")
    assert f"default via {networks['bridge']['Gateway']} " in daemon.docker("exec", "c1", "ip", "route").out


def test_networks_are_apart_and_internal_ones_closed(daemon, outside):
    daemon.docker("network", "create", "left")
    daemon.docker("network", "create", "--internal", "closed")
    daemon.docker("run", "-d", "--name", "l1", "--network", "left", IMAGE, *HTTPD)
    address = daemon.inspect("l1")["NetworkSettings"]["Networks"]["left"]["IPAddress"]
    wait_until(lambda: daemon.docker("run", "--rm", "--network", "left", IMAGE, "sh", "-c", f"timeout 2 wget -qO- http://{address}/; exit $?", check=False).code == 0,
               what="the neighbour's answer")
    assert daemon.docker("run", "--rm", IMAGE, "sh", "-c", f"timeout 2 wget -qO- http://{address}/; exit $?", check=False).code != 0
    assert daemon.docker("run", "--rm", "--network", "left", IMAGE, "ping", "-c1", "-W2", "10.231.0.1", check=False).code == 0
    assert daemon.docker("run", "--rm", "--network", "closed", IMAGE, "ping", "-c1", "-W2", "10.231.0.1", check=False).code != 0


HTTPD6 = ["sh", "-c", "mkdir /www; echo served > /www/index.html; httpd -f -p [::]:80 -h /www"]


def inside(daemon, name, url):
    """What a container gets from a URL; busybox's wget knows no IPv6 addresses in brackets."""
    return run("nsenter", f"--net=/proc/{daemon.inspect(name)['State']['Pid']}/ns/net", "curl", "-s", "-m", "2", url).out


def dual_stack(daemon, name, number, *options):
    daemon.docker("network", "create", "--ipv6", "--subnet", f"10.{number}.0.0/24", "--subnet", f"fd00:{number}::/64", *options, name)


def test_neighbours_without_icc(daemon):
    """Neither family leads from one to the other: directly, over a published port, or over the gateway; out, and in from the host, they do."""
    dual_stack(daemon, "shut", 88, "-o", "com.docker.network.bridge.enable_icc=false")
    dual_stack(daemon, "other", 89)
    daemon.docker("run", "-d", "--name", "web", "--network", "shut", "-p", "8080:80", IMAGE, *HTTPD6)
    daemon.docker("run", "-d", "--name", "neighbour", "--network", "shut", IMAGE, "sleep", "1000")
    daemon.docker("run", "-d", "--name", "stranger", "--network", "other", IMAGE, "sleep", "1000")
    settings = daemon.inspect("web")["NetworkSettings"]["Networks"]["shut"]
    for url in ("127.0.0.1:8080", "[::1]:8080", settings["IPAddress"], f"[{settings['GlobalIPv6Address']}]"):
        assert fetched(daemon, f"http://{url}/") == "served\n", url
    for url in (settings["IPAddress"], f"[{settings['GlobalIPv6Address']}]", "10.88.0.1:8080", "[fd00:88::1]:8080"):
        assert inside(daemon, "neighbour", f"http://{url}/") == "", url
    for url in ("10.89.0.1:8080", "[fd00:89::1]:8080"):
        assert wait_until(lambda: inside(daemon, "stranger", f"http://{url}/"), 10, f"an answer from {url}") == "served\n"


def test_a_container_reaches_its_own_port_and_its_neighbours(daemon):
    """Through the host's address, whose rules lead back to where the packet came from."""
    dual_stack(daemon, "six", 88)
    daemon.docker("run", "-d", "--name", "web", "--network", "six", "-p", "8080:80", IMAGE, *HTTPD6)
    daemon.docker("run", "-d", "--name", "neighbour", "--network", "six", IMAGE, "sleep", "1000")
    for name in ("web", "neighbour"):
        for url in ("10.88.0.1:8080", "[fd00:88::1]:8080"):
            assert wait_until(lambda: inside(daemon, name, f"http://{url}/"), 10, f"an answer from {url} to {name}") == "served\n"


def test_flushed_rules_come_back(daemon):
    """Somebody's `nft flush ruleset`: the next container, or the daemon's start, brings all back, in both families."""
    dual_stack(daemon, "six", 88)
    daemon.docker("network", "create", "--internal", "closed")
    daemon.docker("run", "-d", "--name", "web", "--network", "six", "-p", "8080:80", IMAGE, *HTTPD6)
    daemon.docker("run", "-d", "--name", "stranger", IMAGE, "sleep", "1000")
    urls = ("http://127.0.0.1:8080/", "http://10.88.0.1:8080/", "http://[fd00:88::1]:8080/")
    for url in urls:
        assert fetched(daemon, url) == "served\n"
    whole = sorted(daemon.nft().replace(",", "").split())  # networks and elements come in any order
    address = daemon.inspect("web")["NetworkSettings"]["Networks"]["six"]["IPAddress"]
    for repair in (lambda: daemon.docker("run", "--rm", IMAGE, "true"), lambda: daemon.docker("run", "--rm", "-p", "8090:80", IMAGE, "true"),
                   lambda: daemon.docker("run", "--rm", "--network", "none", IMAGE, "true") and daemon.restart(crash=True)):
        daemon.command("nft", "flush", "ruleset")
        assert daemon.nft() == "" and fetch(daemon, urls[1]).out == ""
        repair()
        assert sorted(daemon.nft().replace(",", "").split()) == whole
        for url in urls:
            assert fetched(daemon, url) == "served\n"
        assert inside(daemon, "stranger", f"http://{address}/") == ""


def test_only_our_own_table_is_touched(daemon):
    daemon.command("nft", "add table ip foreign; add chain ip foreign c { type filter hook input priority 0; }; add rule ip foreign c counter")
    before = daemon.command("nft", "list", "table", "ip", "foreign").out
    daemon.docker("run", "-d", "--name", "c1", "-p", "8080:80", IMAGE, *HTTPD)
    tables = {line.split(" ", 1)[1] for line in daemon.command("nft", "list", "tables").out.splitlines()}
    assert all("gantry" in t or "foreign" in t for t in tables), tables
    daemon.docker("rm", "-f", "c1")
    assert daemon.command("nft", "list", "table", "ip", "foreign").out.split("counter")[0] == before.split("counter")[0]
    daemon.command("nft", "delete", "table", "ip", "foreign")
    assert "8080" not in daemon.nft()


def test_ports_that_nobody_could_reach_are_told(daemon):
    daemon.docker("network", "create", "--internal", "closed")
    for network in ("closed", "host"):
        body = {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"NetworkMode": network, "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}}
        made = daemon.json("POST", "/containers/create", body)
        assert "Published ports are discarded" in made["Warnings"][0]
        assert daemon.api("POST", f"/containers/{made['Id']}/start").status == 204
