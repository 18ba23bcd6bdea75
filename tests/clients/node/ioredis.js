'use strict';
// ioredis: commands, pipelines, transactions, WATCH, streams of keys, times to live.
const assert = require('node:assert/strict');
const { once } = require('node:events');
const { Redis } = require('ioredis');
const { addresses, fails, run, soon, version } = require('./report.js');

const RUN = `ioredis:${process.pid}:`;
const EVERY_BYTE = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
const clients = [];

/** A client of this server; the next one if there are fewer. */
function client(server = 0, options = {}) {
  const made = new Redis({ ...addresses[server % addresses.length], ...options });
  clients.push(made);
  return made;
}

const store = client();
const other = client(1);

async function plain() {
  const key = `${RUN}plain`;
  assert.equal(await store.ping(), 'PONG');
  assert.equal(await store.set(key, 'v'), 'OK');
  assert.equal(await store.get(key), 'v');
  assert.equal(await store.get(`${key}:none`), null);
  assert.equal(await other.get(key), 'v');
  assert.equal(await store.set(key, 'w', 'NX'), null);
  assert.equal(await store.set(key, 'w', 'EX', 100, 'XX'), 'OK');
  assert.equal(await store.append(key, 'x'), 2);
  assert.equal(await store.del(key), 1);
  assert.equal(await store.incr(key), 1);
  assert.equal(await store.incrby(key, 41), 42);
  assert.equal(await store.mset({ [`${key}:a`]: '1', [`${key}:b`]: '2' }), 'OK');
  assert.deepEqual(await store.mget(`${key}:a`, `${key}:none`, `${key}:b`), ['1', null, '2']);
  assert.equal(await store.exists(key, `${key}:a`), 2);
  assert.equal(await store.del(key, `${key}:a`, `${key}:b`), 3);
}

async function becomesReady() {
  const fresh = client(0, { lazyConnect: true, connectionName: 'mine' });
  const ready = once(fresh, 'ready');
  await fresh.connect();
  await ready;
  assert.equal(await fresh.client('GETNAME'), 'mine');
  assert.match(await fresh.info(), /\r\nrole:master\r\n/);
  assert.equal(await fresh.quit(), 'OK');
}

async function bytes() {
  const key = Buffer.concat([Buffer.from(`${RUN}bytes`), EVERY_BYTE]);
  assert.equal(await store.set(key, EVERY_BYTE), 'OK');
  assert.deepEqual(await store.getBuffer(key), EVERY_BYTE);
  const big = Buffer.alloc(1 << 20, EVERY_BYTE);
  assert.equal(await store.set(key, big), 'OK');
  assert(big.equals(await store.getBuffer(key)));
  assert.equal(await store.del(key), 1);
}

async function pipeline() {
  const key = `${RUN}pipeline`;
  const pipe = store.pipeline();
  for (let number = 0; number < 1000; number += 1) pipe.incr(key);
  const wanted = Array.from({ length: 1000 }, (_, number) => [null, number + 1]);
  assert.deepEqual(await pipe.exec(), wanted);
  const results = await store.pipeline().set(key, 'text').incr(key).get(key).exec();
  assert.match(results[1][0].message, /not an integer/);
  assert.deepEqual(results[2], [null, 'text']);
  assert.equal(await store.del(key), 1);
}

async function manyAtOnce() {
  const key = `${RUN}many`;
  const asked = Array.from({ length: 1000 }, () => store.incr(key));
  assert.deepEqual(await Promise.all(asked), Array.from({ length: 1000 }, (_, n) => n + 1));
  assert.equal(await store.del(key), 1);
}

async function autoPipelining() {
  const eager = client(0, { enableAutoPipelining: true });
  const keys = Array.from({ length: 100 }, (_, number) => `${RUN}auto:${number}`);
  await Promise.all(keys.map((key) => eager.set(key, key)));
  assert.deepEqual(await Promise.all(keys.map((key) => eager.get(key))), keys);
  assert.equal(await eager.del(...keys), 100);
}

async function multi() {
  const key = `${RUN}multi`;
  const results = await store.multi().set(key, 1).incr(key).get(key).del(key).exec();
  assert.deepEqual(results, [[null, 'OK'], [null, 2], [null, '2'], [null, 1]]);
  await store.multi({ pipeline: false });
  assert.equal(await store.incr(key), 'QUEUED');
  assert.equal(await store.discard(), 'OK');
  assert.equal(await store.exists(key), 0);
  await fails(store.multi().set(key, 1).call('FROBNICATE').exec(), 'EXECABORT');
  assert.equal(await store.exists(key), 0);
}

async function watch() {
  const key = `${RUN}watch`;
  await store.watch(key);
  assert.equal(await other.set(key, 'theirs'), 'OK');
  assert.equal(await store.multi().set(key, 'mine').exec(), null);
  assert.equal(await store.get(key), 'theirs');
  await store.watch(key);
  assert.deepEqual(await store.multi().set(key, 'mine').exec(), [[null, 'OK']]);
  assert.equal(await other.get(key), 'mine');
  assert.equal(await store.del(key), 1);
}

async function scanStream() {
  const keys = Array.from({ length: 300 }, (_, number) => `${RUN}scan:${number}`);
  await store.mset(...keys.flatMap((key) => [key, 'v']));
  const found = new Set();
  for await (const some of store.scanStream({ match: `${RUN}scan:*`, count: 10 })) {
    for (const key of some) found.add(key);
  }
  assert.deepEqual([...found].sort(), keys.sort());
  assert.equal((await store.keys(`${RUN}scan:*`)).length, 300);
  assert.equal(await store.del(...keys), 300);
}

async function timesToLive() {
  const key = `${RUN}ttl`;
  await store.set(key, 'v', 'PX', 60);
  await soon(() => store.get(key), null);
  assert.equal(await store.ttl(key), -2);
  await store.set(key, 'v');
  assert.equal(await store.ttl(key), -1);
  assert.equal(await store.expire(key, 100), 1);
  assert.equal(await store.expire(key, 500, 'LT'), 0);
  const left = await store.pttl(key);
  assert(left > 90_000 && left <= 100_000, `${left} ms left`);
  assert.equal(await store.set(key, 'w', 'KEEPTTL'), 'OK');
  assert.equal(await store.persist(key), 1);
  assert.equal(await store.del(key), 1);
}

async function errors() {
  const key = `${RUN}errors`;
  await store.set(key, 'text');
  await fails(store.incr(key), 'ERR value is not an integer or out of range');
  await fails(store.call('FROBNICATE'), 'unknown command');
  await fails(store.select(99), 'DB index is out of range');
  assert.equal(await store.del(key), 1);
}

async function main() {
  const suite = `ioredis ${version('ioredis')}`;
  await run(suite, [
    ['plain', plain],
    ['becomes ready, has a name, quits', becomesReady],
    ['all bytes, and 1 MiB', bytes],
    ['pipeline of 1000', pipeline],
    ['1000 without waiting', manyAtOnce],
    ['automatic pipelines', autoPipelining],
    ['multi', multi],
    ['watch', watch],
    ['scan stream', scanStream],
    ['times to live', timesToLive],
    ['errors', errors],
  ]);
}

main();
