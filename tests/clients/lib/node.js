// Starting and stopping the node under test.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import assert from 'node:assert/strict'
import { minter } from './token.js'
import { withinPatience } from './wait.js'

const LOG_LINES_KEPT = 200

/**
 * Starts the program named by PINWIRE_NODE on a free port, with the driver and thread count of PINWIRE_DRIVER and
 * PINWIRE_THREADS unless given. Resolves when the node says it is ready.
 */
export async function startNode({ threads, driver } = {}) {
  const program = process.env.PINWIRE_NODE
  assert.ok(program, 'PINWIRE_NODE must name the pinwire-node program (cargo xtask clients sets it)')
  threads ??= Number(process.env.PINWIRE_THREADS ?? 2)
  driver ??= process.env.PINWIRE_DRIVER ?? 'uring'

  const args = ['dev', '--listen', '127.0.0.1:0', '--threads', String(threads), '--driver', driver, '--json']
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const log = []
  createInterface({ input: child.stderr }).on('line', line => {
    log.push(line)
    if (log.length > LOG_LINES_KEPT) log.shift()
  })
  const exited = once(child, 'exit')
  // A test run that dies must not leave a node behind.
  const reap = () => child.kill('SIGKILL')
  process.on('exit', reap)

  const stdout = createInterface({ input: child.stdout })
  const firstLine = Promise.race([
    once(stdout, 'line').then(([line]) => line),
    exited.then(([code, signal]) => {
      throw new Error(`the node ended (${signal ?? code}) before it was ready:\n${log.join('\n')}`)
    }),
    once(child, 'error').then(([error]) => {
      throw error
    }),
  ])
  const ready = JSON.parse(await withinPatience(firstLine, 'the node to be ready'))
  const [{ ws_url: url, http_url: httpUrl, region }] = ready.regions

  return {
    ...ready,
    url: url.replace(/\/+$/, ''),
    httpUrl: httpUrl.replace(/\/+$/, ''),
    region,
    threads,
    log,
    tokens: minter(ready),
    running: () => child.exitCode === null && child.signalCode === null,
    async stop() {
      child.kill('SIGTERM')
      const [code, signal] = await withinPatience(exited, 'the node to end after SIGTERM')
      process.off('exit', reap)
      assert.deepEqual({ code, signal }, { code: 0, signal: null }, `a clean exit; the log ends:\n${log.join('\n')}`)
    },
  }
}
