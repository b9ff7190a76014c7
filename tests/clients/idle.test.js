// Clients close a socket on which no data frame came for 30 s. A quiet document must not make them reconnect.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import { KINDS, clientPool, freshName } from './lib/client.js'
import { untilConverged } from './lib/edits.js'
import { startNode } from './lib/node.js'
import { observe } from './lib/wait.js'

// 30 s, and the 3 s at which clients look at their watch.
const QUIET_MS = 36_000

let node
before(async () => {
  node = await startNode()
})
after(() => node.stop())

test('nobody reconnects on a quiet document, alone or in company, with presence or without', async t => {
  const clients = clientPool(t, node)
  const shared = freshName('quiet')
  const members = KINDS.map(kind => clients.open(kind, shared))
  const loners = KINDS.map(kind => clients.open(kind, freshName('quiet')))
  const hidden = KINDS.map(kind => {
    const client = clients.open(kind, freshName('quiet'))
    client.awareness.setLocalState(null)
    return client
  })
  const everyone = [...members, ...loners, ...hidden]
  await Promise.all(everyone.map(client => client.untilSynced()))

  await observe(QUIET_MS)
  for (const client of everyone) assert.ok(client.dials === 1 && client.synced, `${client} did not stay`)
  for (const viewer of members) {
    for (const member of members) assert.notEqual(viewer.sees(member), undefined, `${viewer} lost sight of ${member.kind}`)
  }
  members[0].doc.getMap('map').set('still', 'alive')
  await untilConverged(members)
})
