"""The bundle's config.json is a valid OCI runtime configuration, whatever the options."""

import json
import os

import pytest

from harness import IMAGE, REPO

SPEC = os.path.join(REPO, "tests", "data", "oci-runtime")

OPTIONS = [
    [],
    ["-it"],
    ["--privileged"],
    ["--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host"],
    ["--network", "none", "--cgroupns", "host"],
    ["-m", "64m", "--memory-swap", "128m", "--cpus", "1.5", "--cpuset-cpus", "0", "--pids-limit", "10", "--cpu-shares", "100", "--blkio-weight", "300"],
    ["--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt", "no-new-privileges", "--read-only", "--init"],
    ["--ulimit", "nofile=10:20", "--sysctl", "net.core.somaxconn=99", "--device", "/dev/zero:/dev/x:rw", "--device-cgroup-rule", "c 1:* rwm"],
    ["-v", "vol:/v:ro", "--tmpfs", "/t:size=1m", "--mount", "type=bind,src=/tmp,dst=/m,bind-propagation=rslave", "--shm-size", "1m"],
    ["-u", "1000:1000", "--group-add", "5", "-w", "/x", "-h", "h", "--oom-score-adj", "100", "--stop-signal", "USR1"],
    ["--security-opt", "seccomp=unconfined", "--log-driver", "local", "--log-opt", "max-size=1m"],
]


def registry():
    schemas = {}
    for base, _, names in os.walk(SPEC):
        for name in names:
            if name.endswith(".json"):
                with open(os.path.join(base, name)) as f:
                    schemas[os.path.relpath(os.path.join(base, name), SPEC)] = json.load(f)
    return schemas


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(o) or "none")
def test_config_json_is_valid(daemon, options):
    import jsonschema
    cid = daemon.docker("create", "-i", *options, IMAGE, "cat").out.strip() if "-it" not in options else \
        daemon.docker("create", *options, IMAGE, "cat").out.strip()
    daemon.docker("start", cid)
    with open(os.path.join(daemon.run_dir, "containers", cid, "config.json")) as f:
        config = json.load(f)
    schemas = registry()
    resolver = jsonschema.RefResolver("file://" + SPEC + "/", schemas["config-schema.json"],
                                      store={"file://" + SPEC + "/" + name: schema for name, schema in schemas.items()})
    validator = jsonschema.Draft4Validator(schemas["config-schema.json"], resolver=resolver)
    errors = [f"{'/'.join(map(str, e.path))}: {e.message[:200]}" for e in validator.iter_errors(config)]
    assert not errors, errors
    assert config["mounts"][0]["destination"] == "/" and config["ociVersion"].startswith("1.")
