// The limits of an app, from its token, with the exact reasons apps read.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import { KINDS, clientPool, freshName, isHocuspocus } from './lib/client.js'
import { startNode } from './lib/node.js'

let node
before(async () => {
  node = await startNode()
})
after(() => node.stop())

async function assertRefused(client, code, reason) {
  if (isHocuspocus(client.kind)) {
    await client.until(() => client.denials.length > 0, `"${reason}"`)
    assert.equal(client.denials[0], reason)
  } else {
    await client.until(() => client.closes.length > 0, `close ${code}`)
    assert.deepEqual({ code: client.closes[0].code, reason: client.closes[0].reason }, { code, reason })
  }
}

for (const kind of KINDS) {
  test(`${kind}: maxConnections refuses the one too many (4004), and lets it in once there is room`, async t => {
    const clients = clientPool(t, node)
    const token = node.tokens.limited({ maxConnections: 2 })
    const holders = [clients.open(kind, freshName(), { token }), clients.open(kind, freshName(), { token })]
    await Promise.all(holders.map(holder => holder.untilSynced()))
    const oneTooMany = clients.open(kind, freshName(), { token })
    await assertRefused(oneTooMany, 4004, 'Connection limit exceeded: 2')
    // It dials on, and would take the room that another is to have.
    oneTooMany.destroy()
    assert.ok(holders.every(holder => holder.synced && holder.dials === 1), 'who is in stays in')

    await holders[0].disconnect()
    await clients.open(kind, freshName(), { token }).untilSynced()
  })

  test(`${kind}: maxDocuments refuses another document (4005), not another user of an open one`, async t => {
    const clients = clientPool(t, node)
    const token = node.tokens.limited({ maxDocuments: 1 })
    const holder = clients.open(kind, freshName(), { token })
    await holder.untilSynced()
    await clients.open(kind, holder.name, { token }).untilSynced()
    const refused = clients.open(kind, freshName(), { token })
    await assertRefused(refused, 4005, 'Document limit exceeded: 1 (active: 1)')
    assert.deepEqual([holder.synced, holder.dials], [true, 1])
  })

  test(`${kind}: maxUsersPerDoc refuses another user (4008), not another document`, async t => {
    const clients = clientPool(t, node)
    const token = node.tokens.limited({ maxUsersPerDoc: 1 })
    const holder = clients.open(kind, freshName(), { token })
    await holder.untilSynced()
    await assertRefused(clients.open(kind, holder.name, { token }), 4008, 'Document user limit exceeded: 1')
    await clients.open(kind, freshName(), { token }).untilSynced()
    assert.deepEqual([holder.synced, holder.dials], [true, 1])
  })

  test(`${kind}: opsPerMinute ends the session of who writes too much (4006)`, async t => {
    const clients = clientPool(t, node)
    const token = node.tokens.limited({ opsPerMinute: 20 })
    const reason = 'Rate limit exceeded: 20 ops/min'
    const name = freshName()
    const bystander = clients.open(kind, freshName())
    const writer = clients.open(kind, name, { token })
    await Promise.all([writer.untilSynced(), bystander.untilSynced()])

    for (let op = 0; op < 15; op++) writer.doc.getArray('array').push([op])
    const witness = clients.open(kind, name, { token })
    await witness.until(() => witness.doc.getArray('array').length === 15, 'everything below the limit')
    assert.equal(writer.closes.length, 0)

    for (let op = 0; op < 30; op++) writer.doc.getArray('array').push([op])
    await writer.until(() => writer.closes.length > 0, 'close 4006')
    assert.deepEqual({ code: writer.closes[0].code, reason: writer.closes[0].reason }, { code: 4006, reason })
    assert.deepEqual([bystander.synced, bystander.dials], [true, 1], 'another app is not disturbed')
  })
}
