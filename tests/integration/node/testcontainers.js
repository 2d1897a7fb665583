// testcontainers for Node.js, unmodified, without its reaper (an image of a registry). The image is argv[2].
const assert = require('assert');
const http = require('http');
const { GenericContainer, Network, Wait } = require('testcontainers');

const image = process.argv[2];
const page = (port, host) => new Promise((resolve, reject) => {
  http.get({ host, port, path: '/' }, (answer) => {
    let text = '';
    answer.on('data', (part) => (text += part)).on('end', () => resolve(text));
  }).on('error', reject);
});

async function logs() {
  const container = await new GenericContainer(image).withCommand(['sh', '-c', 'sleep 0.3; echo ready to serve; sleep 100'])
    .withEnvironment({ KEY: 'value' }).withLabels({ made: 'by testcontainers' }).withWaitStrategy(Wait.forLogMessage('ready to serve')).start();
  const { output, exitCode } = await container.exec(['sh', '-c', 'echo $KEY; exit 4']);
  assert.deepStrictEqual([output, exitCode], ['value\n', 4]);
  assert.strictEqual(container.getLabels().made, 'by testcontainers');
  await container.restart();
  await container.stop();
}

async function ports() {
  const container = await new GenericContainer(image).withCommand(['httpd', '-f', '-p', '80', '-h', '/www'])
    .withExposedPorts(80).withCopyContentToContainer([{ content: 'hello from testcontainers\n', target: '/www/index.html' }])
    .withTmpFs({ '/scratch': 'rw,size=1m' }).withUser('0:0').withWaitStrategy(Wait.forListeningPorts()).start();
  assert.strictEqual(await page(container.getMappedPort(80), container.getHost()), 'hello from testcontainers\n');
  await container.copyContentToContainer([{ content: 'later\n', target: '/www/index.html' }]);
  assert.strictEqual(await page(container.getMappedPort(80), container.getHost()), 'later\n');
  await container.stop();
}

async function health() {
  const container = await new GenericContainer(image).withCommand(['sh', '-c', 'sleep 0.3; touch /ok; sleep 100'])
    .withHealthCheck({ test: ['CMD-SHELL', 'test -e /ok'], interval: 100, timeout: 1000, retries: 50, startPeriod: 0 })
    .withWaitStrategy(Wait.forHealthCheck()).start();
  await container.stop();
}

async function networks() {
  const network = await new Network().start();
  const one = await new GenericContainer(image).withCommand(['sleep', '100']).withNetwork(network).withNetworkAliases('one').start();
  const two = await new GenericContainer(image).withCommand(['sleep', '100']).withNetwork(network).start();
  assert.strictEqual((await two.exec(['ping', '-c', '1', '-W', '2', one.getIpAddress(network.getName())])).exitCode, 0);
  await one.stop();
  await two.stop();
  await network.stop();
}

(async () => {
  for (const part of [logs, ports, health, networks]) {
    await part();
    console.log(part.name);
  }
  process.exit(0);
})().catch((e) => {
  console.error(e);
  process.exit(1);
});
