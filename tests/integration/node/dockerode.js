// dockerode, unmodified. Talks to the daemon of DOCKER_HOST; the image is argv[2]. Any failed assertion is the exit status.
const assert = require('assert');
const { PassThrough } = require('stream');
const Docker = require('dockerode');

const image = process.argv[2];
const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace('unix://', '') });

function collect(stream) {
  return new Promise((resolve, reject) => {
    const parts = [];
    stream.on('data', (part) => parts.push(part));
    stream.on('end', () => resolve(Buffer.concat(parts).toString()));
    stream.on('error', reject);
  });
}

async function runs() {
  const out = new PassThrough(), err = new PassThrough();
  const texts = [collect(out), collect(err)];
  const [result, container] = await docker.run(image, ['sh', '-c', 'echo out; echo err >&2; exit 3'], [out, err], { Tty: false });
  out.end();
  err.end();
  assert.strictEqual(result.StatusCode, 3);
  assert.deepStrictEqual(await Promise.all(texts), ['out\n', 'err\n']);
  await container.remove();
}

async function attaches() {
  const container = await docker.createContainer({ Image: image, Cmd: ['cat'], OpenStdin: true, StdinOnce: true, AttachStdin: true });
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  const out = new PassThrough(), text = collect(out);
  container.modem.demuxStream(stream, out, out);
  await container.start();
  stream.write('one\n');
  stream.end('two\n');
  assert.strictEqual((await container.wait()).StatusCode, 0);
  if (!stream.readableEnded) await new Promise((resolve) => stream.on('end', resolve));
  out.end();
  assert.strictEqual(await text, 'one\ntwo\n');
  await container.remove();
}

async function execs() {
  const container = await docker.createContainer({ Image: image, Cmd: ['sleep', '100'], HostConfig: { AutoRemove: true }, Labels: { by: 'dockerode' } });
  await container.start();
  const exec = await container.exec({ Cmd: ['sh', '-c', 'read x; echo got $x; exit 6'], AttachStdin: true, AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: true, stdin: true });
  const out = new PassThrough(), text = collect(out);
  container.modem.demuxStream(stream, out, out);
  stream.end('word\n');
  await new Promise((resolve) => stream.on('end', resolve));
  out.end();
  assert.strictEqual(await text, 'got word\n');
  assert.strictEqual((await exec.inspect()).ExitCode, 6);

  const list = await docker.listContainers({ filters: { label: ['by=dockerode'] } });
  assert.strictEqual(list.length, 1);
  assert.ok((await container.stats({ stream: false })).memory_stats.usage > 0);
  assert.ok((await container.top()).Processes.length === 1);

  const tar = await collect(await container.getArchive({ path: '/etc/passwd' }));
  assert.ok(tar.includes('root'));
  await container.putArchive(Buffer.alloc(1024), { path: '/' });
  await assert.rejects(container.start(), (e) => e.statusCode === 304);
  const gone = container.wait({ condition: 'removed' });
  await container.kill();
  assert.strictEqual((await gone).StatusCode, 137);
  await assert.rejects(container.inspect(), (e) => e.statusCode === 404 && /No such container/.test(e.message));
}

async function follows() {
  const events = await docker.getEvents({ filters: { event: ['die'] } });
  const seen = new Promise((resolve) => events.once('data', (data) => resolve(JSON.parse(data))));
  const container = await docker.createContainer({ Image: image, Cmd: ['sh', '-c', 'for i in 1 2 3; do echo $i; sleep 0.1; done'], Tty: true });
  await container.start();
  const logs = await container.logs({ follow: true, stdout: true, stderr: true });
  assert.strictEqual(await collect(logs), '1\r\n2\r\n3\r\n');
  assert.strictEqual((await seen).Actor.ID, container.id);
  events.destroy();
  await container.remove();
}

async function images() {
  await docker.getImage(image).tag({ repo: 'dockerode', tag: 'x' });
  const saved = await docker.getImage('dockerode:x').get();
  const reply = await docker.loadImage(saved);
  await new Promise((resolve, reject) => docker.modem.followProgress(reply, (e, lines) => {
    if (e) return reject(e);
    assert.ok(lines.some((line) => /Loaded image: dockerode:x/.test(line.stream)));
    resolve();
  }));
  assert.ok((await docker.getImage('dockerode:x').history()).length > 0);
  await docker.getImage('dockerode:x').remove();
}

async function networks() {
  const network = await docker.createNetwork({ Name: 'rode', Internal: true });
  const volume = await docker.createVolume({ Name: 'rode', Labels: { a: 'b' } });
  const container = await docker.createContainer({ Image: image, Cmd: ['sleep', '100'], HostConfig: { NetworkMode: 'rode', Binds: ['rode:/v'] } });
  await container.start();
  assert.ok((await network.inspect()).Containers[container.id].IPv4Address);
  await network.disconnect({ Container: container.id });
  await network.connect({ Container: container.id });
  await assert.rejects(volume.remove ? docker.getVolume('rode').remove() : null, (e) => e.statusCode === 409);
  await container.remove({ force: true });
  await docker.getVolume('rode').remove();
  await network.remove();
}

(async () => {
  for (const part of [runs, attaches, execs, follows, images, networks]) {
    await part();
    console.log(part.name);
  }
  process.exit(0);
})().catch((e) => {
  console.error(e);
  process.exit(1);
});
