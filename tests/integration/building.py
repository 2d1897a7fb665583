"""What the tests of builds share."""

import contextlib
import io
import os
import tarfile

from harness import wait_until


def write(directory, files):
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


def build(daemon, directory, dockerfile, *args, tag="test/build:1", check=True, **kw):
    (directory / "Dockerfile").write_text(dockerfile)
    return daemon.docker("build", "-t", tag, *args, str(directory), check=check, **kw)


def sh(daemon, script, tag="test/build:1"):
    return daemon.docker("run", "--rm", "--entrypoint", "sh", tag, "-c", script).out


def config(daemon, tag="test/build:1"):
    return daemon.json("GET", f"/images/{tag}/json")["Config"]


def history(daemon, tag="test/build:1"):
    return daemon.json("GET", f"/images/{tag}/history")


def archive(files, mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.mode = len(content), 77, 0o640
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def idle(daemon):
    return not daemon.json("GET", "/containers/json?all=1") and not os.listdir(os.path.join(daemon.root, "builds", "work")) and \
        not os.listdir(os.path.join(daemon.run_dir, "builds"))


@contextlib.contextmanager
def server(daemon, port, *command, **kw):
    """A program that listens on a loopback port of the daemon's network namespace."""
    process = daemon.popen(*command, **kw)
    try:
        wait_until(lambda: daemon.command("/usr/bin/python3", "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}))",
                                          check=False).code == 0, what=f"port {port}")
        yield process
    finally:
        process.kill()
        process.wait()


def serve_files(daemon, directory, port=8123):
    return server(daemon, port, "/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", str(port), "-d", str(directory))
