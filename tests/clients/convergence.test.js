// Random concurrent edits with random disconnects: everyone ends with the same state, and nothing acknowledged is missing.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import { HOCUSPOCUS_KINDS, KINDS, Y_WEBSOCKET_KINDS, clientPool, freshName } from './lib/client.js'
import { contentOf, prng, randomEdit, runSeed, untilConverged } from './lib/edits.js'
import { startNode } from './lib/node.js'
import { turns, until } from './lib/wait.js'

const CLIENTS_OF_A_KIND = 2
const STEPS = 120

let node
before(async () => {
  node = await startNode()
})
after(() => node.stop())

/** Edits, leaves, is cut off and comes back, at random; connected at the end. */
async function live(client, rng) {
  let away = false
  for (let step = 0; step < STEPS; step++) {
    randomEdit(rng, client.doc)
    if (away ? rng.chance(0.3) : false) {
      client.connect()
      away = false
    } else if (!away && rng.chance(0.03)) {
      await client.disconnect()
      away = true
    } else if (!away && rng.chance(0.03)) {
      client.cut()
    }
    if (rng.chance(0.1) && !away) await client.untilSynced()
    await turns(rng.below(6))
  }
  if (away) client.connect()
}

async function randomLives(t, kinds) {
  const seed = runSeed()
  t.diagnostic(`PINWIRE_SEED=${seed}`)
  const clients = clientPool(t, node)
  const name = freshName('random')
  const members = kinds.map(kind => clients.open(kind, name))
  await Promise.all(members.map((member, index) => live(member, prng(seed + index))))
  await untilConverged(members, `convergence with PINWIRE_SEED=${seed}`)

  const late = clients.open(kinds[0], name)
  await untilConverged([members[0], late], 'a late joiner to have the same')
  assert.ok(members[0].doc.getText('text').length > 0, 'the lives left something to compare')
  const dials = members.reduce((sum, member) => sum + member.dials, 0)
  assert.ok(dials > members.length, 'somebody reconnected')
}

test('a mix of all kinds converges under random edits and disconnects', t =>
  randomLives(t, Array(CLIENTS_OF_A_KIND).fill(KINDS).flat()))

for (const kind of KINDS) {
  test(`several ${kind} converge under random edits and disconnects`, t => randomLives(t, Array(4).fill(kind)))
}

for (const kind of HOCUSPOCUS_KINDS) {
  test(`no edit acknowledged to a ${kind} is missing after every writer was killed`, async t => {
    const seed = runSeed()
    t.diagnostic(`PINWIRE_SEED=${seed}`)
    const rng = prng(seed)
    const clients = clientPool(t, node)
    const name = freshName('acknowledged')
    const acknowledged = []

    for (let life = 0; life < 8; life++) {
      const writers = [clients.open(kind, name), clients.open(rng.pick(HOCUSPOCUS_KINDS), name)]
      await Promise.all(writers.map(writer => writer.untilSynced()))
      for (const [index, writer] of writers.entries()) {
        const keys = Array.from({ length: 1 + rng.below(20) }, (_, at) => `${life}-${index}-${at}`)
        for (const key of keys) writer.doc.getMap('map').set(key, life)
        await writer.untilAcknowledged()
        acknowledged.push(...keys)
        // These may be lost, but must do no harm.
        for (let at = rng.below(5); at > 0; at--) writer.doc.getMap('unacknowledged').set(`${life}-${at}`, index)
      }
      for (const writer of writers) writer.kill()
    }

    const heir = clients.open(kind, name)
    await heir.untilSynced()
    const missing = acknowledged.filter(key => !heir.doc.getMap('map').has(key))
    assert.deepEqual(missing, [], `acknowledged, yet missing (PINWIRE_SEED=${seed})`)
  })

  test(`a ${kind} has every change acknowledged, exactly once each, while others write`, async t => {
    const clients = clientPool(t, node)
    const name = freshName('counted')
    const [writer, other] = [clients.open(kind, name), clients.open(Y_WEBSOCKET_KINDS[0] ?? kind, name)]
    await Promise.all([writer.untilAcknowledged(), other.untilSynced()])

    const counts = []
    writer.provider.on('unsyncedChanges', () => counts.push(writer.unsynced))
    for (let at = 0; at < 200; at++) {
      writer.doc.getArray('array').push([at])
      other.doc.getArray('other').push([at])
      if (at % 10 === 0) await turns(1)
    }
    await writer.untilAcknowledged()
    await untilConverged([writer, other])
    assert.equal(Math.min(...counts), 0, '2.15 counts below zero when a change is acknowledged twice')
    assert.equal(writer.unsynced, 0)
  })
}

for (const kind of Y_WEBSOCKET_KINDS) {
  test(`edits of a killed ${kind} that a peer has seen are there for the next client`, async t => {
    const clients = clientPool(t, node)
    const name = freshName('seen')
    const [writer, witness] = [clients.open(kind, name), clients.open(kind, name)]
    await Promise.all([writer.untilSynced(), witness.untilSynced()])
    for (let at = 0; at < 100; at++) writer.doc.getArray('array').push([at])
    await until([witness], () => witness.doc.getArray('array').length === 100, 'the witness to see every edit')
    writer.kill()
    witness.kill()

    const heir = clients.open(kind, name)
    await heir.untilSynced()
    assert.deepEqual(contentOf(heir.doc), contentOf(writer.doc))
  })
}
