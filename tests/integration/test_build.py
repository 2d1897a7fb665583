"""Dockerfile builds through the real docker CLI (classic builder), docker-py and gantry."""

import io
import json
import os
import tarfile

import pytest

from harness import IMAGE


@pytest.fixture
def builder(daemon):
    daemon.env["DOCKER_BUILDKIT"] = "0"
    return daemon


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


def test_each_instruction_has_its_effect(builder, tmp_path):
    write(tmp_path, {"a.txt": "aaa", "sub/b": "bbb", "sub/deep/c": "ccc"})
    result = build(builder, tmp_path, f"""
ARG TAG=latest
FROM {IMAGE}:$TAG
MAINTAINER Some One <one@example.com>
ARG X=5
ENV A=b C="d e" D $A
LABEL one=1 "two words"="x y"
EXPOSE 80 90-92/udp
VOLUME /data ["/unused"]
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD true
SHELL ["/bin/sh", "-ec"]
RUN echo $A-$X > /file
WORKDIR /w
WORKDIR x
COPY a.txt sub* ./
COPY --chown=12:34 --chmod=640 a.txt /owned
ADD sub /added/
USER 33:44
ENTRYPOINT ["cat"]
CMD ["/file"]
""".replace(' D $A', ' D=$A').replace(' ["/unused"]', ''))
    assert "Successfully tagged test/build:1" in result.out
    made = config(builder)
    assert "A=b" in made["Env"] and "C=d e" in made["Env"] and not any(e == "D=b" for e in made["Env"])
    assert made["Labels"] == {"one": "1", "two words": "x y"}
    assert set(made["ExposedPorts"]) == {"80/tcp", "90/udp", "91/udp", "92/udp"}
    assert made["Volumes"] == {"/data": {}} and made["StopSignal"] == "SIGINT"
    assert made["Healthcheck"]["Test"] == ["CMD-SHELL", "true"] and made["Healthcheck"]["Retries"] == 2
    assert made["Shell"] == ["/bin/sh", "-ec"] and made["WorkingDir"] == "/w/x" and made["User"] == "33:44"
    assert made["Entrypoint"] == ["cat"] and made["Cmd"] == ["/file"]
    image = builder.json("GET", "/images/test/build:1/json")
    assert image["Author"] == "Some One <one@example.com>"
    assert builder.docker("run", "--rm", "test/build:1").out == "b-5\n"
    assert sh(builder, "cat /w/x/a.txt /w/x/b /w/x/deep/c /added/deep/c; stat -c %u:%g:%a /owned").split() == ["aaabbbcccccc12:34:640"]
    empty = [h for h in builder.json("GET", "/images/test/build:1/history") if h["Size"] == 0]
    assert any("ENTRYPOINT" in h["CreatedBy"] for h in empty)


def test_cache_goes_by_content(builder, tmp_path):
    write(tmp_path, {"a": "1", "b": "1"})
    text = f"FROM {IMAGE}\nCOPY a /a\nRUN date +%N > /when\nCOPY b /b\n"
    build(builder, tmp_path, text)
    first = builder.json("GET", "/images/test/build:1/json")["Id"]
    os.utime(tmp_path / "a", (1, 1))
    assert build(builder, tmp_path, text).out.count("Using cache") == 3
    assert builder.json("GET", "/images/test/build:1/json")["Id"] == first
    (tmp_path / "b").write_text("2")
    assert build(builder, tmp_path, text).out.count("Using cache") == 2
    os.chmod(tmp_path / "a", 0o755)
    assert build(builder, tmp_path, text).out.count("Using cache") == 0
    assert build(builder, tmp_path, text, "--no-cache").out.count("Using cache") == 0


def test_a_failing_command_tells_its_code_and_leaves_nothing(builder, tmp_path):
    result = build(builder, tmp_path, f"FROM {IMAGE}\nRUN echo before; exit 7\n", tag="test/failed:1", check=False)
    assert result.code == 7, result
    assert "before" in result.out and "Dockerfile:2: The command '/bin/sh -c echo before; exit 7' returned a non-zero code: 7" in result.err
    assert builder.json("GET", "/containers/json?all=1") == []
    assert os.listdir(os.path.join(builder.root, "builds", "work")) == []
    assert builder.api("GET", "/images/test/failed:1/json").status == 404


def test_mistakes_are_told_with_their_line(builder, tmp_path):
    for text, words in (
        ("FROM x\nRNU y\n", "Dockerfile:2: unknown instruction: RNU (did you mean RUN?)"),
        ("RUN x\n", "first instruction must be FROM or ARG"),
        ("", "file with no instructions"),
        (f"FROM {IMAGE}\nCOPY --frm=a b c\n", "unknown flag: --frm"),
        (f"FROM {IMAGE}\nCOPY missing /x\n", "Dockerfile:2: COPY failed: file not found in build context"),
        (f"FROM {IMAGE}\nRUN <<EOF\nx\n", "unterminated heredoc"),
        (f"FROM {IMAGE}\nRUN --mount=type=secret,id=a true\n", "type=secret is not supported"),
        ("FROM no/such/image:1\n", "no/such/image:1"),
    ):
        result = build(builder, tmp_path, text, check=False)
        assert result.code == 1 and words in result.err, result
