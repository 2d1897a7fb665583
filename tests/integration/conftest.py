"""Fixtures of the integration tests: a daemon of their own, in a network namespace, with directories and
a cgroup of their own; the real docker CLI, the gantry CLI and docker-py against it; and an audit that finds what a test left behind."""

import os
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))

pytest.register_assert_rewrite("building", "crash", "harness", "registries")

from fake_registry import FakeRegistry, orphans  # noqa: E402
from harness import IMAGE, Daemon, build_debian_rootfs, require_root  # noqa: E402
from registries import ADDRESS, Registry, certificates, clean  # noqa: E402


def pytest_configure(config):
    require_root()


@pytest.fixture(scope="session")
def workdir():
    """A directory on a disk file system (overlay needs one below its upper layers)."""
    path = tempfile.mkdtemp(prefix="gantry-it-", dir="/var/tmp")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_daemon(workdir):
    """One daemon for all tests of a module. Tests use `daemon`, which removes their objects."""
    d = Daemon(workdir)
    try:
        d.start()
        yield d
    finally:
        d.destroy()


@pytest.fixture
def daemon(shared_daemon):
    """The module's daemon; afterwards every container, volume and network of the test is gone, and an audit proves it."""
    shared_daemon.ensure_running()
    yield shared_daemon
    shared_daemon.remove_everything()
    leaks = shared_daemon.audit()
    assert not leaks, "left behind: " + "; ".join(leaks)


@pytest.fixture
def isolation():
    """What sections of plugins have besides; test_isolate_drivers.py has them in processes of their own."""
    return {}


@pytest.fixture
def builder(daemon):
    """The module's daemon for builds by the docker CLI's classic builder."""
    daemon.env["DOCKER_BUILDKIT"] = "0"
    return daemon


@pytest.fixture
def fresh_daemon(workdir):
    """A daemon for one test alone: for crashes, restarts, odd configurations. Not started yet."""
    d = Daemon(workdir)
    try:
        yield d
    finally:
        d.destroy()


@pytest.fixture
def images(daemon):
    """The module's daemon; nothing of the test's images stays, not even a file."""
    clean(daemon)
    embedded = "manifests/" + daemon.json("GET", f"/images/{IMAGE}/json")["Id"][7:] + ".json"
    before = orphans(daemon)
    yield daemon
    clean(daemon)
    assert set(orphans(daemon)) - {embedded} == set(before) - {embedded}


@pytest.fixture
def registry(images, tmp_path):
    """Debian's docker-registry, plain, beside the module's daemon."""
    r = Registry(images, tmp_path)
    yield r
    r.stop()


@pytest.fixture
def fake(images):
    """A registry that the test scripts."""
    r = FakeRegistry(images)
    yield r
    r.close()


@pytest.fixture
def tls(fresh_daemon, tmp_path):
    """A daemon that is not started, with an address that is not loopback, and certificates for it."""
    subprocess.run(["ip", "-n", fresh_daemon.name, "addr", "add", ADDRESS + "/32", "dev", "lo"], check=True)
    certificates(tmp_path, ADDRESS)
    return fresh_daemon


@pytest.fixture(scope="session")
def debian_rootfs():
    """Path of a tar of a Debian 12 root file system with gcc, nginx and PostgreSQL, made once by mmdebstrap."""
    return build_debian_rootfs()
