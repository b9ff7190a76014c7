// Two regions of two nodes each: stock clients find the region that has their document.

import test, { after, before, describe } from 'node:test'
import assert from 'node:assert/strict'
import { KINDS, clientPool, freshName, isHocuspocus } from './lib/client.js'
import { startCluster } from './lib/cluster.js'
import { introduce, writeAll } from './lib/company.js'
import { discover } from './lib/documented.js'
import { untilConverged } from './lib/edits.js'
import { RawClient, emptyStep1 } from './lib/raw.js'
import { observe } from './lib/wait.js'

const WINDOW_MS = 60_000
const DIALS_MAX = 40
// A client that holds one refused socket redials when nothing came for 30 s: that may fall into either half.
const RISE_TOLERATED = 1
const OWN_REGION = 'region not allowed by the token'

let cluster
let here
let there
before(async () => {
  cluster = await startCluster()
  ;[here, there] = cluster.regions
})
after(() => cluster.stop())

const poolOf = t => clientPool(t, { url: here.url, token: cluster.token })

/** Where a client's socket is. */
const regionOf = client => cluster.regions.find(({ nodes }) => nodes.some(({ url }) => client.line.socket.url.startsWith(url)))

/** Whether a client is sent to a region: to one of its nodes, for there is nothing here that spreads clients over them. */
const isRedirect = (reason, region, name) => region.nodes.some(({ url }) => reason === `REDIRECT:${url}/${name}`)

/** What a client was told first when it was refused. */
async function refusal(client) {
  if (isHocuspocus(client.kind)) {
    await client.until(() => client.denials.length > 0, 'PermissionDenied')
    return { reason: client.denials[0] }
  }
  await client.until(() => client.closes.length > 0, 'a close')
  const { code, reason } = client.closes[0]
  return { code, reason }
}

// Side by side: they wait for clients that dial again after a while.
describe('regions', { concurrency: true }, () => {
  for (const kind of KINDS) {
    test(`a ${kind} with the documented lines follows its document to another region`, async t => {
      const clients = poolOf(t)
      const name = freshName('followed')
      const holder = clients.open(KINDS.at(-1), name)
      await holder.untilSynced()
      holder.doc.getMap('map').set('before', 1)

      // One through each node of the other region.
      const followers = there.nodes.map(({ url }) => clients.open(kind, name, { url, follows: true }))
      await Promise.all(followers.map(follower => follower.untilSynced()))
      const members = [holder, ...followers]
      await introduce(members)
      writeAll(members, 'after')
      await untilConverged(members)
      assert.equal(holder.doc.getMap('map').size, 1 + members.length)
      for (const follower of followers) {
        assert.equal(regionOf(follower), here)
        assert.equal(follower.dials, 2, 'one to each region')
        const { code = 4009, reason } = await refusal(follower)
        assert.equal(code, 4009)
        assert.ok(isRedirect(reason, here, name), reason)
      }
    })

    test(`a ${kind} that asks any node first opens its document where it is`, async t => {
      const clients = poolOf(t)
      const name = freshName('discovered')
      const holder = clients.open(KINDS[0], name, { url: there.nodes[1].url })
      await holder.untilSynced()
      const nodes = cluster.regions.flatMap(({ nodes }) => nodes)
      const found = await Promise.all(nodes.map(({ httpUrl }) => discover(httpUrl, name, cluster.token)))
      for (const url of found) assert.ok(there.nodes.some(node => node.url === url), `${url} is of ${there.name}`)
      const client = clients.open(kind, name, { url: found[0] })
      await client.untilSynced()
      await introduce([holder, client])
      writeAll([holder, client], 'both')
      await untilConverged([holder, client])
      assert.equal(client.dials, 1)
    })

    test(`a ${kind} with a token for one region is refused in the other, whoever has the document`, async t => {
      const clients = poolOf(t)
      const token = cluster.tokens.sign({ regions: [here.name] })
      const name = freshName('scoped')
      const allowed = clients.open(kind, name, { token })
      await allowed.untilSynced()
      // Not even where it is: that would send the client on, or tell whether somebody has it open.
      for (const document of [name, freshName('idle')]) {
        const { code = 4003, reason } = await refusal(clients.open(kind, document, { url: there.url, token }))
        assert.deepEqual([code, reason], [4003, OWN_REGION])
      }
      // One for the other region alone is told where the document is, and refused there.
      const foreign = cluster.tokens.sign({ regions: [there.name] })
      const follower = clients.open(kind, name, { url: there.url, token: foreign, follows: true })
      const told = () => [...follower.denials, ...follower.closes.map(({ reason }) => reason)]
      await follower.until(() => told().includes(OWN_REGION), 'the refusal')
      assert.ok(told().some(reason => isRedirect(reason, here, name)), told().join('; '))
      assert.equal(follower.synced, false)
      assert.equal(allowed.dials, 1)
    })
  }

  test('a socket that is sent elsewhere gets one frame: the close', async t => {
    const name = freshName('raw')
    const holder = poolOf(t).open(KINDS[0], name)
    await holder.untilSynced()
    const raw = new RawClient(`${there.url}/${name}?token=${cluster.token}`)
    t.after(() => raw.destroy())
    await raw.untilOpen()
    raw.send(emptyStep1)
    const { code, reason } = await raw.untilClosed()
    assert.deepEqual([code, raw.frames.length], [4009, 0])
    assert.ok(isRedirect(reason, here, name), reason)
  })

  test('bare clients of every kind in the wrong region for a minute: at most 40 dials each, not rising', async t => {
    const clients = poolOf(t)
    const holders = KINDS.map(() => clients.open(KINDS.at(-1), freshName('held')))
    await Promise.all(holders.map(holder => holder.untilSynced()))
    const start = performance.now()
    const lost = KINDS.map((kind, at) => clients.open(kind, holders[at].name, { url: there.url }))
    await observe(WINDOW_MS)

    const failures = []
    for (const [at, client] of lost.entries()) {
      const first = client.line.dials.filter(dial => dial < start + WINDOW_MS / 2).length
      const second = client.dials - first
      t.diagnostic(`${client.kind}: ${first} dials in the first half minute, ${second} in the second`)
      const { code = 4009, reason } = await refusal(client)
      if (code !== 4009 || !isRedirect(reason, here, client.name)) failures.push(`${client} was told ${code} "${reason}"`)
      if (client.synced) failures.push(`${client} was let in`)
      if (first + second > DIALS_MAX) failures.push(`${client} dialled ${first + second} times`)
      if (second > first + RISE_TOLERATED) failures.push(`${client} dials more and more: ${first}, then ${second}`)
      if (holders[at].dials !== 1 || !holders[at].synced) failures.push(`${holders[at]} was disturbed`)
    }
    assert.deepEqual(failures, [])
  })
})
