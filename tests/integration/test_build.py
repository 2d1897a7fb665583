"""Dockerfile builds through the real docker CLI (classic builder), docker-py and gantry."""

import io
import os

import pytest

from building import archive, build, config, idle, serve_files, sh, write
from harness import BUILD, IMAGE, SLOW, wait_until

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
        (f"FROM {IMAGE}\nRUN --mount=type=secret,id=a,required=true true\n", "the client has no secret \"a\""),
        (f"FROM {IMAGE}\nRUN --mount=type=tmpfs,target=/a,id=b true\n", "id belongs to type=cache secret ssh"),
        (f"FROM {IMAGE}\nRUN --security=insecure true\n", "--security=insecure is not supported"),
        ("FROM no/such/image:1\n", "no/such/image:1"),
    ):
        result = build(builder, tmp_path, text, check=False)
        assert result.code == 1 and words in result.err, result


def test_here_documents(builder, tmp_path):
    build(builder, tmp_path, f"""FROM {IMAGE}
ARG WHO=me
RUN <<EOF
echo one > /a
echo $WHO >> /a
EOF
RUN cat <<X > /b && cat <<"Y" >> /b
x $WHO
X
y $WHO
Y
RUN <<-EOF
\t#!/bin/sh
\techo script > /c
\tEOF
COPY <<one.txt <<'two.txt' /d/
1 ${{WHO:-x}}
one.txt
2 ${{WHO}}
two.txt
""")
    assert sh(builder, "cat /a /b /c /d/one.txt /d/two.txt").splitlines() == \
        ["one", "me", "x me", "y $WHO", "script", "1 me", "2 ${WHO}"]


def test_arguments_and_their_scopes(builder, tmp_path):
    text = f"""ARG BASE={IMAGE}
ARG SHARED=global
FROM $BASE AS one
ARG SHARED
ARG OWN=default
ENV E=${{OWN:+set}} F=${{UNSET:-fallback}} G=${{OWN#gi}} H=${{OWN/v/V}}
RUN echo $SHARED-$OWN-$E-$F-$G-$H > /out
FROM one
RUN echo $OWN >> /out
FROM $BASE AS last
COPY --from=1 /out /out
RUN echo [$OWN] $http_proxy >> /out
"""
    result = build(builder, tmp_path, text, "--build-arg", "OWN=given", "--build-arg", "NOBODY=x", "--build-arg", "http_proxy=proxy")
    assert sh(builder, "cat /out").splitlines() == ["global-given-set-fallback-ven-giVen", "given", "[] proxy"]
    assert "[NOBODY] were not consumed" in result.out
    assert not any("http_proxy=" in h["CreatedBy"] for h in builder.json("GET", "/images/test/build:1/history"))


def test_only_what_the_target_needs_is_built(builder, tmp_path):
    text = f"FROM {IMAGE} AS a\nRUN touch /a\nFROM {IMAGE} AS broken\nRUN false\nFROM a AS b\nRUN touch /b\nFROM broken\nRUN true\n"
    result = build(builder, tmp_path, text, "--target", "b")
    assert "Step 4/4 : RUN touch /b" in result.out and "RUN false" not in result.out
    assert build(builder, tmp_path, text, "--target", "nope", check=False).code == 1


def test_independent_stages_run_at_the_same_time_and_speak_in_order(builder, tmp_path):
    """Each stage waits for a sign of the other, which neither could give if they ran one after the other."""
    wait = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do test -e /c/{0} && exit 0; sleep 1; done; exit 1"
    mount = "RUN --mount=type=cache,id=meet,target=/c"
    result = build(builder, tmp_path, f"""FROM {IMAGE} AS one
{mount} touch /c/one; {wait.format("two")}
FROM {IMAGE} AS two
{mount} touch /c/two; {wait.format("one")}
FROM {IMAGE}
COPY --from=one /etc/passwd /one
COPY --from=two /etc/passwd /two
""")
    steps = [line.split()[1] for line in result.out.splitlines() if line.startswith("Step ")]
    assert steps == [f"{i}/7" for i in range(1, 8)]


def test_run_mounts(builder, tmp_path):
    write(tmp_path, {"in/file": "from context"})
    build(builder, tmp_path, f"""FROM {IMAGE} AS src
RUN echo of stage > /thing
FROM {IMAGE}
RUN --mount=target=/ctx,source=in cat /ctx/file > /a; echo >> /a; (echo no > /ctx/file) 2>/dev/null || echo read-only >> /a
RUN --mount=type=bind,from=src,source=/thing,target=/t,rw cat /t > /b; echo changed > /t; cat /t >> /b
RUN --mount=type=cache,target=/cache,id=x,mode=0700,uid=5 stat -c %u:%a /cache > /c; echo kept > /cache/f
RUN --mount=type=cache,target=/other,id=x cat /other/f >> /c
RUN --mount=type=tmpfs,target=/tmp/t,size=1m df /tmp/t | tail -1 | cut -d' ' -f1 > /d; touch /tmp/t/gone
RUN --network=none ls /sys/class/net > /e
""")
    assert sh(builder, "cat /a /b /c /d /e; ls /cache /other /tmp/t /ctx | grep -c f; true").splitlines() == \
        ["from context", "read-only", "of stage", "changed", "5:700", "kept", "tmpfs", "lo", "0"]
    assert (tmp_path / "in" / "file").read_text() == "from context"
    mounts = [r for r in builder.json("GET", "/system/df")["BuildCache"] if r["Type"] == "exec.cachemount"]
    assert any(r["Size"] == 5 for r in mounts)
    builder.json("POST", "/build/prune?all=1")
    assert not any(r["Type"] == "exec.cachemount" for r in builder.json("GET", "/system/df")["BuildCache"])


def test_locked_caches_in_opposite_orders_do_not_stand_still(builder, tmp_path):
    """Several builds at a time, each with two caches for itself alone."""
    processes = []
    for i in range(4):
        mounts = [f"--mount=type=cache,sharing=locked,target=/{name}" for name in ("one", "two")]
        write(tmp_path, {f"{i}/Dockerfile": f"FROM {IMAGE}\nRUN {' '.join(mounts[::-1] if i % 2 else mounts)} mkdir /one/l && sleep 0.3 && rmdir /one/l # {i}\n"})
        processes.append(builder.popen("docker", "build", str(tmp_path / str(i))))
    for process in processes:
        out, err = process.communicate(timeout=60 * SLOW)
        assert process.returncode == 0, out + err
    both = f"FROM {IMAGE}\nRUN --mount=type=cache,sharing=locked,id=a,target=/x --mount=type=cache,sharing=locked,id=a,target=/y touch /x/f && test -e /y/f\n"
    build(builder, tmp_path, both)


def test_copies_land_where_docker_puts_them(builder, tmp_path):
    write(tmp_path, {"a.tar.gz": archive({"x/y": b"packed"}), "plain.gz": b"\x1f\x8bnot really", "t/one.txt": "1", "t/two.md": "2",
                     "p/q/r": "deep", "sp ace": "blank", ".dockerignore": "secret\n", "secret": "no"})
    os.symlink("one.txt", tmp_path / "t" / "link")
    build(builder, tmp_path, f"""FROM {IMAGE}
RUN mkdir -p /real && ln -s /real /via && echo joe:x:500:500::/:/bin/sh >> /etc/passwd
ADD a.tar.gz plain.gz /add/
COPY a.tar.gz /copied.tar.gz
COPY --exclude=*.md t /t
COPY --parents p/q/r /par/
COPY --parents p/./q/r /piv/
COPY ["sp ace", "/dir with blank/"]
COPY --chown=joe:root --chmod=u=rwX,go= t/one.txt /via/
COPY . /all/
COPY --link t/two.md /linked/
""")
    assert sh(builder, "stat -c '%n %u:%g:%a' /add/x/y /add/plain.gz /real/one.txt").splitlines() == \
        ["/add/x/y 77:0:640", "/add/plain.gz 0:0:644", "/real/one.txt 500:0:600"]
    assert sh(builder, "test -f /copied.tar.gz; ls /t; cat /t/link; readlink /via").split() == ["link", "one.txt", "1/real"]
    assert sh(builder, "cat /par/p/q/r /piv/q/r '/dir with blank/sp ace' /linked/two.md") == "deepdeepblank2"
    assert sh(builder, "ls -A /all").split("\n")[:-1] == [".dockerignore", "Dockerfile", "a.tar.gz", "p", "plain.gz", "sp ace", "t"]


def test_add_from_a_url_with_its_checksum(builder, tmp_path):
    import hashlib
    write(tmp_path, {"served/file.txt": "from the net\n"})
    with serve_files(builder, tmp_path / "served"):
        digest = "sha256:" + hashlib.sha256(b"from the net\n").hexdigest()
        url = "http://127.0.0.1:8123/file.txt"
        build(builder, tmp_path, f"FROM {IMAGE}\nARG SUM={digest}\nADD --checksum=$SUM {url} /got/\n")
        assert sh(builder, "cat /got/file.txt; stat -c %a /got/file.txt") == "from the net\n600\n"
        wrong = build(builder, tmp_path, f"FROM {IMAGE}\nADD --checksum=sha256:{'0' * 64} {url} /got/\n", check=False)
        assert wrong.code == 1 and "digest mismatch" in wrong.err
        gone = build(builder, tmp_path, f"FROM {IMAGE}\nADD {url}x /got/\n", check=False)
        assert gone.code == 1 and "status 404" in gone.err
        write(tmp_path, {"served/Dockerfile": f"FROM {IMAGE}\nRUN echo remote > /r\n"})
        builder.docker("build", "-t", "test/remote:1", "http://127.0.0.1:8123/Dockerfile")
        assert sh(builder, "cat /r", "test/remote:1") == "remote\n"


def test_onbuild_runs_where_the_image_is_used(builder, tmp_path):
    write(tmp_path, {"f": "child"})
    build(builder, tmp_path, f"FROM {IMAGE}\nONBUILD COPY f /f\nONBUILD RUN cat /f > /g\n", tag="test/parent:1")
    assert config(builder, "test/parent:1")["OnBuild"] == ["COPY f /f", "RUN cat /f > /g"]
    result = build(builder, tmp_path, "FROM test/parent:1\nCMD cat /g\n")
    assert "# Executing 2 build triggers" in result.out and sh(builder, "cat /g") == "child"
    assert not config(builder)["OnBuild"]


def test_the_same_source_gives_the_same_image(builder, tmp_path):
    write(tmp_path, {"f": "x"})
    text = f"FROM {IMAGE}\nARG SOURCE_DATE_EPOCH\nCOPY f /made/here/\nRUN echo y > /y; mkdir /z\nWORKDIR /new\n"
    ids = []
    for times in ((10**9, 10**9), (2 * 10**9, 2 * 10**9)):
        os.utime(tmp_path / "f", times)
        build(builder, tmp_path, text, "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000000000")
        ids.append(builder.json("GET", "/images/test/build:1/json")["Id"])
    assert ids[0] == ids[1]


def layers(daemon, tag="test/build:1"):
    return len(daemon.json("GET", f"/images/{tag}/json")["RootFS"]["Layers"])


def test_a_command_that_changes_nothing_makes_no_layer(builder, tmp_path):
    """The image has no /etc/resolv.conf: that the engine mounts its own there is no change of /etc; what the command does to it is."""
    base = layers(builder, IMAGE)
    build(builder, tmp_path, f"FROM {IMAGE}\nRUN echo nothing\nRUN touch /etc/x && rm /etc/x && touch -r / /etc && touch -d @1700000000 /etc\nRUN ls /\n")
    assert layers(builder) == base
    assert [step["Size"] for step in builder.json("GET", "/images/test/build:1/history")][:3] == [0, 0, 0]
    for step, shows in (("chmod 700 /etc", "700 0"), ("chown 5 /etc", "755 5"), ("chmod 700 /etc && echo x > /etc/made", "700 0")):
        build(builder, tmp_path, f"FROM {IMAGE}\nRUN {step}\n")
        assert layers(builder) == base + 1 and sh(builder, "stat -c '%a %u' /etc") == shows + "\n", step
    builder.docker("run", "--name", "idle", IMAGE, "true")
    builder.docker("commit", "idle", "test/idle:1")
    assert layers(builder, "test/idle:1") == base and builder.docker("diff", "idle").out == ""
    builder.docker("run", "--name", "shut", IMAGE, "chmod", "700", "/etc")
    builder.docker("commit", "shut", "test/shut:1")
    assert layers(builder, "test/shut:1") == base + 1
    builder.docker("rmi", "test/idle:1", "test/shut:1")


def test_cache_from_an_image_that_came_as_an_archive(builder, tmp_path):
    (tmp_path / "c").mkdir()
    directory = write(tmp_path / "c", {"f": "x"})
    text = f"FROM {IMAGE}\nCOPY f /f\nRUN date > /when\nENV A=1\n"
    build(builder, directory, text, tag="test/source:1")
    when = sh(builder, "cat /when", "test/source:1")
    saved = str(tmp_path / "saved.tar")
    builder.docker("save", "-o", saved, "test/source:1")
    builder.docker("rmi", "test/source:1")
    builder.json("POST", "/build/prune?all=1")
    builder.docker("load", "-i", saved)
    result = build(builder, directory, text, "--cache-from", "test/source:1")
    assert result.out.count("Using cache") == 3 and sh(builder, "cat /when") == when
    assert build(builder, directory, text, "--cache-from", "gantry/busybox").out.count("Using cache") == 0


def test_options_reach_the_containers(builder, tmp_path):
    iid = tmp_path / "iid"
    text = f"FROM {IMAGE}\nRUN grep other /etc/hosts > /h; ulimit -n > /u; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2 > /s\n"
    build(builder, tmp_path, text, "--add-host", "other:10.9.8.7", "--ulimit", "nofile=123:456", "--shm-size", "8m", "--label", "k=v",
          "--iidfile", str(iid), "--memory", "64m", "--network", "none", "-t", "test/second:2")
    assert sh(builder, "cat /h /u /s").split() == ["10.9.8.7", "other", "123", "8192"]
    made = builder.json("GET", "/images/test/second:2/json")
    assert made["Config"]["Labels"]["k"] == "v" and iid.read_text() == made["Id"]
    refused = build(builder, tmp_path, f"FROM {IMAGE}\nRUN true\n", "--network", "no-such-network", check=False)
    assert refused.code == 1 and "no-such-network" in refused.err


def test_docker_py_builds(builder, tmp_path):
    import docker
    write(tmp_path, {"Dockerfile": f"FROM {IMAGE}\nRUN echo py > /py\n"})
    client = builder.client()
    image, log = client.images.build(path=str(tmp_path), tag="test/py:1", rm=True)
    assert any("Step 2/2" in entry.get("stream", "") for entry in log) and image.tags == ["test/py:1"]
    with pytest.raises(docker.errors.BuildError, match="non-zero code: 9"):
        client.images.build(fileobj=io.BytesIO(f"FROM {IMAGE}\nRUN exit 9\n".encode()), rm=True)
    client.close()


def test_gantry_builds(builder, tmp_path):
    write(tmp_path, {"f": "x", "own.Dockerfile": f"FROM {IMAGE}\nCOPY . /c/\n", "own.Dockerfile.dockerignore": "f\n"})
    builder.gantry("build", "-t", "test/g:1", "-f", str(tmp_path / "own.Dockerfile"), str(tmp_path))
    assert "f" not in sh(builder, "ls /c", "test/g:1").split()
    out = builder.gantry("build", "-q", "-", stdin=f"FROM {IMAGE}\nRUN true\n").out.strip()
    assert out.startswith("sha256:") and builder.json("GET", f"/images/{out}/json")["Id"] == out
    failed = builder.gantry("build", "-", stdin=f"FROM {IMAGE}\nRUN exit 5\n", check=False)
    assert failed.code == 5 and "non-zero code: 5" in failed.err, failed


def test_a_client_that_hangs_up_ends_the_build(builder, tmp_path):
    write(tmp_path, {"Dockerfile": f"FROM {IMAGE}\nRUN echo begun; sleep 1000\n"})
    for client in ("docker", os.path.join(BUILD, "bin", "gantry")):
        process = builder.popen(client, "build", "-t", "test/never:1", str(tmp_path))
        wait_until(lambda: builder.json("GET", "/containers/json"), what="the step's container")
        process.kill()
        process.wait()
        wait_until(lambda: idle(builder), 20, "the end of the build")
    assert builder.api("GET", "/images/test/never:1/json").status == 404


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_daemon_that_ends_leaves_nothing_of_a_build(builder, tmp_path, how):
    write(tmp_path, {"Dockerfile": f"FROM {IMAGE}\nRUN echo begun; sleep 1000\n"})
    process = builder.popen("docker", "build", str(tmp_path))
    wait_until(lambda: builder.json("GET", "/containers/json"), what="the step's container")
    builder.restart(crash=how == "killed")
    process.wait(20)
    wait_until(lambda: idle(builder), 20, "nothing left of the build")


def test_output_of_any_bytes_and_amount_arrives_whole(builder, tmp_path):
    result = build(builder, tmp_path, f"FROM {IMAGE}\nRUN printf 'a\\377b\\n'; seq 1 1000000; echo end-of-it\n", "--no-cache")
    assert "a\ufffdb" in result.out and "\n1000000\nend-of-it\n" in result.out and result.out.count("\n") > 1000000


def test_a_c_program_in_two_stages(builder, debian_rootfs, tmp_path):
    builder.docker("import", debian_rootfs, "test/debian:1")
    write(tmp_path, {"hello.c": '#include <stdio.h>\nint main(void){printf("hello from %s\\n", WHO);return 0;}\n'})
    probe = builder.docker("run", "--rm", "test/debian:1", "sh", "-c", "command -v gcc", check=False)
    if probe.code != 0:
        pytest.skip("the Debian root has no compiler")
    build(builder, tmp_path, """FROM test/debian:1 AS compile
WORKDIR /src
COPY hello.c .
ARG WHO=gantry
RUN gcc -O2 -static -DWHO="\\"$WHO\\"" -o hello hello.c
FROM scratch
COPY --from=compile /src/hello /hello
ENTRYPOINT ["/hello"]
""")
    assert builder.docker("run", "--rm", "test/build:1").out == "hello from gantry\n"
