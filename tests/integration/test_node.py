"""Clients of Node.js, unmodified: dockerode and testcontainers. scripts/install-dependencies --tests puts them below build/cache."""

import os
import shutil

import pytest

from harness import IMAGE, REPO

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node")
MODULES = os.path.join(REPO, "build", "cache", "node", "node_modules")
pytestmark = pytest.mark.skipif(not shutil.which("node") or not os.path.isdir(MODULES), reason="the clients of Node.js are not installed")


def run(daemon, script, **env):
    daemon_env = daemon.env
    daemon.env = {**daemon_env, "NODE_PATH": MODULES, **env}
    try:
        return daemon.command("node", os.path.join(HERE, script), IMAGE)
    finally:
        daemon.env = daemon_env


def test_dockerode(daemon):
    assert run(daemon, "dockerode.js").out.split() == ["runs", "attaches", "execs", "follows", "images", "networks"]


def test_testcontainers(daemon):
    result = run(daemon, "testcontainers.js", TESTCONTAINERS_RYUK_DISABLED="true")
    assert result.out.split() == ["logs", "ports", "health", "networks"]
