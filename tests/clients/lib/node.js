// Starting and stopping the node under test.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import assert from 'node:assert/strict'
import { minter } from './token.js'
import { withinPatience } from './wait.js'

const LOG_LINES_KEPT = 200

/**
 * What a node is started with: `dev`, or `serve` with TLS where `certificates` names a directory with node.crt and node.key,
 * which clients have to trust (as this process does with NODE_EXTRA_CA_CERTS). `more` is what `dev` says by itself when it is
 * ready.
 */
function commandLine(program, { threads, driver, listen, certificates }) {
  if (certificates === undefined) {
    const args = ['dev', '--listen', listen, '--threads', String(threads), '--driver', driver, '--json']
    return { args, more: {}, cleanUp: () => {} }
  }
  const dir = mkdtempSync(join(tmpdir(), 'pinwire-'))
  const config = join(dir, 'node.toml')
  execFileSync(program, ['config', 'init', config])
  const secret = readFileSync(join(dir, 'node.secret'), 'utf8').trim()
  const token = execFileSync(program, ['token', 'mint', '--secret', secret], { encoding: 'utf8' }).trim()
  const settings = {
    listen: '',
    'tls.listen': listen,
    'tls.certificates': join(certificates, 'node.crt'),
    'tls.keys': join(certificates, 'node.key'),
    threads,
    driver,
    'address_limits.enabled': false,
    'drain.window': '0s',
    // How busy this host is says nothing of the node.
    'shedding.resources': '',
  }
  const set = Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`])
  const cleanUp = () => rmSync(dir, { recursive: true })
  return { args: ['serve', '--config', config, '--json', ...set], more: { secret, token }, cleanUp }
}

/**
 * Starts the program named by PINWIRE_NODE, on a free port unless given, with the driver and thread count of PINWIRE_DRIVER
 * and PINWIRE_THREADS unless given. Resolves when the node says it is ready.
 */
export async function startNode({
  threads,
  driver,
  listen = '127.0.0.1:0',
  certificates = process.env.PINWIRE_TLS_DIR,
} = {}) {
  const program = process.env.PINWIRE_NODE
  assert.ok(program, 'PINWIRE_NODE must name the pinwire-node program (cargo xtask clients sets it)')
  threads ??= Number(process.env.PINWIRE_THREADS ?? 2)
  driver ??= process.env.PINWIRE_DRIVER ?? 'uring'

  const { args, more, cleanUp } = commandLine(program, { threads, driver, listen, certificates })
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
  const ready = { ...JSON.parse(await withinPatience(firstLine, 'the node to be ready')), ...more }
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
    /** Ends it with SIGKILL, as a crash does. */
    async kill() {
      child.kill('SIGKILL')
      await withinPatience(exited, 'the node to end after SIGKILL')
      process.off('exit', reap)
      cleanUp()
    },
    async stop() {
      child.kill('SIGTERM')
      const [code, signal] = await withinPatience(exited, 'the node to end after SIGTERM')
      process.off('exit', reap)
      cleanUp()
      assert.deepEqual({ code, signal }, { code: 0, signal: null }, `a clean exit; the log ends:\n${log.join('\n')}`)
    },
  }
}
