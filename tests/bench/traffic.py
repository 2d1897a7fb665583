"""TCP over the bridge, measured by the host's iperf3 on both sides: through a published port, from the host to a container, and between two."""

import json
import subprocess

from harness import wait_until

SECONDS = 2
# The host's program inside a container, with its libraries.
ON_HOST_FILES = ["-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", "--tmpfs", "/tmp"]
PROGRAM = ["/usr/bin/iperf3"]
PORTS = {"gantry": 15201, "docker": 15202, "podman": 15203}


class Traffic:
    def __init__(self, engines, daemon, image):
        self.engines, self.daemon, self.image = engines, daemon, image
        self.addresses = {}
        for e in engines:
            e("run", "-d", "--name", "bench-server", *ON_HOST_FILES, "-p", f"127.0.0.1:{PORTS[e.name]}:5201", image, *PROGRAM, "-s")
            shown = e("inspect", "bench-server", stdout=subprocess.PIPE).stdout
            settings = json.loads(shown)[0]["NetworkSettings"]
            self.addresses[e.name] = settings["IPAddress"] or next(iter(settings["Networks"].values()))["IPAddress"]
            wait_until(lambda e=e: self.from_host(e, self.addresses[e.name], 5201, 1) > 0, 20, "iperf3's server")

    def close(self):
        for e in self.engines:
            e("rm", "-f", "bench-server", check=False)

    @staticmethod
    def rate(text):
        """Gbit/s that arrived; 0 where nothing did."""
        try:
            return json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e9
        except (KeyError, ValueError):
            return 0

    def from_host(self, _, address, port, seconds=SECONDS):
        done = subprocess.run(self.daemon.in_netns("iperf3", "-J", "-c", address, "-p", str(port), "-t", str(seconds)), stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        return self.rate(done.stdout)

    def published(self, e):
        return self.from_host(e, "127.0.0.1", PORTS[e.name])

    def direct(self, e):
        return self.from_host(e, self.addresses[e.name], 5201)

    def between(self, e):
        return self.rate(e("run", "--rm", *ON_HOST_FILES, self.image, *PROGRAM, "-J", "-c", self.addresses[e.name], "-t", str(SECONDS),
                           stdout=subprocess.PIPE).stdout)

    def loopback(self):
        """The kernel's own figure: no container, no bridge."""
        server = subprocess.Popen(self.daemon.in_netns("iperf3", "-s", "-p", "15200"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  stdin=subprocess.DEVNULL)
        try:
            return wait_until(lambda: self.from_host(None, "127.0.0.1", 15200), 10, "iperf3's server")
        finally:
            server.terminate()
            server.wait()
