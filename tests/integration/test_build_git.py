"""Git repositories as contexts and as sources of ADD, from a real git daemon and a real smart HTTP server."""

import os
import subprocess

import pytest

from building import build, idle, server, sh, write
from harness import IMAGE, wait_until

GIT_ENV = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b",
           "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}

HTTP = """
import http.server, os, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def serve(self):
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        env = {"GIT_PROJECT_ROOT": sys.argv[1], "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
               "CONTENT_TYPE": self.headers.get("Content-Type") or "", "CONTENT_LENGTH": str(len(body)), "PATH": os.environ["PATH"],
               "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        out = subprocess.run(["/usr/lib/git-core/git-http-backend"], input=body, env=env, capture_output=True).stdout
        head, _, content = out.partition(b"\\r\\n\\r\\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\\r\\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    do_GET = do_POST = serve
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


def git(directory, *args):
    return subprocess.run(["git", "-C", str(directory), *args], env=GIT_ENV, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with two branches, a tag, a directory with a Dockerfile, a submodule, and a link that leads out of it."""
    top = tmp_path / "git"
    for name, files in {"sub.git": {"inner": "of the submodule"},
                        "app.git": {"Dockerfile": f"FROM {IMAGE}\nCOPY . /c/\n", "f": "main", "dir/Dockerfile": f"FROM {IMAGE}\nCOPY g /g\n",
                                    "dir/g": "in dir", "run.sh": "#!/bin/sh\n"}}.items():
        write(top / name, files)
        git(top / name, "init", "-q", "-b", "main")
        (top / name / ".git" / "git-daemon-export-ok").touch()
    git(top / "sub.git", "add", ".")
    git(top / "sub.git", "commit", "-q", "-m", "one")
    app = top / "app.git"
    os.chmod(app / "run.sh", 0o755)
    os.symlink("/etc", app / "out")
    git(app, "-c", "protocol.file.allow=always", "submodule", "add", "-q", "../sub.git", "module")
    git(app, "config", "-f", ".gitmodules", "submodule.module.url", "../sub.git")
    git(app, "add", ".")
    git(app, "commit", "-q", "-m", "one")
    git(app, "tag", "-a", "-m", "first", "v1")
    git(app, "checkout", "-q", "-b", "side")
    write(app, {"f": "side"})
    git(app, "commit", "-q", "-a", "-m", "two")
    git(app, "checkout", "-q", "main")
    return app


@pytest.fixture
def served(builder, repository):
    """Base URL of the repositories by git's own protocol."""
    with server(builder, 9418, "/usr/lib/git-core/git-daemon", "--reuseaddr", "--listen=127.0.0.1", f"--base-path={repository.parent}", str(repository.parent)):
        yield "git://127.0.0.1"


def test_contexts(builder, repository, served, tmp_path):
    files = "cat /c/f; ls -A /c; stat -c %a /c/f /c/run.sh /c/dir"
    result = builder.gantry("build", "-t", "test/build:1", f"{served}/app.git")
    assert f"Commit {git(repository, 'rev-parse', 'main')}" in result.out
    assert sh(builder, files).split() == ["main.gitmodules", "Dockerfile", "dir", "f", "module", "out", "run.sh", "644", "755", "755"]
    assert sh(builder, "cat /c/module/inner; readlink /c/out") == "of the submodule/etc\n"
    assert builder.gantry("build", f"{served}/app.git").out.count("Using cache") == 1
    for ref, content in (("side", "side"), ("v1", "main"), (git(repository, "rev-parse", "side"), "side"), ("refs/heads/side", "side"),
                         (git(repository, "rev-parse", "--short", "side"), "side")):
        builder.gantry("build", "-t", "test/build:1", f"{served}/app.git#{ref}")
        assert sh(builder, "cat /c/f") == content
    builder.gantry("build", "-t", "test/build:1", f"{served}/app.git#main:dir")
    assert sh(builder, "cat /g") == "in dir"
    builder.gantry("build", "-t", "test/build:1", "-f", "dir/../Dockerfile", f"{served}/app.git#:")
    builder.gantry("build", "-t", "test/build:1", "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", f"{served}/app.git")
    assert sh(builder, "cat /c/.git/HEAD").strip() == git(repository, "rev-parse", "main")
    api = builder.api("POST", f"/build?t=test/api:1&remote={served}/app.git%23side")
    assert api.status == 200 and sh(builder, "cat /c/f", "test/api:1") == "side", api.body
    assert idle(builder)


def test_what_is_not_there_or_not_allowed(builder, repository, served, tmp_path):
    for url, words in ((f"{served}/app.git#nope", 'no branch, tag or commit "nope"'), (f"{served}/none.git", "none.git"),
                       (f"{served}/app.git#main:missing", 'open the directory "missing"'), (f"{served}/app.git#main:f", "is not a directory"),
                       (f"{served}/app.git#main:out", 'open the directory "out"'),
                       ("git@127.0.0.1:app.git", "git by ssh is not supported"), ("https://127.0.0.1:1/app.git", "app.git")):
        refused = builder.gantry("build", url, check=False)
        assert refused.code == 1 and words in refused.err, refused
    for url in (f"file://{repository}", str(repository), "ext::sh -c touch% /tmp/x"):
        assert builder.api("POST", "/build?remote=" + url.replace(" ", "%20").replace("%%", "%25%")).status in (400, 501)
    assert idle(builder)


def test_add(builder, repository, served, tmp_path):
    (tmp_path / "ctx").mkdir()
    commit = git(repository, "rev-parse", "v1^{commit}")
    build(builder, tmp_path / "ctx", f"""FROM {IMAGE}
ARG WHAT={served}/app.git
ADD $WHAT /a
ADD --chown=5:6 {served}/app.git#side:dir /b/
ADD --checksum={commit} {served}/app.git#v1 /c/
ADD --keep-git-dir=true --exclude=module {served}/app.git#v1 /d
""")
    assert sh(builder, "cat /a/f /a/module/inner; stat -c %u:%g /b/g; ls /b; cat /c/f; ls -d /a/.git /d/.git /d/module 2>/dev/null; true").split() == \
        ["mainof", "the", "submodule5:6", "Dockerfile", "g", "main/d/.git"]
    wrong = build(builder, tmp_path / "ctx", f"FROM {IMAGE}\nADD --checksum={'0' * 40} {served}/app.git /x\n", check=False)
    assert wrong.code == 1 and f"its commit is {git(repository, 'rev-parse', 'main')}" in wrong.err


def test_smart_http(builder, repository, tmp_path):
    script = write(tmp_path, {"server.py": HTTP}) / "server.py"
    with server(builder, 8124, "/usr/bin/python3", str(script), str(repository.parent), "8124"):
        builder.gantry("build", "-t", "test/build:1", "http://127.0.0.1:8124/app.git#side")
        assert sh(builder, "cat /c/f /c/module/inner") == "sideof the submodule"


def test_submodules_that_lead_elsewhere_are_refused(builder, repository, served):
    git(repository, "config", "-f", ".gitmodules", "submodule.module.url", f"file://{repository.parent}/sub.git")
    git(repository, "commit", "-q", "-a", "-m", "evil")
    refused = builder.gantry("build", f"{served}/app.git", check=False)
    assert refused.code == 1 and "only https, http and git URLs" in refused.err, refused


def test_a_client_that_hangs_up_ends_the_fetch(builder, tmp_path):
    silent = "import socket, time; s = socket.create_server(('127.0.0.1', 9419)); k = []\nwhile 1: k.append(s.accept())"
    with server(builder, 9419, "/usr/bin/python3", "-c", silent):
        client = builder.popen("gantry", "build", "git://127.0.0.1:9419/app.git")
        wait_until(lambda: os.listdir(os.path.join(builder.root, "builds", "work")), what="the build's directory")
        client.kill()
        client.wait()
        wait_until(lambda: idle(builder), 20, "the end of the build")
