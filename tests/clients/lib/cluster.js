// Starting and stopping a cluster of real processes: regions of several nodes, with the Redis servers and sentinels they need.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import assert from 'node:assert/strict'
import { minter } from './token.js'
import { withinPatience } from './wait.js'

const LOG_BYTES_SHOWN = 4_000

/** A process of the cluster. */
const signalled = pid => signal => process.kill(pid, signal)

const withoutSlash = url => url.replace(/\/+$/, '')

const nodeOf = (folder, { node, ws_url: url, http_url: httpUrl, admin_url: adminUrl, near_url: nearUrl, pid, ...more }) => ({
  name: node,
  url: withoutSlash(url),
  httpUrl: withoutSlash(httpUrl),
  adminUrl: withoutSlash(adminUrl),
  nearUrl,
  nearHttpUrl: more.near_http_url,
  signal: signalled(pid),
  /** The end of what it logged. */
  log: () => readFileSync(join(folder, `${node}.log`), 'utf8').slice(-LOG_BYTES_SHOWN),
})

/**
 * Starts `cargo xtask cluster` with `args`, by the program that PINWIRE_XTASK names. Resolves when all nodes are ready, with
 * `regions` by place: `{name, url, nodes, redis}`, each node with `url`, `httpUrl`, `adminUrl`, `signal(name)` and `log()`, and with
 * `nearUrl` and `nearHttpUrl`, which lead to it also when its region is cut off. Of Redis servers there are those that were masters at the
 * start. `order(line)` has it do something (xtask/src/cluster/orders.rs).
 */
export async function startCluster(...args) {
  const { PINWIRE_XTASK: xtask, PINWIRE_NODE: program, PINWIRE_DRIVER: driver, PINWIRE_THREADS: threads } = process.env
  assert.ok(xtask && program, 'PINWIRE_XTASK and PINWIRE_NODE must name programs (cargo xtask clients sets them)')
  const settings = { driver, threads }
  const set = Object.entries(settings).flatMap(([key, value]) => (value === undefined ? [] : ['--set', `${key}=${value}`]))
  const child = spawn(xtask, ['cluster', '--json', ...set, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  // Its processes end with it, whatever happens; a test run that dies must not leave it behind.
  const reap = () => child.kill('SIGKILL')
  process.on('exit', reap)

  const said = createInterface({ input: child.stdout })
  const nextLine = () =>
    Promise.race([
      once(said, 'line').then(([line]) => JSON.parse(line)),
      exited.then(([code, signal]) => {
        throw new Error(`the cluster ended (${signal ?? code}) before it answered`)
      }),
    ])
  const ready = await withinPatience(nextLine(), 'the cluster to be ready')
  const regions = ready.regions.map(({ region, nodes, redis }) => {
    const all = nodes.map(node => nodeOf(ready.folder, node))
    return { name: region, url: all[0].url, nodes: all, redis: { signal: signalled(redis.master.pid) } }
  })
  const token = execFileSync(program, ['token', 'mint', '--secret', ready.secret], { encoding: 'utf8' }).trim()
  let lastAnswer = Promise.resolve()
  return {
    regions,
    registry: { signal: signalled(ready.registry.redis.master.pid) },
    token,
    tokens: minter({ secret: ready.secret, token }),
    /** Has the cluster do what a line says, after what it was told before; its answer. */
    order(line) {
      lastAnswer = lastAnswer.then(async () => {
        child.stdin.write(`${line}\n`)
        const answer = await withinPatience(nextLine(), `the cluster to do: ${line}`)
        assert.equal(answer.done, line, answer.error)
        return answer
      })
      return lastAnswer
    },
    /** What the admin API of each of these nodes answers: `{status, body}`. */
    ask: (nodes, path) =>
      Promise.all(
        nodes.map(async node => {
          const answer = await fetch(node.adminUrl + path, { headers: { Authorization: `Bearer ${ready.admin_token}` } })
          return { status: answer.status, body: await answer.json() }
        }),
      ),
    /** What the admin API of a node answers. */
    async admin(node, path) {
      const answer = await fetch(node.adminUrl + path, { headers: { Authorization: `Bearer ${ready.admin_token}` } })
      assert.equal(answer.status, 200, `${path}: ${answer.status}`)
      return answer.json()
    },
    async stop() {
      child.kill('SIGTERM')
      const [code] = await withinPatience(exited, 'the cluster to end')
      process.off('exit', reap)
      assert.equal(code, 0)
    },
  }
}
