"""Networks that real CNI plugins make (Debian's containernetworking-plugins): who reaches whom, published ports, names, what is taken back, and what outlives the
daemon. All of it happens in the daemon's own network namespace; leases lie below the test's directory."""

import json
import os
import re
import subprocess

import pytest

from harness import BUILD, IMAGE, run, wait_until
from test_networks import UDP_ECHO

PLUGINS = "/usr/lib/cni"
HTTPD = ["sh", "-c", "mkdir -p /www; echo served > /www/index.html; httpd -f -p 80 -h /www"]

pytestmark = pytest.mark.skipif(not os.path.exists(PLUGINS + "/bridge"), reason="containernetworking-plugins is not installed (scripts/install-dependencies --tests)")


def kernel_has(*kind):
    return run("unshare", "-n", "sh", "-c", "ip link add cable type veth peer name other && ip link add link cable name tried type " + " ".join(kind)).code == 0


class Cni:
    """A daemon whose driver cni has directories of the test's own."""

    def __init__(self, daemon, directory, **settings):
        self.daemon = daemon
        self.conf = directory / "net.d"
        self.leases = directory / "leases"
        self.conf.mkdir()
        daemon.write_ini({"plugin.net-cni": {"conf_dir": self.conf, **settings}})

    def write(self, name, *plugins, version="1.0.0", file=None):
        (self.conf / (file or name + ".conflist")).write_text(json.dumps({"cniVersion": version, "name": name, "plugins": plugins}))

    def ipam(self, *subnets):
        return {"type": "host-local", "dataDir": str(self.leases), "ranges": [[{"subnet": subnet}] for subnet in subnets],
                "routes": [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets]}

    def bridge(self, *subnets, name="lan", bridge="cnilan0", more=(), **settings):
        self.write(name, {"type": "bridge", "bridge": bridge, "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": self.ipam(*subnets), **settings},
                   {"type": "portmap", "capabilities": {"portMappings": True}}, *more)

    def create(self, name="lan", *args):
        return self.daemon.docker("network", "create", "-d", "cni", "-o", "name=" + name, *args, name)

    def refused(self, *args):
        result = self.daemon.docker("network", "create", "-d", "cni", *args, check=False)
        assert result.code == 1, result
        return result.err

    def leased(self):
        """Addresses that host-local has given away."""
        return sorted(name for _, _, files in os.walk(self.leases) for name in files if re.match(r"[0-9a-f]*[.:]", name))

    def rules(self):
        """Rules and chains that are one container's: those of the plugins have a digest or a comment with the container's id."""
        text = "".join(self.daemon.command(program, check=False).out for program in ("iptables-save", "ip6tables-save"))
        return [line for line in text.splitlines() if re.search(r"CNI-(DN-)?[0-9a-f]{16,}|name: \"|dnat name", line)]

    def start(self, name, *args, net="lan", command=("sleep", "1000")):
        self.daemon.docker("run", "-d", "--name", name, "--network", net, *args, IMAGE, *command)
        return self.settings(name, net)

    def settings(self, name, net="lan"):
        return self.daemon.inspect(name)["NetworkSettings"]["Networks"][net]

    def pings(self, name, address, *family):
        return wait_until(lambda: self.daemon.docker("exec", name, "ping", *family, "-c1", "-W1", address, check=False).code == 0, what=f"an answer from {address}")

    def fetched(self, url, *where):
        return wait_until(lambda: self.daemon.command(*where, "curl", "-g", "-s", "-m", "3", url, check=False).out, what=f"an answer from {url}")

    def fails(self, url):
        return self.daemon.command("curl", "-g", "-s", "-m", "2", url, check=False).code != 0

    def state(self):
        directory = os.path.join(self.daemon.root, "networks", "cni")
        return sorted(os.listdir(directory)) if os.path.isdir(directory) else []

    def pins(self):
        with open("/proc/self/mountinfo") as f:
            return [line.split()[4] for line in f if self.daemon.run_dir in line and "nsfs" in line]

    def nothing_is_left(self):
        assert self.leased() == [] and self.rules() == [] and self.pins() == []
        assert [name for name in self.daemon.links() if name.startswith(("veth", "cni"))] == []
        assert self.state() == []


@pytest.fixture
def cni(fresh_daemon, tmp_path):
    made = Cni(fresh_daemon, tmp_path)
    fresh_daemon.start()
    yield made
    if fresh_daemon.process is not None:
        fresh_daemon.remove_everything()
        made.nothing_is_left()
        assert not fresh_daemon.audit()


def links_inside(daemon, name):
    pid = daemon.inspect(name)["State"]["Pid"]
    return {link["ifname"]: link for link in json.loads(run("nsenter", "-t", str(pid), "-n", "ip", "-d", "-j", "address").out)}


def addresses_inside(daemon, name, link="eth0"):
    return {entry["local"] for entry in links_inside(daemon, name)[link]["addr_info"] if entry["scope"] == "global"}


@pytest.fixture
def outside(cni):
    """A second host: a namespace wired to the daemon's, 10.231.0.1 there and 10.231.0.2 here."""
    daemon, name = cni.daemon, cni.daemon.name + "o"
    run("ip", "netns", "add", name)
    run("ip", "-n", daemon.name, "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", name)
    for ns, last in ((name, "1"), (daemon.name, "2")):
        run("ip", "-n", ns, "address", "add", f"10.231.0.{last}/24", "dev", "up0")
        run("ip", "-n", ns, "address", "add", f"fd00:231::{last}/64", "dev", "up0", "nodad")
        run("ip", "-n", ns, "link", "set", "up0", "up")
    run("ip", "-n", name, "link", "set", "lo", "up")
    yield name
    daemon.remove_everything()
    run("ip", "netns", "del", name)
    run("ip", "-n", daemon.name, "link", "del", "up0")


# ---- bridge, host-local, portmap ----

def test_containers_of_a_bridge_reach_each_other_by_name(cni):
    cni.bridge("10.61.0.0/24")
    cni.create()
    web, client = cni.start("web", "--network-alias", "db", command=HTTPD), cni.start("client")
    assert web["IPAddress"] in addresses_inside(cni.daemon, "web") and (web["IPPrefixLen"], web["Gateway"]) == (24, "10.61.0.1")
    assert web["MacAddress"] == links_inside(cni.daemon, "web")["eth0"]["address"]
    assert {web["IPAddress"], client["IPAddress"]} == set(cni.leased())
    for name in ("web", "db", web["IPAddress"], "10.61.0.1"):
        assert cni.pings("client", name)
    assert cni.daemon.docker("exec", "client", "wget", "-qO-", "http://web/").out == "served\n"
    assert "nameserver 127.0.0.11" in cni.daemon.docker("exec", "client", "cat", "/etc/resolv.conf").out
    assert f"{client['IPAddress']}\t" in cni.daemon.docker("exec", "client", "cat", "/etc/hosts").out
    shown = cni.daemon.json("GET", "/networks/lan")
    assert {entry["IPv4Address"] for entry in shown["Containers"].values()} == {web["IPAddress"] + "/24", client["IPAddress"] + "/24"}
    assert shown["Driver"] == "cni" and shown["Options"] == {"name": "lan"}


def test_both_families(cni, outside):
    cni.bridge("10.61.0.0/24", "fd00:61::/64")
    cni.create()
    web = cni.start("web", "-p", "8080:80", command=HTTPD)
    cni.start("client")
    assert web["GlobalIPv6Address"].startswith("fd00:61::") and web["IPv6Gateway"] == "fd00:61::1" and web["GlobalIPv6PrefixLen"] == 64
    assert cni.pings("client", web["GlobalIPv6Address"], "-6") and cni.pings("client", "web", "-6") and cni.pings("client", "fd00:231::1", "-6")
    away = ("ip", "netns", "exec", outside)
    for url in ("http://10.231.0.2:8080/", "http://[fd00:231::2]:8080/"):
        assert cni.fetched(url, *away) == "served\n"


def test_the_way_out_is_masqueraded(cni, outside):
    cni.bridge("10.61.0.0/24")
    cni.create()
    server = subprocess.Popen(["ip", "netns", "exec", outside, "python3", "-c",
                               "import socket\ns=socket.create_server(('10.231.0.1',7000))\nwhile True:\n c,a=s.accept(); c.sendall(a[0].encode()); c.close()"])
    try:
        out = wait_until(lambda: cni.daemon.docker("run", "--rm", "--network", "lan", IMAGE, "nc", "-w", "3", "10.231.0.1", "7000", check=False).out, what="an answer")
        assert out == "10.231.0.2"
    finally:
        server.kill()
        server.wait()


def test_published_ports(cni, outside):
    cni.bridge("10.61.0.0/24")
    cni.create()
    cni.start("web", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "80", command=HTTPD)
    away = ("ip", "netns", "exec", outside)
    assert cni.fetched("http://127.0.0.1:8080/") == "served\n" and cni.fetched("http://127.0.0.1:8081/") == "served\n"
    assert cni.fetched("http://10.231.0.2:8080/", *away) == "served\n"
    assert cni.daemon.command(*away, "curl", "-s", "-m", "2", "http://10.231.0.2:8081/", check=False).code != 0
    picked = cni.daemon.docker("port", "web", "80/tcp").out.splitlines()
    assert "0.0.0.0:8080" in picked and "127.0.0.1:8081" in picked
    third = next(line for line in picked if line.startswith("0.0.0.0:") and line != "0.0.0.0:8080").rpartition(":")[2]
    assert cni.fetched(f"http://127.0.0.1:{third}/") == "served\n"
    assert cni.daemon.docker("run", "--rm", "--network", "lan", IMAGE, "wget", "-qO-", "http://10.231.0.2:8080/").out == "served\n"
    taken = cni.daemon.docker("run", "--name", "second", "-p", "8080:80", "--network", "lan", IMAGE, "true", check=False)
    assert taken.code == 125 and "8080" in taken.err and "already allocated" in taken.err
    assert cni.daemon.state("second") == "created"
    assert len(cni.leased()) == 1
    assert "Address already in use" in cni.daemon.command("busybox", "nc", "-l", "-p", "8080", check=False).err
    cni.daemon.docker("stop", "-t", "0", "web")
    assert cni.fails("http://127.0.0.1:8080/") and cni.rules() == [] and cni.leased() == []
    cni.daemon.docker("start", "web")
    assert cni.fetched("http://127.0.0.1:8080/") == "served\n"


def test_udp_is_mapped(cni, outside, tmp_path):
    cni.bridge("10.61.0.0/24")
    cni.create()
    subprocess.run(["gcc", "-O1", "-static", "-x", "c", "-o", str(tmp_path / "echo"), "-"], input=UDP_ECHO.encode(), check=True)
    cni.start("echo", "-p", "5353:53/udp", "-v", f"{tmp_path}:/srv:ro", command=("/srv/echo",))
    script = ("import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(1)\n"
              "s.sendto(b'ping',(sys.argv[1],5353));print(s.recv(100).decode())")
    echo = ("ip", "netns", "exec", outside, "/usr/bin/python3", "-c", script, "10.231.0.2")
    assert wait_until(lambda: run(*echo).out, what="an echo") == "ping\n"
    assert cni.daemon.command("/usr/bin/python3", "-c", script, "127.0.0.1").out == "ping\n"


def test_what_a_container_had_goes_with_it(cni):
    cni.bridge("10.61.0.0/24")
    cni.create()
    cni.start("short", "-p", "8080:80", command=("true",))
    cni.daemon.docker("wait", "short")
    cni.start("long", "-p", "8081:80")
    assert len(cni.leased()) == 1 and len(cni.pins()) == 1 and cni.rules()
    cni.daemon.docker("network", "disconnect", "lan", "long")
    assert set(links_inside(cni.daemon, "long")) == {"lo"}
    assert cni.leased() == [] and cni.rules() == [] and cni.pins() == []
    cni.daemon.docker("network", "connect", "lan", "long")
    assert cni.settings("long")["IPAddress"] in addresses_inside(cni.daemon, "long")
    pid = cni.daemon.inspect("long")["State"]["Pid"]
    os.kill(pid, 9)
    cni.daemon.docker("wait", "long")
    wait_until(lambda: cni.leased() == [] and cni.rules() == [] and cni.pins() == [], what="the end of all that the container had")
    cni.daemon.docker("rm", "short", "long")
    cni.daemon.docker("network", "rm", "lan")
    cni.nothing_is_left()


def test_a_second_network_beside_the_default_one(cni):
    cni.bridge("10.61.0.0/24")
    cni.create()
    cni.daemon.docker("run", "-d", "--name", "both", IMAGE, "sleep", "1000")
    cni.daemon.docker("network", "connect", "lan", "both")
    assert set(links_inside(cni.daemon, "both")) == {"lo", "eth0", "eth1"}
    address = cni.settings("both")["IPAddress"]
    assert address in addresses_inside(cni.daemon, "both", "eth1")
    cni.start("other")
    assert cni.pings("other", "both") and cni.pings("other", address)
    def default():
        return re.findall(r"default via \S+ dev (\S+)", cni.daemon.docker("exec", "both", "ip", "route").out)
    assert default() == ["eth0"]
    cni.daemon.docker("network", "disconnect", "bridge", "both")
    assert cni.pings("other", "both") and default() == ["eth1"]
    cni.daemon.docker("network", "connect", "bridge", "both")
    assert len(default()) == 1


def test_containers_that_come_and_go_at_once(cni):
    cni.bridge("10.61.0.0/24")
    cni.create()
    started = [cni.daemon.popen("docker", "run", "--rm", "--network", "lan", IMAGE, "ip", "-4", "-o", "addr", "show", "eth0") for _ in range(12)]
    seen = [re.search(r"inet (10\.61\.0\.\d+)/24", process.communicate(timeout=120)[0].decode()) for process in started]
    assert all(seen) and len({match.group(1) for match in seen}) == 12
    wait_until(lambda: cni.leased() == [] and cni.rules() == [] and cni.pins() == [], what="the end of all that the containers had")


def test_a_bridge_that_was_there_before_stays(cni):
    run("ip", "-n", cni.daemon.name, "link", "add", "own0", "type", "bridge")
    cni.bridge("10.61.0.0/24", bridge="own0")
    cni.create()
    cni.start("one")
    cni.daemon.docker("rm", "-f", "one")
    cni.daemon.docker("network", "rm", "lan")
    assert "own0" in cni.daemon.links()


def test_two_networks_of_one_configuration(cni):
    cni.bridge("10.61.0.0/24")
    cni.create()
    cni.daemon.docker("network", "create", "-d", "cni", "-o", f"conf={cni.conf}/lan.conflist", "twin")
    cni.start("one")
    cni.start("two", net="twin")
    assert cni.pings("two", cni.settings("one")["IPAddress"])
    cni.daemon.docker("rm", "-f", "one")
    cni.daemon.docker("network", "rm", "lan")
    assert "cnilan0" in cni.daemon.links()


# ---- other plugins ----

def test_ptp(cni, outside):
    cni.write("lan", {"type": "ptp", "ipMasq": True, "ipam": cni.ipam("10.62.0.0/24")}, {"type": "portmap", "capabilities": {"portMappings": True}})
    cni.create()
    web = cni.start("web", "-p", "8080:80", command=HTTPD)
    cni.start("client")
    assert cni.pings("client", web["IPAddress"]) and cni.pings("client", "web") and cni.pings("client", "10.231.0.1")
    assert cni.fetched("http://10.231.0.2:8080/", "ip", "netns", "exec", outside) == "served\n"


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan"])
def test_links_of_the_wire(cni, outside, kind):
    if not kernel_has(kind):
        pytest.skip(f"this kernel has no {kind} links")
    cni.write("lan", {"type": kind, "master": "up0", "ipam": cni.ipam("10.231.0.128/25")})
    cni.create()
    first, second = cni.start("one"), cni.start("two")
    assert cni.pings("one", second["IPAddress"]) and cni.pings("one", "two")
    run("ip", "-n", outside, "address", "add", "10.231.0.129/25", "dev", "up0")
    assert cni.pings("one", "10.231.0.129")
    assert first["IPAddress"].startswith("10.231.0.") and links_inside(cni.daemon, "one")["eth0"]["linkinfo"]["info_kind"] == kind
    refused = cni.daemon.docker("run", "--name", "three", "-p", "80:80", "--network", "lan", IMAGE, "true", check=False)
    assert refused.code == 125 and "no ports can be published: its CNI configuration has no plugin after the first with the capability portMappings" in refused.err
    assert len(cni.leased()) == 2


def test_an_address_and_a_mac_that_are_wished_for(cni):
    cni.bridge("10.61.0.0/24", capabilities={"mac": True, "ips": True})
    cni.create()
    settings = cni.start("one", "--ip", "10.61.0.77", "--mac-address", "02:42:aa:00:00:77")
    assert (settings["IPAddress"], settings["MacAddress"]) == ("10.61.0.77", "02:42:aa:00:00:77")
    assert addresses_inside(cni.daemon, "one") == {"10.61.0.77"} and links_inside(cni.daemon, "one")["eth0"]["address"] == "02:42:aa:00:00:77"
    taken = cni.daemon.docker("run", "--rm", "--network", "lan", "--ip", "10.61.0.77", IMAGE, "true", check=False)
    assert taken.code == 125 and "10.61.0.77" in taken.err
    cni.daemon.docker("restart", "-t", "0", "one")
    assert cni.settings("one")["IPAddress"] == "10.61.0.77"


def test_wishes_that_no_plugin_understands_are_refused(cni):
    cni.bridge("10.61.0.0/24")
    cni.create()
    for words, sentence in ((["--ip", "10.61.0.77"], "an address cannot be wished for"), (["--mac-address", "02:42:aa:00:00:77"], "a MAC address cannot be wished for")):
        refused = cni.daemon.docker("run", "--rm", "--network", "lan", *words, IMAGE, "true", check=False)
        assert refused.code == 125 and sentence in refused.err, refused
    assert cni.leased() == []


@pytest.mark.skipif(not kernel_has("ifb"), reason="this kernel has no ifb links")
def test_bandwidth(cni):
    cni.bridge("10.61.0.0/24", more=[{"type": "bandwidth", "capabilities": {"bandwidth": True}}])
    cni.create()
    limits = {"ingressRate": "8000000", "ingressBurst": "800000", "egressRate": "4000000", "egressBurst": "800000"}
    body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "lan"}, "NetworkingConfig": {"EndpointsConfig": {"lan": {"DriverOpts": limits}}}}
    made = cni.daemon.api("POST", "/containers/create?name=one", body)
    assert made.status == 201, made.body
    started = cni.daemon.api("POST", "/containers/one/start")
    assert started.status == 204, started.body
    shown = run("ip", "netns", "exec", cni.daemon.name, "tc", "qdisc").out
    assert re.search(r"tbf .*rate 8Mbit", shown) and re.search(r"tbf .*rate 4Mbit", shown), shown
    assert "ifb" in run("ip", "-n", cni.daemon.name, "-d", "link").out
    cni.daemon.docker("rm", "-f", "one")
    assert "tbf" not in run("ip", "netns", "exec", cni.daemon.name, "tc", "qdisc").out
    body["NetworkingConfig"]["EndpointsConfig"]["lan"]["DriverOpts"] = {"ingressRate": "5"}
    assert cni.daemon.api("POST", "/containers/create?name=two", body).status == 201
    refused = cni.daemon.api("POST", "/containers/two/start")
    assert refused.status == 400 and b"ingressRate and ingressBurst go together" in refused.body, refused.body


# ---- what is refused ----

def test_configurations_that_are_wrong_are_told(cni, tmp_path):
    bridge = {"type": "bridge", "ipam": cni.ipam("10.61.0.0/24")}
    (cni.conf / "text.conflist").write_text("{ this is no JSON")
    assert "line 1" in cni.refused("-o", f"conf={cni.conf}/text.conflist", "lan")
    cni.write("nobody", {"type": "no-such-plugin"})
    assert f"there is no CNI plugin no-such-plugin in {PLUGINS}" in cni.refused("-o", "name=nobody", "lan")
    cni.write("slash", {"type": "../../bin/sh"})
    assert "no type that could name a program" in cni.refused("-o", "name=slash", "lan") or "no CNI configuration named slash" in cni.refused("-o", "name=slash", "lan")
    cni.write("new", bridge, version="1.1.0")
    assert "the CNI plugin bridge does not speak version 1.1.0" in cni.refused("-o", "name=new", "lan")
    cni.write("old", bridge, version="0.2.0")
    assert "cniVersion must be one of 0.3.0 to 1.1.0" in cni.refused("-o", f"conf={cni.conf}/old.conflist", "lan")
    cni.write("many", *[bridge] * 17)
    assert "17 plugins; 1 to 16" in cni.refused("-o", f"conf={cni.conf}/many.conflist", "lan")
    assert "there is no CNI configuration named none" in cni.refused("-o", "name=none", "lan")
    assert "say which CNI configuration it is" in cni.refused("lan")
    assert "no/path" in cni.refused("-o", "conf=no/path", "lan")
    cni.write("lan", bridge)
    assert "unknown option mtu" in cni.refused("-o", "name=lan", "-o", "mtu=1400", "lan")
    assert "a subnet cannot be given" in cni.refused("-o", "name=lan", "--subnet", "10.1.0.0/16", "lan")
    assert "driver cni has no internal networks" in cni.refused("-o", "name=lan", "--internal", "lan")
    os.chmod(cni.conf / "lan.conflist", 0o666)
    assert "that nobody else can write" in cni.refused("-o", f"conf={cni.conf}/lan.conflist", "lan")
    assert cni.daemon.docker("network", "ls", "-q", "-f", "driver=cni").out == ""


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_versions_and_single_plugins(cni, version):
    (cni.conf / "one.conf").write_text(json.dumps({"cniVersion": version, "name": "lan", "type": "bridge", "bridge": "cnilan0", "isGateway": True, "ipam": cni.ipam("10.61.0.0/24")}))
    cni.create()
    cni.start("one")
    second = cni.start("two")
    assert cni.pings("one", second["IPAddress"])


def test_an_address_pool_that_is_used_up(cni):
    cni.bridge("10.61.0.0/30")
    cni.create()
    cni.start("one")
    before = cni.rules()
    full = cni.daemon.docker("run", "--name", "two", "--network", "lan", IMAGE, "true", check=False)
    assert full.code == 125 and "the CNI plugin bridge fails ADD" in full.err and "no IP addresses available" in full.err, full
    assert cni.rules() == before and len(cni.leased()) == 1 and len(cni.pins()) == 1
    assert len([name for name in cni.daemon.links() if name.startswith("veth")]) == 1


def test_a_default_configuration(fresh_daemon, tmp_path):
    cni = Cni(fresh_daemon, tmp_path, default_conf=tmp_path / "net.d" / "lan.conflist")
    cni.bridge("10.61.0.0/24")
    fresh_daemon.start()
    fresh_daemon.docker("network", "create", "-d", "cni", "lan")
    assert cni.start("one")["IPAddress"].startswith("10.61.0.")


# ---- the daemon's death ----

@pytest.mark.parametrize("crash", [False, True])
def test_networks_and_containers_outlive_the_daemon(cni, outside, crash):
    cni.bridge("10.61.0.0/24")
    cni.create()
    web = cni.start("web", "-p", "8080:80", command=HTTPD)
    index = links_inside(cni.daemon, "web")["eth0"]["ifindex"]
    rules = cni.rules()
    cni.daemon.restart(crash=crash)
    away = ("ip", "netns", "exec", outside)
    assert cni.settings("web") == web and links_inside(cni.daemon, "web")["eth0"]["ifindex"] == index
    assert cni.rules() == rules and cni.fetched("http://10.231.0.2:8080/", *away) == "served\n"
    taken = cni.daemon.docker("run", "--rm", "-p", "8080:80", "--network", "lan", IMAGE, "true", check=False)
    assert taken.code == 125 and "already allocated" in taken.err
    cni.start("client")
    assert cni.pings("client", "web") and cni.settings("client")["IPAddress"] != web["IPAddress"]
    cni.daemon.docker("rm", "-f", "web", "client")
    assert cni.rules() == [] and cni.leased() == [] and cni.pins() == []


def test_containers_that_ended_without_a_daemon_are_taken_back(cni):
    cni.bridge("10.61.0.0/24")
    cni.create()
    cni.start("stays", "-p", "8081:80", command=HTTPD)
    cni.start("ends", "-p", "8080:80")
    pid = cni.daemon.inspect("ends")["State"]["Pid"]
    cni.daemon.kill9()
    os.kill(pid, 9)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the container's end")
    cni.daemon.start()
    wait_until(lambda: len(cni.leased()) == 1 and len(cni.pins()) == 1, what="the end of what the container had")
    assert not [line for line in cni.rules() if "8080" in line] and cni.fetched("http://127.0.0.1:8081/") == "served\n"
    assert not [line for line in cni.rules() if line.count("10.61.0.3")]


def test_rules_that_somebody_flushed_come_back(cni):
    cni.bridge("10.61.0.0/24")
    cni.create()
    cni.start("web", "-p", "8080:80", command=HTTPD)
    assert cni.fetched("http://127.0.0.1:8080/") == "served\n"
    cni.daemon.kill9()
    cni.daemon.command("iptables", "-t", "nat", "-F")
    assert cni.fails("http://127.0.0.1:8080/")
    cni.daemon.start()
    assert cni.fetched("http://127.0.0.1:8080/") == "served\n"


def test_a_configuration_that_is_gone(cni):
    cni.bridge("10.61.0.0/24")
    cni.create()
    cni.start("one", "-p", "8080:80")
    os.rename(cni.conf / "lan.conflist", cni.conf / "away")
    cni.daemon.restart(crash=True)
    assert "network lan: there is no CNI configuration named lan" in cni.daemon.log()
    failed = cni.daemon.docker("run", "--rm", "--network", "lan", IMAGE, "true", check=False)
    assert failed.code == 125 and "there is no CNI configuration named lan" in failed.err
    # What was done by it is undone by it.
    cni.daemon.docker("rm", "-f", "one")
    assert cni.leased() == [] and cni.rules() == []
    os.rename(cni.conf / "away", cni.conf / "lan.conflist")
    cni.start("two")


def test_in_a_process_of_its_own(fresh_daemon, tmp_path):
    cni = Cni(fresh_daemon, tmp_path, isolate="process")
    cni.bridge("10.61.0.0/24")
    fresh_daemon.start()
    cni.create()
    cni.start("web", "-p", "8080:80", command=HTTPD)
    cni.start("client")
    assert cni.pings("client", "web") and cni.fetched("http://127.0.0.1:8080/") == "served\n"
    fresh_daemon.docker("rm", "-f", "web", "client")
    fresh_daemon.docker("network", "rm", "lan")
    cni.nothing_is_left()


# ---- the conformance kit ----

def test_the_driver_keeps_every_rule(tmp_path):
    conf = tmp_path / "kit.conflist"
    ipam = {"type": "host-local", "dataDir": str(tmp_path / "leases"), "ranges": [[{"subnet": "10.64.0.0/24"}]]}
    conf.write_text(json.dumps({"cniVersion": "1.0.0", "name": "kit", "plugins": [
        {"type": "bridge", "bridge": "cnikit0", "isGateway": True, "ipMasq": True, "ipam": ipam}, {"type": "portmap", "capabilities": {"portMappings": True}}]}))
    done = subprocess.run([os.path.join(BUILD, "bin", "gantry"), "plugin", "check", os.path.join(BUILD, "plugins", "net-cni.so"), f"default_conf={conf}"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0 and "not ok" not in done.stdout and "endpoint_join" in done.stdout, done.stdout
