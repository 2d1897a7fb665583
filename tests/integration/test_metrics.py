"""GET /metrics: the text as a strict reader takes it, figures that follow what is done, and who may have them."""

import math
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fake_registry import FakeRegistry, Image
from harness import IMAGE, wait_until

PORT = 9323
URL = f"http://127.0.0.1:{PORT}/metrics"
SERIES = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\d+(?:\.\d+)?)\Z')


@pytest.fixture(scope="module")
def shared_daemon(shared_daemon):
    shared_daemon.stop()
    shared_daemon.write_ini({"daemon": {"metrics_addr": f":{PORT}"}})
    return shared_daemon.start()


def read(daemon, url=URL):
    return daemon.command("curl", "-sSf", "--max-time", "20", url).out


def scrape(daemon):
    """{(name, sorted labels): value}, after every line was looked at by itself and by Prometheus' own library."""
    text = read(daemon)
    assert text.endswith("\n") and "\n\n" not in text
    values, kinds, done, family = {}, {}, set(), None
    for line in text[:-1].split("\n"):
        if line.startswith("# "):
            word, name, rest = line[2:].split(" ", 2)
            assert word in ("HELP", "TYPE") and rest
            if name != family:
                assert name not in done, f"{name} stands in two places"
                done.add(family)
                family = name
            if word == "TYPE":
                kinds[name] = rest
            continue
        match = SERIES.match(line)
        assert match, line
        name, labels, value = match.groups()
        assert name == family or kinds[family] == "histogram" and name in (family + "_bucket", family + "_sum", family + "_count")
        assert kinds[family] != "counter" or name.endswith("_total")
        pairs = tuple(sorted(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels or "")))
        assert (name, pairs) not in values, line
        values[name, pairs] = float(value)
    parsed = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert parsed == values
    check_histograms(values, [name for name, kind in kinds.items() if kind == "histogram"])
    return values


def check_histograms(values, names):
    for name in names:
        rows = {}
        for (series, labels), value in values.items():
            if series == name + "_bucket":
                le = dict(labels)["le"]
                others = tuple(pair for pair in labels if pair[0] != "le")
                rows.setdefault(others, []).append((math.inf if le == "+Inf" else float(le), value))
        assert rows
        for others, buckets in rows.items():
            counts = [count for _, count in sorted(buckets)]
            assert counts == sorted(counts) and sorted(buckets)[-1] == (math.inf, values[name + "_count", others])
            assert values[name + "_sum", others] >= 0


def value(values, name, **labels):
    return values[name, tuple(sorted(labels.items()))]


def test_figures_follow_what_is_done(daemon):
    before = scrape(daemon)
    assert value(before, "gantry_containers", state="running") == 0
    assert value(before, "gantry_networks") == 3 and value(before, "gantry_images") >= 1
    assert value(before, "gantry_start_duration_seconds") > 0
    assert value(before, "process_threads") >= 2 and value(before, "process_open_fds") > 4

    daemon.docker("network", "create", "metrics-net")
    daemon.docker("volume", "create", "metrics-volume")
    daemon.docker("run", "-d", "--name", "running", "--net", "metrics-net", "--health-cmd", "true", "--health-interval", "100ms", IMAGE, "sleep", "600")
    daemon.docker("run", "-d", "--name", "paused", "--health-cmd", "false", "--health-interval", "100ms", "--health-retries", "1", IMAGE, "sleep", "600")
    daemon.docker("create", "--name", "created", IMAGE)
    daemon.docker("run", "-d", "--name", "stopped", IMAGE, "sleep", "600")
    daemon.docker("run", "--name", "no-such-program", IMAGE, "/no/such", check=False)
    daemon.docker("stop", "-t", "0", "stopped")
    wait_until(lambda: daemon.inspect("running")["State"]["Health"]["Status"] == "healthy", what="a healthy container")
    wait_until(lambda: daemon.inspect("paused")["State"]["Health"]["Status"] == "unhealthy", what="an unhealthy container")
    daemon.docker("pause", "paused")

    after = scrape(daemon)
    states = {state: value(after, "gantry_containers", state=state) for state in ("created", "running", "paused", "exited", "restarting", "removing", "dead")}
    assert states == {"created": 2, "running": 1, "paused": 1, "exited": 1, "restarting": 0, "removing": 0, "dead": 0}
    assert value(after, "engine_daemon_container_states_containers", state="stopped") == 3
    assert value(after, "gantry_containers_health", status="healthy") == 1 and value(after, "gantry_containers_health", status="unhealthy") == 1
    assert value(after, "gantry_networks") == 4 and value(after, "gantry_volumes") == value(before, "gantry_volumes") + 1

    def grown(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)
    done = "gantry_container_action_duration_seconds_count"
    assert grown(done, action="create") == 5 and grown(done, action="start") == 3 and grown(done, action="stop") == 1
    assert grown("engine_daemon_container_actions_seconds_count", action="start") == 3
    assert grown("gantry_container_action_failures_total", action="start") == 1
    assert 0 < grown("gantry_container_action_duration_seconds_sum", action="start") < 600
    assert grown("gantry_health_checks_total") >= 2 and 1 <= grown("gantry_health_checks_failed_total") < grown("gantry_health_checks_total")
    assert grown("gantry_events_total") > 10 and grown("engine_daemon_events_total") == grown("gantry_events_total")
    assert grown("gantry_api_requests_total", method="POST", code="2xx") >= 12
    assert grown("gantry_api_requests_total", method="POST", code="4xx") >= 1
    assert grown("gantry_driver_call_duration_seconds_count", kind="network", driver="bridge") >= 4
    assert grown("gantry_driver_call_duration_seconds_count", kind="storage", driver="overlay") >= 5
    assert grown("gantry_driver_call_failures_total", kind="network", driver="bridge") == 0

    daemon.remove_everything()
    last = scrape(daemon)
    assert value(last, done, action="remove") - value(after, done, action="remove") == 5
    assert value(last, "gantry_containers", state="running") == 0 and value(last, "gantry_networks") == 3


def test_requests_in_flight_and_listeners(daemon):
    listener = daemon.popen("docker", "events")
    try:
        wait_until(lambda: value(scrape(daemon), "gantry_events_listeners") == 1, what="a listener of events")
        assert value(scrape(daemon), "gantry_api_requests_active") == 1
    finally:
        listener.kill()
        listener.wait()
    wait_until(lambda: value(scrape(daemon), "gantry_api_requests_active") == 0, what="no request")


def test_bytes_of_pulls(images):
    fake = FakeRegistry(images)
    try:
        content = bytes(range(256)) * 4096
        image = Image([[("file", content)]])
        before = value(scrape(images), "gantry_pull_bytes_total")
        images.docker("pull", fake.add(image))
        size = sum(len(blob) for blob in image.blobs.values())
        assert value(scrape(images), "gantry_pull_bytes_total") - before == pytest.approx(size, abs=4096)
    finally:
        fake.close()


def test_nothing_but_metrics_is_there(daemon):
    def status(*args):
        return daemon.command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *args).out
    base = f"http://127.0.0.1:{PORT}"
    assert status(URL) == "200" and status(URL + "?x=1") == "200"
    assert status("-X", "POST", URL) == "405" and status("-I", URL) == "405" and status("-X", "DELETE", URL) == "405"
    for path in ("/", "/_ping", "/containers/json", "/metrics/", "/v1.50/info"):
        assert status("--path-as-is", base + path) == "404"
    assert status(base + "/" + "a" * 20000) in ("414", "000")
    head = daemon.command("curl", "-si", URL).out.split("\r\n\r\n")[0]
    assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head


def test_loopback_unless_told(daemon):
    listening = daemon.command("ss", "-Hltn", f"sport = :{PORT}").out.split()
    assert listening[3] == f"127.0.0.1:{PORT}" and len(listening) == 5


def test_clients_that_say_nothing_are_few_and_do_not_stay(daemon):
    """More than are let in; the last is let in once the first were shown out."""
    script = f"""
import socket
held = [socket.create_connection(("127.0.0.1", {PORT})) for _ in range(24)]
last = held.pop()
last.settimeout(60)
last.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
text = b"".join(iter(lambda: last.recv(65536), b""))
assert b" 200 " in text and held[0].recv(1) == b""
print(next(line for line in text.decode().splitlines() if line.startswith("process_open_fds "))[17:])
"""
    before = value(scrape(daemon), "process_open_fds")
    assert int(daemon.command("python3", "-c", script, timeout=120).out) <= before + 16
    wait_until(lambda: value(scrape(daemon), "process_open_fds") <= before + 1, what="their descriptors closed")


def test_bad_addresses(fresh_daemon):
    fresh_daemon.write_ini({"daemon": {"metrics_addr": "nowhere"}})
    fresh_daemon.start(wait=False)
    assert fresh_daemon.process.wait(20) == 1
    assert re.search(r"gantryd\.ini:\d+: \[daemon\] metrics_addr: nowhere is not HOST:PORT", fresh_daemon.log())
    fresh_daemon.write_ini({"daemon": {"metrics_addr": "192.0.2.1:9323"}})
    fresh_daemon.start(wait=False)
    assert fresh_daemon.process.wait(20) == 1
    assert "192.0.2.1:9323" in fresh_daemon.log() and "assign" in fresh_daemon.log()
    fresh_daemon.process = None


UNITS_OF_OTHERS = {"milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "gigabytes", "kibibytes", "mebibytes",
                   "bits", "percent", "percents", "s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "h", "d"}


def test_names_as_prometheus_wants_them(daemon):
    """Its documentation's "Metric and label naming", with the exporters' rules of what a suffix promises. Docker's names are as they are."""
    families = [family for family in text_string_to_metric_families(read(daemon)) if not family.name.startswith("engine_daemon_")]
    assert len(families) > 20
    for family in families:
        words = family.name.split("_")
        assert re.fullmatch("(gantry|process)(_[a-z]+)+", family.name), family.name
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), family.name
        assert not UNITS_OF_OTHERS & set(words) and not {"counter", "gauge", "histogram", "summary"} & set(words), family.name
        assert "duration" not in words or words[-1] == "seconds", family.name
        suffixes = {"counter": {"_total"}, "gauge": {""}, "histogram": {"_bucket", "_sum", "_count"}}[family.type]
        for sample in family.samples:
            assert sample.name.removeprefix(family.name) in suffixes, sample.name
            assert all(re.fullmatch("[a-z]+(_[a-z]+)*", label) for label in sample.labels), sample
        assert words[-1] not in ({"total", "bucket", "sum", "count"} if family.type == "gauge" else {"bucket", "sum", "count"}), family.name


def test_off_by_default(fresh_daemon):
    fresh_daemon.start()
    with pytest.raises(AssertionError):
        read(fresh_daemon)
    assert "metrics are served" not in fresh_daemon.log()
