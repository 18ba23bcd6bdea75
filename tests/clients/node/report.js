'use strict';
// One line a check, and the exit code: what report.py is for the Python suites.
const assert = require('node:assert/strict');

const addresses = process.env.CLIENTS_ADDRESSES.trim().split(/\s+/).map((address) => {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '');
  return { host, port: Number(address.slice(colon + 1)) };
});

/** Resolves after this many milliseconds. */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks until the answer is this one, for five seconds at most. */
async function soon(ask, wanted) {
  const deadline = Date.now() + 5000;
  while ((await ask()) !== wanted) {
    assert(Date.now() < deadline, `it did not become ${wanted}`);
    await pause(20);
  }
}

/** Rejects, with an error that says this. */
async function fails(promise, text) {
  await assert.rejects(promise, (error) => {
    assert(error.message.includes(text), `${error} does not say '${text}'`);
    return true;
  });
}

/** A check that hangs has failed. */
function within(ms, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Runs checks, each to its end whatever the others did, and exits. */
async function run(suite, checks) {
  let failed = 0;
  for (const [name, check] of checks) {
    try {
      await within(60_000, check());
      console.log(`ok      [${suite}] ${name}`);
    } catch (error) {
      failed += 1;
      const why = String(error.stack).replace(/\s+/g, ' ').slice(0, 600);
      console.log(`FAILED  [${suite}] ${name}: ${why}`);
    }
  }
  console.log(`end     [${suite}] ${checks.length} checks, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

/** The version that is installed; it must be the one that package.json asks for. */
function version(name) {
  const installed = require(`${name}/package.json`).version;
  assert.equal(installed, require('./package.json').dependencies[name], name);
  return installed;
}

module.exports = { addresses, fails, pause, run, soon, version };
