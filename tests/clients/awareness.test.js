// Who is here: seen by all, gone when gone, and back at once when back.

import test, { after, before, describe } from 'node:test'
import assert from 'node:assert/strict'
import { KINDS, clientPool, freshName } from './lib/client.js'
import { startNode } from './lib/node.js'
import { until } from './lib/wait.js'

// Without the tombstone rule a user who comes back stays hidden for 15 to 30 s, so this limit tells right from wrong.
const VISIBLE_AGAIN_MS = 10_000

let node
before(async () => {
  node = await startNode()
})
after(() => node.stop())

/** One client of each kind on a document, all visible to each other. */
async function company(t, extra = []) {
  const clients = clientPool(t, node)
  const name = freshName('company')
  const members = [...KINDS, ...extra].map(kind => clients.open(kind, name))
  for (const [index, member] of members.entries()) member.awareness.setLocalState({ user: `${member.kind} ${index}` })
  await until(members, () => everyoneSeesEveryone(members), () => `everyone to see everyone: ${members.join('; ')}`)
  return { clients, name, members }
}

const everyoneSeesEveryone = members =>
  members.every(viewer => members.every(member => viewer.sees(member)?.user === member.awareness.getLocalState().user))

test('states are seen by all kinds, and so is each change', async t => {
  const { members } = await company(t)
  for (const member of members) member.awareness.setLocalStateField('cursor', member.kind)
  await until(
    members,
    () => members.every(viewer => members.every(member => viewer.sees(member)?.cursor === member.kind)),
    'every cursor everywhere',
  )
})

test('a late joiner sees everyone who is there', async t => {
  const { clients, name, members } = await company(t)
  for (const kind of KINDS) {
    const late = clients.open(kind, name)
    await late.until(() => members.every(member => late.sees(member)?.user !== undefined), 'everyone who is there')
  }
})

// Side by side, for each takes 20 s: a client forgets the others as it leaves, and sees them when they renew their states.
describe('coming back', { concurrency: true }, () => {
  for (const kind of KINDS) {
    test(`a ${kind} that disconnects is gone for the others, and visible within a second of coming back`, async t => {
      const { members } = await company(t, [kind])
      const traveller = members.at(-1)
      const others = members.slice(0, -1)
      const { clientID } = traveller.doc

      await traveller.disconnect()
      await until(others, () => others.every(other => other.sees(traveller) === undefined), 'the traveller to be gone')

      const before = performance.now()
      traveller.connect()
      await until(
        others,
        () => others.every(other => other.sees(traveller) !== undefined),
        () => `the traveller to be visible again: ${others.join('; ')}`,
        VISIBLE_AGAIN_MS,
      )
      t.diagnostic(`${kind} visible to all ${Math.round(performance.now() - before)} ms after it was told to connect`)
      assert.equal(traveller.doc.clientID, clientID)
      await until([traveller], () => others.every(other => traveller.sees(other) !== undefined), 'the others to be visible')
    })
  }
})

for (const kind of KINDS) {
  test(`a ${kind} cut off by the network is visible again once it has redialled`, async t => {
    const { members } = await company(t, [kind])
    const unlucky = members.at(-1)
    const others = members.slice(0, -1)
    // It may be back before all of them have been looked at.
    const withdrawn = new Set()
    for (const other of others) {
      other.awareness.on('change', ({ removed }) => {
        if (removed.includes(unlucky.doc.clientID)) withdrawn.add(other)
      })
    }
    unlucky.cut()
    await until(others, () => withdrawn.size === others.length, 'the state to be withdrawn')
    await until([unlucky], () => unlucky.dials > 1 && unlucky.connected, 'the client to redial by itself')
    const dialled = performance.now()
    await until(others, () => others.every(other => other.sees(unlucky) !== undefined), 'visibility', VISIBLE_AGAIN_MS)
    t.diagnostic(`${kind} visible to all ${Math.round(performance.now() - dialled)} ms after its socket opened`)
  })

  test(`a killed ${kind} disappears`, async t => {
    const { members } = await company(t, [kind])
    const victim = members.at(-1)
    const others = members.slice(0, -1)
    victim.kill()
    await until(others, () => others.every(other => other.sees(victim) === undefined), 'the killed client to be gone')
    assert.ok(everyoneSeesEveryone(others), 'the others stay visible')
  })

  test(`a ${kind} that clears its state is gone, and back when it sets one`, async t => {
    const { members } = await company(t, [kind])
    const shy = members.at(-1)
    const others = members.slice(0, -1)
    shy.awareness.setLocalState(null)
    await until(others, () => others.every(other => other.sees(shy) === undefined), 'the cleared state to be gone')
    shy.awareness.setLocalState({ user: 'back' })
    await until(others, () => others.every(other => other.sees(shy)?.user === 'back'), 'the new state')
  })
}
