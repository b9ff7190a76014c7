// Two regions whose nodes carry sessions to each other: stock clients in the wrong region know nothing of it.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import { HOCUSPOCUS_KINDS, KINDS, Y_WEBSOCKET_KINDS, clientPool, freshName, isHocuspocus } from './lib/client.js'
import { startCluster } from './lib/cluster.js'
import { acknowledged, introduce, oneOfEach, untilGone, writeAll } from './lib/company.js'
import { contentOf, prng, randomEdit, runSeed, untilConverged, writing } from './lib/edits.js'
import { observe, turns, until } from './lib/wait.js'

const EDITS = 60
const LEASE_MS = 4_000

let cluster
let here
let there
before(async () => {
  const leases = ['--set', `cluster.lease=${LEASE_MS}ms`, '--set', 'cluster.renew=1s', '--silence', '500']
  cluster = await startCluster('--relay', ...leases)
  ;[here, there] = cluster.regions
})
after(() => cluster.stop())

const poolOf = t => clientPool(t, { url: there.url, token: cluster.token })

/** A client in the region that has the document from then on. */
async function holderOf(clients, name, options = {}) {
  const holder = clients.open(KINDS.at(-1), name, { url: here.url, ...options })
  await holder.untilSynced()
  return holder
}

/** One client of each kind in the other region, by turns on its nodes. */
const far = (clients, name, options = {}) =>
  oneOfEach((kind, at) => clients.open(kind, name, { url: there.nodes[at % there.nodes.length].url, ...options }))

test('all kinds share a document with the region that has it, and never know', async t => {
  const seed = runSeed()
  t.diagnostic(`PINWIRE_SEED=${seed}`)
  const clients = poolOf(t)
  const name = freshName('carried')
  const holder = await holderOf(clients, name)
  const members = [holder, ...(await far(clients, name))]
  await introduce(members)
  await Promise.all(
    members.map(async ({ doc }, at) => {
      const rng = prng(seed + at)
      for (let edit = 0; edit < EDITS; edit++) {
        randomEdit(rng, doc)
        await turns(rng.below(4))
      }
    }),
  )
  await untilConverged(members, `convergence with PINWIRE_SEED=${seed}`)
  await acknowledged(members)
  for (const member of members) {
    assert.equal(member.dials, 1, `${member}`)
    assert.deepEqual(member.denials, [])
  }

  // Who leaves is gone, and its edits are there for whoever comes next, on either side.
  const [leaver, ...others] = members.slice(1)
  await leaver.disconnect()
  await untilGone([holder, ...others], [leaver])
  const late = clients.open(KINDS[0], name)
  await untilConverged([holder, ...others, late])
})

for (const kind of KINDS) {
  test(`a readonly ${kind} reads over a link, and its edits reach nobody`, async t => {
    const clients = poolOf(t)
    const name = freshName('readonly')
    const holder = await holderOf(clients, name)
    const reader = clients.open(kind, name, { token: cluster.tokens.sign({ access: 'readonly' }) })
    await reader.untilSynced()
    holder.doc.getMap('map').set('written', 1)
    await reader.until(() => reader.doc.getMap('map').get('written') === 1, 'what others write')
    if (isHocuspocus(kind)) {
      assert.equal(reader.scopes.at(-1), 'readonly')
      await reader.untilAcknowledged()
    }
    reader.doc.getMap('map').set('forbidden', 1)
    // What follows on the same connection was handled after the edit.
    reader.awareness.setLocalState({ after: 'the edit' })
    await holder.until(() => holder.sees(reader)?.after === 'the edit', 'the awareness sent after the edit')
    assert.deepEqual(holder.doc.getMap('map').toJSON(), { written: 1 })
    if (isHocuspocus(kind)) assert.equal(reader.unsynced, 1, 'a change that was refused is never acknowledged')
    assert.equal(reader.dials, 1)
  })

  test(`a ${kind} is refused over a link as it would be without`, async t => {
    const clients = poolOf(t)
    const name = freshName('refused')
    const full = cluster.tokens.limited({ maxUsersPerDoc: 1 })
    await Promise.all([holderOf(clients, name), holderOf(clients, `${name}-full`, { token: full })])
    const refusals = [
      [4002, /signature/, name, cluster.tokens.sign({}, 'another secret entirely')],
      [4003, /^document not allowed by the token$/, name, cluster.tokens.sign({ documents: ['notes-*'] })],
      [4003, /^region not allowed by the token$/, name, cluster.tokens.sign({ regions: [here.name] })],
      // Its home may have it, but not the region where its edits would go.
      [4003, /^region not allowed by the token$/, name, cluster.tokens.sign({ regions: [there.name] })],
      [4008, /^Document user limit exceeded: 1$/, `${name}-full`, full],
    ]
    await Promise.all(
      refusals.map(async ([code, reason, document, token]) => {
        const client = clients.open(kind, document, { token })
        const first = () => (isHocuspocus(kind) ? client.denials[0] : client.closes[0]?.reason)
        await client.until(first, () => `the refusal ${code} ${reason}`)
        assert.match(first(), reason)
        if (isHocuspocus(kind)) assert.equal(client.connected, true, 'a Hocuspocus socket is not closed in order to refuse')
        else assert.equal(client.closes[0].code, code)
        assert.equal(client.synced, false)
      }),
    )
  })

  test(`a ${kind} that has used up its app's operations is closed over a link (4006)`, async t => {
    const clients = poolOf(t)
    const name = freshName('hasty')
    const token = cluster.tokens.limited({ opsPerMinute: 5 })
    await holderOf(clients, name, { token })
    const hasty = clients.open(kind, name, { token })
    await hasty.untilSynced()
    for (let at = 0; at < 10; at++) hasty.doc.getMap('map').set(`key-${at}`, at)
    await hasty.until(() => hasty.closes.length > 0, 'a close')
    const { code, reason } = hasty.closes[0]
    assert.deepEqual([code, reason], [4006, 'Rate limit exceeded: 5 ops/min'])
  })
}

test('the region that has a document shows whose sessions are carried to it', async t => {
  const clients = poolOf(t)
  const name = freshName('shown')
  const subjects = KINDS.map(kind => `${kind}@there`)
  const tokens = cluster.tokens.sign({ sub: 'holder@here' })
  await holderOf(clients, name, { token: tokens })
  await oneOfEach((kind, at) => clients.open(kind, name, { token: cluster.tokens.sign({ sub: subjects[at] }) }))
  const { members } = await cluster.admin(here.nodes[0], `/v1/documents/dev/dev/${name}`)
  assert.deepEqual(members.map(({ subject }) => subject).sort(), ['holder@here', ...subjects].sort())
  // Connections and threads are those of this node.
  const local = members.filter(({ connection }) => connection !== undefined)
  assert.deepEqual(local.map(({ subject, thread }) => [subject, thread !== undefined]), [['holder@here', true]])
})

test('the node that has the document is stopped for longer than its lease while all kinds write over links: nothing is lost', async t => {
  const clients = poolOf(t)
  const name = freshName('stopped')
  const members = [await holderOf(clients, name), ...(await far(clients, name))]
  await introduce(members)
  const seed = runSeed()
  t.diagnostic(`PINWIRE_SEED=${seed}`)
  const stop = writing(members, seed)
  t.after(stop)
  const [owner] = here.nodes
  owner.signal('SIGSTOP')
  t.after(() => owner.signal('SIGCONT'))
  await observe(LEASE_MS * 1.5)
  owner.signal('SIGCONT')
  stop()
  await untilConverged(members, `convergence with PINWIRE_SEED=${seed}`)
  await acknowledged(members)
  await introduce(members)
})

test('the masters of Redis are killed while all kinds write over links: nobody loses an edit', async t => {
  const clients = poolOf(t)
  const name = freshName('failed-over')
  const members = [await holderOf(clients, name), ...(await far(clients, name))]
  await introduce(members)
  const seed = runSeed()
  t.diagnostic(`PINWIRE_SEED=${seed}`)
  const stop = writing(members, seed)
  t.after(stop)
  here.redis.signal('SIGKILL')
  cluster.registry.signal('SIGKILL')
  await observe(LEASE_MS)
  stop()
  await untilConverged(members, `convergence with PINWIRE_SEED=${seed}`)
  await acknowledged(members)
  const written = contentOf(members[0].doc)
  await Promise.all(members.map(client => client.disconnect()))
  const heir = clients.open(KINDS[0], name, { url: here.nodes[1].url })
  await heir.untilSynced()
  assert.deepEqual(contentOf(heir.doc), written)
})

// The last, for it takes a node away.
test('when the node that has the document is killed, all kinds are carried to another, with every edit', async t => {
  const clients = poolOf(t)
  const name = freshName('killed')
  await holderOf(clients, name)
  const members = await far(clients, name)
  await introduce(members)
  writeAll(members, 'before')
  await untilConverged(members)
  await acknowledged(members)

  const [owner, other] = here.nodes
  owner.signal('SIGKILL')
  // Nobody is told of the death but by the link.
  writeAll(members, 'meanwhile')
  await until(members, () => members.every(({ closes }) => closes.length > 0), () => `a close: ${members.join('; ')}`)
  for (const member of members) assert.equal(member.closes[0].code, 1012, `${member}`)
  await untilConverged(members, 'all kinds to be carried to another node')
  await introduce(members)
  const witness = clients.open(Y_WEBSOCKET_KINDS[0] ?? HOCUSPOCUS_KINDS[0], name, { url: other.url })
  await untilConverged([...members, witness])
  assert.equal(witness.doc.getMap('map').size, 2 * members.length)
})
