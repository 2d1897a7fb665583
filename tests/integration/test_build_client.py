"""What the gantry CLI brings to builds beyond Docker's API: secrets, SSH agents, outputs, squashing."""

import contextlib
import io
import json
import os
import subprocess
import tarfile

import pytest

from building import build, config, history, idle, sh, write
from harness import IMAGE, SLOW, wait_until


def gbuild(daemon, directory, dockerfile, *args, tag="test/build:1", check=True, **kw):
    (directory / "Dockerfile").write_text(dockerfile)
    return daemon.gantry("build", *(["-t", tag] if tag else []), *args, str(directory), check=check, **kw)


def everything_on_disk(daemon, *needles):
    """Files below the daemon's directories that hold one of the needles."""
    found = []
    for root in (daemon.root, daemon.run_dir):
        for path, _, names in os.walk(root):
            for name in names:
                with contextlib.suppress(OSError):
                    with open(os.path.join(path, name), "rb") as f:
                        content = f.read()
                    found += [os.path.join(path, name) for needle in needles if needle in content]
    return found


# ---- secrets ----


def test_a_secret_is_seen_by_its_command_alone(builder, tmp_path):
    write(tmp_path, {"ctx/x": "x", "key": "s3cr3t-of-file"})
    builder.env["TOKEN"] = "s3cr3t-of-env"
    result = gbuild(builder, tmp_path / "ctx", f"""FROM {IMAGE}
RUN --mount=type=secret,id=key stat -c '%u:%g:%a' /run/secrets/key > /a; wc -c < /run/secrets/key >> /a
RUN --mount=type=secret,id=key,target=/etc/k,mode=0440,uid=5,gid=6 stat -c '%u:%g:%a' /etc/k > /b; wc -c < /etc/k >> /b
RUN --mount=type=secret,id=TOKEN,env=T test ! -e /run/secrets/TOKEN && printf %s "$T" | rev > /c
RUN --mount=type=secret,id=TOKEN,env=T,target=/t rev /t > /d; echo >> /d; test "$T" = "$(cat /t)" && echo same >> /d
RUN --mount=type=secret,id=none test ! -e /run/secrets/none && echo none > /e
RUN test ! -e /run/secrets/key && env | grep -c of-env > /f || true
""", "--secret", f"id=key,src={tmp_path / 'key'}", "--secret", "id=TOKEN,env=TOKEN")
    assert sh(builder, "cat /a /b /c /d /e /f").split() == \
        ["0:0:400", "14", "5:6:440", "14", "vne-fo-t3rc3svne-fo-t3rc3s", "same", "none", "0"]
    assert sh(builder, "ls -d /run/secrets /etc/k /t 2>/dev/null; true") == ""
    assert "s3cr3t" not in result.out + result.err + builder.log() + json.dumps(history(builder)) + json.dumps(config(builder))
    assert everything_on_disk(builder, b"s3cr3t-of-file", b"s3cr3t-of-env") == [] and idle(builder)
    (tmp_path / "key").write_text("another")
    again = gbuild(builder, tmp_path / "ctx", (tmp_path / "ctx/Dockerfile").read_text(), "--secret", f"id=key,src={tmp_path / 'key'}",
                   "--secret", "id=TOKEN,type=env,src=TOKEN")
    assert again.out.count("Using cache") == 6


def test_secrets_that_are_not_there(builder, tmp_path):
    text = f"FROM {IMAGE}\nRUN --mount=type=secret,id=a,required=true true\n"
    for args, words in (
        ((), 'the client has no secret "a"'),
        (("--secret", "id=a,src=/no/such/file"), "/no/such/file"),
        (("--secret", "id=a,env=NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE of secret a is not set"),
        (("--secret", "src=x"), "an id is missing"),
        (("--secret", "id=a,colour=red"), "colour=red"),
    ):
        result = gbuild(builder, tmp_path, text, *args, check=False)
        assert result.code == 1 and words in result.err, result
    warned = build(builder, tmp_path, f"FROM {IMAGE}\nRUN --mount=type=secret,id=a true\n")
    assert 'the client has no secret "a"' in warned.out
    unknown = builder.api("POST", "/build?gantry-session=" + "0" * 64)
    assert unknown.status == 404, unknown.body


# ---- ssh ----


LIST_KEYS = """
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
/* Asks the agent at argv[1] for its keys; with argv[2] it asks for nothing and waits. */
int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char answer[4096];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s", argc > 1 ? argv[1] : "");
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 || write(fd, "\\0\\0\\0\\1\\13", 5) != 5)
		return 1;
	ssize_t len = read(fd, answer, sizeof answer);
	return len < 0 || write(1, answer, len) != len;
}
"""


@pytest.fixture
def context(tmp_path):
    """A context with a static program that speaks to agents."""
    write(tmp_path, {"list.c": LIST_KEYS, "ctx/x": ""})
    subprocess.run(["gcc", "-static", "-o", str(tmp_path / "ctx/list"), str(tmp_path / "list.c")], check=True)
    return tmp_path / "ctx"


def test_a_command_speaks_to_the_clients_ssh_agent(builder, context, tmp_path):
    """From inside the container the agent is asked for its keys, by its own protocol."""
    socket = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: os.path.exists(socket))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a-key-of-mine", "-f", str(tmp_path / "id")], check=True)
        subprocess.run(["ssh-add", "-q", str(tmp_path / "id")], env={**os.environ, "SSH_AUTH_SOCK": socket}, check=True)
        builder.env["SSH_AUTH_SOCK"] = socket
        gbuild(builder, context, f"""FROM {IMAGE}
COPY list /list
RUN --mount=type=ssh echo $SSH_AUTH_SOCK > /a; stat -c '%F %a' $SSH_AUTH_SOCK >> /a
RUN --mount=type=ssh /list $SSH_AUTH_SOCK | grep -c a-key-of-mine >> /a; /list $SSH_AUTH_SOCK | grep -c a-key-of-mine >> /a
RUN --mount=type=ssh,id=other,target=/tmp/sock,mode=0666,required=true stat -c %a /tmp/sock >> /a; ls /tmp >> /a
RUN test -z "$SSH_AUTH_SOCK"
""", "--ssh", "default", "--ssh", f"other={socket}")
        assert sh(builder, "cat /a").splitlines() == ["/run/buildkit/ssh_agent.0", "socket 600", "1", "1", "666", "sock"]
        assert sh(builder, "ls -d /run/buildkit /tmp/sock 2>/dev/null; true") == "" and idle(builder)
    finally:
        agent.kill()
        agent.wait()
        builder.env.pop("SSH_AUTH_SOCK", None)
    for args, words in (((), "--ssh default"), (("--ssh", "default"), "SSH_AUTH_SOCK is not set"),
                        (("--ssh", f"default={tmp_path / 'id'}"), "keys go into an agent first")):
        refused = gbuild(builder, context, f"FROM {IMAGE}\nRUN --mount=type=ssh,required=true true\n", *args, check=False)
        assert refused.code == 1 and words in refused.err, refused


def test_a_client_that_dies_while_its_agent_is_asked_ends_the_build(builder, context, tmp_path):
    socket = str(tmp_path / "agent")
    silent = subprocess.Popen(["/usr/bin/python3", "-c", f"""
import socket, time
s = socket.socket(socket.AF_UNIX); s.bind({socket!r}); s.listen(); c = s.accept(); time.sleep(1000)"""])
    try:
        wait_until(lambda: os.path.exists(socket))
        write(context, {"Dockerfile": f"FROM {IMAGE}\nCOPY list /list\nRUN --mount=type=ssh /list $SSH_AUTH_SOCK\n"})
        client = builder.popen("gantry", "build", "--ssh", f"default={socket}", str(context))
        wait_until(lambda: builder.json("GET", "/containers/json"), what="the step's container")
        client.kill()
        client.wait()
        wait_until(lambda: idle(builder), 20, "the end of the build")
    finally:
        silent.kill()
        silent.wait()


# ---- output ----

OUT = f"""FROM {IMAGE} AS make
RUN mkdir -p /o/sub && echo made > /o/sub/f && ln -s sub/f /o/l && chmod 640 /o/sub/f
FROM scratch
VOLUME /sub
COPY --from=make /o /
"""


def test_outputs_as_files(builder, tmp_path):
    write(tmp_path, {"ctx/x": ""})
    images = len(builder.json("GET", "/images/json"))
    gbuild(builder, tmp_path / "ctx", OUT, "--output", str(tmp_path / "out"), tag=None)
    assert (tmp_path / "out/l").read_text() == "made\n" and os.readlink(tmp_path / "out/l") == "sub/f"
    assert os.stat(tmp_path / "out/sub/f").st_mode & 0o777 == 0o640
    gbuild(builder, tmp_path / "ctx", OUT, "-o", f"type=tar,dest={tmp_path / 'out.tar'}", tag=None)
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert sorted(tar.getnames()) == ["l", "sub", "sub/f"]
    process = builder.popen("gantry", "build", "-o", "-", str(tmp_path / "ctx"))
    out, err = process.communicate(timeout=60 * SLOW)
    assert process.returncode == 0 and b"Using cache" in err
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert tar.extractfile("sub/f").read() == b"made\n"
    gbuild(builder, tmp_path / "ctx", OUT, "-o", "type=cacheonly", tag=None)
    assert len(builder.json("GET", "/images/json")) == images
    assert builder.json("GET", "/containers/json?all=1") == []


def test_outputs_as_images(builder, tmp_path):
    write(tmp_path, {"ctx/x": ""})
    gbuild(builder, tmp_path / "ctx", OUT, "-o", f"type=docker,dest={tmp_path / 'image.tar'},name=test/out:7", tag=None)
    assert builder.json("GET", "/images/test/out:7/json")["RepoTags"] == ["test/out:7"]
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert json.load(tar.extractfile("manifest.json"))[0]["RepoTags"] == ["test/out:7"]
    gbuild(builder, tmp_path / "ctx", OUT, "--output", "type=image,name=test/out:8", tag=None)
    assert builder.api("GET", "/images/test/out:8/json").status == 200
    for args, words in ((("-o", "type=paper"), "type=paper is not one of"), (("-o", "type=local"), "needs dest=DIRECTORY"),
                        (("-o", "type=tar,compression=zstd"), "compression=zstd"), (("-o", "a", "-o", "b"), "one of them at a time"),
                        (("--push",), "needs a name")):
        refused = gbuild(builder, tmp_path / "ctx", OUT, *args, tag=None, check=False)
        assert refused.code == 1 and words in refused.err, refused


# ---- squash ----


def test_squash_leaves_one_layer_over_the_base(builder, tmp_path):
    write(tmp_path, {"f": "x"})
    build(builder, tmp_path, f"FROM {IMAGE}\nRUN mkdir /base && echo 1 > /base/one && echo 2 > /base/two && echo 3 > /base/three\n", tag="test/base:1")
    text = """FROM test/base:1
RUN echo big > /gone; echo kept > /kept; ln /kept /hard; ln -s kept /soft
RUN rm /gone /base/one && chmod 600 /base/two
COPY f /f
ENV A=1
"""
    gbuild(builder, tmp_path, text, "--squash")
    made, base = (builder.json("GET", f"/images/{name}/json") for name in ("test/build:1", "test/base:1"))
    assert made["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"] and "A=1" in made["Config"]["Env"]
    assert sh(builder, "ls /base; stat -c %a /base/two; cat /f /soft /hard; stat -c %h /kept; ls /gone 2>&1 | wc -l").split() == \
        ["three", "two", "600", "xkept", "kept", "2", "1"]
    assert history(builder)[0]["Comment"].startswith("merge sha256:") and len(history(builder)) == len(history(builder, "test/base:1")) + 5
    assert gbuild(builder, tmp_path, text, "--squash").out.count("Using cache") == 4
    saved = tmp_path / "saved.tar"
    builder.docker("save", "-o", str(saved), "test/build:1")
    with tarfile.open(saved) as tar:
        layers = json.load(tar.extractfile("manifest.json"))[0]["Layers"]
        with tarfile.open(fileobj=tar.extractfile(layers[-1])) as layer:
            names = sorted(layer.getnames())
    assert [n for n in names if ".wh." in n] == ["base/.wh.one"] and "gone" not in names and "base/three" not in names
    gbuild(builder, tmp_path, f"FROM {IMAGE} AS m\nRUN mkdir /o; echo a > /o/a; echo b > /o/b\nFROM scratch\nCOPY --from=m /o/a /\nCOPY --from=m /o/b /\n", "--squash", tag="test/s:1")
    assert len(builder.json("GET", "/images/test/s:1/json")["RootFS"]["Layers"]) == 1
