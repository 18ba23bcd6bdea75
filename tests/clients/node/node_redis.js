'use strict';
// node-redis, in RESP2 and RESP3: commands, pipelines, transactions, WATCH, iterating over keys.
const assert = require('node:assert/strict');
const { createClient, createClientPool, RESP_TYPES, WatchError } = require('redis');
const { addresses, fails, run, soon, version } = require('./report.js');

const EVERY_BYTE = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

async function client(protocol, server = 0, options = {}) {
  const socket = { ...addresses[server % addresses.length], reconnectStrategy: false };
  const made = createClient({ RESP: protocol, socket, ...options });
  made.on('error', () => {}); // the command that fails says it
  return made.connect();
}

/** Each check gets two clients, of two servers where there are two, and a key of its own. */
function checked(protocol, name, check) {
  return [`${name} (RESP${protocol})`, async () => {
    const store = await client(protocol);
    const other = await client(protocol, 1);
    try {
      await check(store, other, `node:${process.pid}:${protocol}:${name}:`, protocol);
    } finally {
      store.destroy();
      other.destroy();
    }
  }];
}

async function plain(store, other, key) {
  assert.equal(await store.ping(), 'PONG');
  assert.equal(await store.set(key, 'v'), 'OK');
  assert.equal(await store.get(key), 'v');
  assert.equal(await other.get(key), 'v');
  assert.equal(await store.get(`${key}none`), null);
  assert.equal(await store.set(key, 'w', { condition: 'NX' }), null);
  assert.equal(await store.set(key, 'w', { GET: true }), 'v');
  assert.equal(await store.append(key, 'x'), 2);
  assert.equal(await store.strLen(key), 2);
  assert.equal(await store.del(key), 1);
  assert.equal(await store.incr(key), 1);
  assert.equal(await store.incrBy(key, 41), 42);
  assert.equal(await store.decrBy(key, 2), 40);
  assert.equal(await store.mSet({ [`${key}a`]: '1', [`${key}b`]: '2' }), 'OK');
  assert.deepEqual(await store.mGet([`${key}a`, `${key}none`, `${key}b`]), ['1', null, '2']);
  assert.equal(await store.exists([key, `${key}a`]), 2);
  assert.equal(await store.del([key, `${key}a`, `${key}b`]), 3);
}

async function bytes(store, other, key) {
  const asBuffers = store.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  const name = Buffer.concat([Buffer.from(key), EVERY_BYTE]);
  assert.equal(await store.set(name, EVERY_BYTE), 'OK');
  assert.deepEqual(await asBuffers.get(name), EVERY_BYTE);
  const big = Buffer.alloc(1 << 20, EVERY_BYTE);
  assert.equal(await store.set(name, big), 'OK');
  assert(big.equals(await asBuffers.get(name)));
  assert.equal(await store.del(name), 1);
}

async function pipeline(store, other, key) {
  const asked = Array.from({ length: 1000 }, () => store.incr(key));
  assert.deepEqual(await Promise.all(asked), Array.from({ length: 1000 }, (_, n) => n + 1));
  const pipe = store.multi();
  for (let number = 0; number < 1000; number += 1) pipe.decr(key);
  const replies = await pipe.execAsPipeline();
  assert.deepEqual(replies, Array.from({ length: 1000 }, (_, n) => 999 - n));
  assert.equal(await store.del(key), 1);
}

async function multi(store, other, key) {
  const replies = await store.multi().set(key, '1').incr(key).get(key).del(key).get(key).exec();
  assert.deepEqual(replies, ['OK', 2, '2', 1, null]);
  await store.set(key, 'text');
  await assert.rejects(store.multi().incr(key).set(key, 'after').exec());
  assert.equal(await store.get(key), 'after');
  await assert.rejects(store.multi().set(key, 'no').addCommand(['FROBNICATE']).exec());
  assert.equal(await store.get(key), 'after');
  assert.equal(await store.del(key), 1);
}

async function watch(store, other, key) {
  await store.watch(key);
  await other.set(key, 'theirs');
  await assert.rejects(store.multi().set(key, 'mine').exec(), WatchError);
  assert.equal(await store.get(key), 'theirs');
  await store.watch(key);
  assert.deepEqual(await store.multi().set(key, 'mine').exec(), ['OK']);
  assert.equal(await other.get(key), 'mine');
  assert.equal(await store.del(key), 1);
}

async function scan(store, other, key) {
  const keys = Array.from({ length: 300 }, (_, number) => `${key}${number}`);
  await store.mSet(keys.flatMap((name) => [[name, 'v']]));
  const found = new Set();
  for await (const some of store.scanIterator({ MATCH: `${key}*`, COUNT: 10 })) {
    for (const name of some) found.add(name);
  }
  assert.deepEqual([...found].sort(), keys.sort());
  assert.equal((await store.keys(`${key}*`)).length, 300);
  assert.equal(await store.del(keys), 300);
}

async function timesToLive(store, other, key) {
  await store.set(key, 'v', { expiration: { type: 'PX', value: 60 } });
  await soon(() => store.get(key), null);
  assert.equal(await store.ttl(key), -2);
  await store.set(key, 'v', { expiration: { type: 'EX', value: 100 } });
  assert.equal(await store.set(key, 'w', { expiration: 'KEEPTTL' }), 'OK');
  const left = await store.ttl(key);
  assert(left >= 90 && left <= 100, `${left} s left`);
  assert.equal(await store.expire(key, 500, 'LT'), 0);
  assert.equal(await store.persist(key), 1);
  assert.equal(await store.ttl(key), -1);
  assert.equal(await store.expireAt(key, 4_000_000_000), 1);
  assert.equal(await store.expireTime(key), 4_000_000_000);
  assert.equal(await store.del(key), 1);
}

async function errors(store, other, key) {
  await store.set(key, 'text');
  await fails(store.incr(key), 'ERR value is not an integer or out of range');
  await fails(store.sendCommand(['FROBNICATE']), 'unknown command');
  await fails(store.select(99), 'DB index is out of range');
  assert.equal(await store.del(key), 1);
}

async function questions(store, other, key, protocol) {
  assert.match(await store.info(), /\r\nrole:master\r\n/);
  const told = await store.hello(protocol);
  assert.equal(told.proto, protocol);
  assert.equal(told.role, 'master');
  const setting = await store.configGet('appendonly');
  assert.deepEqual(Object.keys(setting), ['appendonly']);
  await store.clientSetName('mine');
  assert.equal(await store.clientGetName(), 'mine');
  assert((await store.clientId()) > 0);
  assert((await store.commandCount()) > 20);
}

async function pool(store, other, key, protocol) {
  const made = createClientPool(
    { RESP: protocol, socket: addresses[0] }, { minimum: 2, maximum: 8 });
  made.on('error', () => {});
  await made.connect();
  await Promise.all(Array.from({ length: 200 }, () => made.incr(key)));
  assert.equal(await store.getDel(key), '200');
  made.destroy();
}

async function main() {
  const suite = `node-redis ${version('redis')}`;
  const checks = Object.entries({
    plain, bytes, pipeline, multi, watch, scan, 'times to live': timesToLive, errors, questions,
    pool,
  });
  await run(suite, [2, 3].flatMap((protocol) => (
    checks.map(([name, check]) => checked(protocol, name, check)))));
}

main();
