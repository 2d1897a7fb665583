"""Networks that are a configuration alone (--config-only) and networks made from one (--config-from); filters of lists whose values are wrong."""

import json

import pytest

from harness import IMAGE

OPTIONS = ["--subnet", "10.80.0.0/24", "--gateway", "10.80.0.1", "-o", "com.docker.network.driver.mtu=1300", "--label", "floor=two"]


def config_of(daemon, name):
    network = daemon.json("GET", f"/networks/{name}")
    return network["ConfigFrom"]["Network"], network["ConfigOnly"], network["Driver"], network["IPAM"]["Config"], network["Labels"], network["Options"]


@pytest.mark.parametrize("client", ["docker", "gantry"])
def test_a_network_from_a_configuration(daemon, client):
    call = getattr(daemon, client)
    call("network", "create", "--config-only", *OPTIONS, "conf")
    call("network", "create", "--config-from", "conf", "made")
    held = [{"Subnet": "10.80.0.0/24", "Gateway": "10.80.0.1"}], {"floor": "two"}, {"com.docker.network.driver.mtu": "1300"}
    assert config_of(daemon, "conf") == ("", True, "null", *held)
    assert config_of(daemon, "made") == ("conf", False, "bridge", *held)
    assert daemon.docker("run", "--rm", "--network", "made", IMAGE, "cat", "/sys/class/net/eth0/mtu").out == "1300\n"
    daemon.restart()
    assert config_of(daemon, "conf") == ("", True, "null", *held)
    refused = call("network", "rm", "conf", check=False)
    assert refused.code == 1 and 'configuration network "conf" is in use by network made' in refused.err
    assert call("network", "prune", "-f").out.split()[-1] == "made"
    call("network", "rm", "conf")
    assert "conf" not in call("network", "ls").out


def test_a_configuration_takes_no_subnet_and_no_bridge(daemon):
    before = daemon.command("ip", "-o", "link").out.count("\n")
    daemon.docker("network", "create", "--config-only", "--subnet", "10.80.0.0/24", "conf")
    assert daemon.command("ip", "-o", "link").out.count("\n") == before
    daemon.docker("network", "create", "--subnet", "10.80.0.0/24", "other")
    refused = daemon.docker("network", "create", "--config-from", "conf", "made", check=False)
    assert refused.code == 1 and "Pool overlaps" in refused.err and "with network other" in refused.err


def test_nothing_joins_a_configuration(daemon):
    daemon.docker("network", "create", "--config-only", "conf")
    refused = daemon.docker("run", "--rm", "--network", "conf", IMAGE, "true", check=False)
    assert refused.code == 125 and "network conf is a configuration network, which containers cannot join" in refused.err
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "100")
    refused = daemon.docker("network", "connect", "conf", "c1", check=False)
    assert refused.code == 1 and "configuration network" in refused.err
    assert list(daemon.inspect("c1")["NetworkSettings"]["Networks"]) == ["bridge"]


@pytest.mark.parametrize("body, status, message", [
    ({"ConfigOnly": True, "Internal": True}, 403, "a configuration network can hold subnets"),
    ({"ConfigOnly": True, "ConfigFrom": {"Network": "conf"}}, 403, "cannot depend on another configuration network (conf)"),
    ({"ConfigFrom": {"Network": "nosuch"}}, 404, 'could not find configuration network "nosuch"'),
    ({"ConfigFrom": {"Network": "bridge"}}, 400, "network bridge is not a configuration network"),
    ({"ConfigFrom": {"Network": "conf"}, "Labels": {"a": "b"}}, 403, "user specified configurations are not supported"),
    ({"ConfigFrom": {"Network": "conf"}, "IPAM": {"Config": [{"Subnet": "10.81.0.0/24"}]}}, 403, "user specified configurations are not supported"),
    ({"ConfigFrom": {"Network": 7}}, 400, "Network"),
    ({"ConfigOnly": "yes"}, 400, "ConfigOnly"),
])
def test_contradictions_are_refused(daemon, body, status, message):
    daemon.docker("network", "create", "--config-only", "--subnet", "10.80.0.0/24", "conf")
    answer = daemon.api("POST", "/networks/create", {"Name": "made", **body})
    assert answer.status == status and message in json.loads(answer.body)["message"]
    assert daemon.api("GET", "/networks/made").status == 404


@pytest.mark.parametrize("path, name, value", [
    ("/networks", "dangling", "maybe"), ("/networks", "type", "none"), ("/volumes", "dangling", "maybe"), ("/containers/json", "is-task", "maybe"),
    ("/containers/json", "status", "asleep"), ("/images/json", "dangling", "maybe"),
])
def test_wrong_values_of_filters_are_refused(daemon, path, name, value):
    answer = daemon.api("GET", f'{path}?filters=%7B"{name}":["{value}"]%7D')
    assert answer.status == 400 and f"invalid filter '{name}={value}'" in json.loads(answer.body)["message"]
