// Stock clients redial after a refusal, some of them in a storm. Every kind of client against every refusal, for one minute:
// at most 40 dials each, and not rising.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import { KINDS, clientPool, freshName } from './lib/client.js'
import { startNode } from './lib/node.js'
import { seconds } from './lib/token.js'
import { observe } from './lib/wait.js'

const WINDOW_MS = 60_000
const DIALS_MAX = 40
// A client that holds one refused socket redials when nothing came for 30 s: that may fall into either half.
const RISE_TOLERATED = 1

let node
before(async () => {
  node = await startNode()
})
after(() => node.stop())

/** `arrange(open)` may open clients that fill a limit, and gives the options of the client that is refused. */
const REFUSALS = {
  4001: async () => ({ token: undefined }),
  4002: async () => ({ token: node.tokens.sign({ exp: seconds() - 3600 }) }),
  4003: async () => ({ token: node.tokens.sign({ documents: ['notes-*'] }) }),
  4004: async hold => {
    const token = node.tokens.limited({ maxConnections: 1 })
    await hold(freshName('held'), token)
    return { token }
  },
  4005: async hold => {
    const token = node.tokens.limited({ maxDocuments: 1 })
    await hold(freshName('held'), token)
    return { token }
  },
  4007: async () => ({ name: 'not*a*name' }),
  4008: async hold => {
    const token = node.tokens.limited({ maxUsersPerDoc: 1 })
    const name = freshName('held')
    await hold(name, token)
    return { name, token }
  },
}

test('every kind against every refusal for a minute: at most 40 dials each, not rising', async t => {
  const clients = clientPool(t, node)
  const holders = []
  const hold = async (name, token) => {
    const holder = clients.open(KINDS.at(-1), name, { token })
    holders.push(holder)
    await holder.untilSynced()
  }
  const combinations = Object.entries(REFUSALS).flatMap(([code, arrange]) => KINDS.map(kind => ({ code, arrange, kind })))
  const arranged = await Promise.all(
    combinations.map(async ({ code, arrange, kind }) => ({ code, kind, ...(await arrange(hold)) })),
  )

  const start = performance.now()
  const refused = arranged.map(({ code, kind, name = freshName('refused'), ...options }) => ({
    code,
    client: clients.open(kind, name, options),
  }))
  await observe(WINDOW_MS)

  const failures = []
  for (const { code, client } of refused) {
    const first = client.line.dials.filter(at => at < start + WINDOW_MS / 2).length
    const second = client.dials - first
    t.diagnostic(`${code} ${client.kind}: ${first} dials in the first half minute, ${second} in the second`)
    const told = client.denials.length > 0 || client.closes.some(close => String(close.code) === code)
    if (!told) failures.push(`${client} was never told ${code}`)
    if (client.synced) failures.push(`${client} was let in`)
    if (first + second > DIALS_MAX) failures.push(`${client} dialled ${first + second} times`)
    if (second > first + RISE_TOLERATED) failures.push(`${client} dials more and more: ${first}, then ${second}`)
  }
  for (const holder of holders) {
    if (holder.dials !== 1 || !holder.synced) failures.push(`${holder} was disturbed`)
  }
  assert.deepEqual(failures, [])
})
