// Two clients, every pair of kinds, and the ways a document can be addressed.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import * as Y from 'yjs'
import { HOCUSPOCUS_KINDS, KINDS, Y_WEBSOCKET_KINDS, clientPool, freshName } from './lib/client.js'
import { untilConverged } from './lib/edits.js'
import { startNode } from './lib/node.js'
import { until } from './lib/wait.js'

let node
before(async () => {
  node = await startNode()
})
after(() => node.stop())

const textOf = client => client.doc.getText('text').toString()

for (const one of KINDS) {
  for (const other of KINDS) {
    test(`edits flow both ways between ${one} and ${other}`, async t => {
      const clients = clientPool(t, node)
      const name = freshName()
      const [left, right] = [clients.open(one, name), clients.open(other, name)]
      await Promise.all([left.untilSynced(), right.untilSynced()])

      left.doc.getText('text').insert(0, 'from the left')
      await right.until(() => textOf(right) === 'from the left', 'the edit from the left')
      right.doc.getText('text').insert(0, 'from the right, ')
      await left.until(() => textOf(left) === 'from the right, from the left', 'the edit from the right')
      await untilConverged([left, right])
      assert.deepEqual([left.dials, right.dials], [1, 1])
    })
  }
}

for (const kind of KINDS) {
  test(`a late ${kind} gets everything`, async t => {
    const clients = clientPool(t, node)
    const name = freshName()
    const early = KINDS.map(earlyKind => clients.open(earlyKind, name))
    await Promise.all(early.map(client => client.untilSynced()))
    for (const [index, client] of early.entries()) client.doc.getMap('map').set(client.kind, index)
    await untilConverged(early)

    const late = clients.open(kind, name)
    await late.untilSynced()
    assert.deepEqual(late.doc.getMap('map').toJSON(), early[0].doc.getMap('map').toJSON(), 'complete at the first sync')
  })

  test(`edits a ${kind} made before it connected reach the others`, async t => {
    const clients = clientPool(t, node)
    const name = freshName()
    const observer = clients.open(KINDS[0], name)
    await observer.untilSynced()

    const doc = new Y.Doc()
    doc.getText('text').insert(0, 'written offline')
    const writer = clients.open(kind, name, { doc })
    await untilConverged([observer, writer])
    assert.equal(textOf(observer), 'written offline')
  })

  test(`a ${kind} that was away gets what it missed and brings what it wrote`, async t => {
    const clients = clientPool(t, node)
    const name = freshName()
    const stayer = clients.open(KINDS.at(-1), name)
    const traveller = clients.open(kind, name)
    await Promise.all([stayer.untilSynced(), traveller.untilSynced()])

    await traveller.disconnect()
    stayer.doc.getMap('map').set('stayer', 'while you were away')
    traveller.doc.getMap('map').set('traveller', 'on the road')
    traveller.connect()
    await untilConverged([stayer, traveller])
    const both = { stayer: 'while you were away', traveller: 'on the road' }
    assert.deepEqual(stayer.doc.getMap('map').toJSON(), both)
  })

  test(`a document of 2 MiB reaches a ${kind} and comes from one`, async t => {
    const clients = clientPool(t, node)
    const name = freshName()
    const doc = new Y.Doc()
    const chunk = 'The wire holds what the pin keeps. '.repeat(1024)
    for (let at = 0; at < 2 ** 21; at += chunk.length) doc.getText('text').insert(at, chunk)

    const writer = clients.open(kind, name, { doc })
    const reader = clients.open(kind, name)
    await untilConverged([writer, reader])
  })
}

for (const kind of Y_WEBSOCKET_KINDS) {
  test(`sloppy URLs of ${kind} reach the document`, async t => {
    const clients = clientPool(t, node)
    const name = freshName()
    const plain = clients.open(kind, name)
    await plain.untilSynced()

    const sloppy = {
      'a discovery URL as base URL': clients.open(kind, name, { url: `${node.url}/${name}` }),
      'a trailing slash': clients.open(kind, `${name}/`),
      'a query string in the base URL': clients.open(kind, name, {
        url: `${node.url}/?token=${node.token}`,
        tokenVia: 'none',
      }),
    }
    for (const [form, client] of Object.entries(sloppy)) {
      await client.untilSynced()
      client.doc.getMap('map').set(form, true)
      await plain.until(() => plain.doc.getMap('map').get(form), form)
    }
  })
}

for (const kind of HOCUSPOCUS_KINDS) {
  test(`one ${kind} socket carries several documents, of any thread`, async t => {
    const clients = clientPool(t, node)
    const socket = clients.socket(kind)
    // Enough documents that every thread owns some.
    const pairs = Array.from({ length: 16 }, () => {
      const name = freshName('shared')
      return { member: socket.open(name), observer: clients.open(KINDS[0], name) }
    })
    const everyone = pairs.flatMap(pair => [pair.member, pair.observer])
    await Promise.all(everyone.map(client => client.untilSynced()))

    for (const [index, { member, observer }] of pairs.entries()) {
      member.doc.getMap('map').set('member', index)
      observer.doc.getMap('map').set('observer', index)
      member.awareness.setLocalState({ index })
    }
    await Promise.all(pairs.map(({ member, observer }) => untilConverged([member, observer])))
    await Promise.all(pairs.map(({ member }) => member.untilAcknowledged()))
    for (const [index, { member, observer }] of pairs.entries()) {
      assert.deepEqual(observer.doc.getMap('map').toJSON(), { member: index, observer: index })
      await observer.until(() => observer.sees(member)?.index === index, 'the awareness of its own document')
    }
    assert.equal(socket.line.dials.length, 1)

    // One document leaves; the others go on.
    const [left, ...rest] = pairs
    left.member.destroy()
    await left.observer.until(() => left.observer.sees(left.member) === undefined, 'the member that left to be gone')
    for (const { member, observer } of rest) {
      member.doc.getMap('map').set('after', true)
      await observer.until(() => observer.doc.getMap('map').get('after'), 'an edit after another document left')
    }
    assert.equal(socket.line.dials.length, 1)
  })

  test(`a refused document of a ${kind} socket does not disturb the others`, async t => {
    const clients = clientPool(t, node)
    const socket = clients.socket(kind)
    const token = node.tokens.sign({ documents: ['open-*'] })
    const name = freshName('open')
    const allowed = socket.open(name, { token })
    const refused = socket.open(freshName('closed'), { token })
    const observer = clients.open(KINDS[0], name)
    await Promise.all([
      allowed.untilSynced(),
      observer.untilSynced(),
      refused.until(() => refused.denials.length > 0, 'the refusal'),
    ])

    allowed.doc.getMap('map').set('still', 'here')
    await observer.until(() => observer.doc.getMap('map').get('still') === 'here', 'an edit after the refusal')
    assert.equal(refused.synced, false)
    assert.equal(socket.line.dials.length, 1)
  })

  test(`stateless messages of a ${kind} neither end its session nor reach its peers`, async t => {
    const clients = clientPool(t, node)
    const name = freshName()
    const [sender, peer] = [clients.open(kind, name), clients.open(kind, name)]
    await Promise.all([sender.untilSynced(), peer.untilSynced()])

    sender.provider.sendStateless(JSON.stringify({ hello: 'admin' }))
    sender.doc.getMap('map').set('after', 'stateless')
    await until([sender, peer], () => peer.doc.getMap('map').get('after'), 'the edit sent after it')
    await sender.untilAcknowledged()
    assert.deepEqual([peer.stateless, sender.dials, peer.dials], [[], 1, 1])
  })
}

if (KINDS.includes('hocuspocus-4')) {
  test('two hocuspocus-4 sessions of one document share a socket', async t => {
    const clients = clientPool(t, node)
    const socket = clients.socket('hocuspocus-4')
    const name = freshName()
    const one = socket.open(name, { sessionAwareness: true })
    const other = socket.open(name, { sessionAwareness: true })
    const plain = clients.open('hocuspocus-2', name)
    one.doc.getMap('map').set('one', 1)
    other.doc.getMap('map').set('other', 2)
    await untilConverged([one, other, plain])
    await Promise.all([one.untilAcknowledged(), other.untilAcknowledged()])
    assert.deepEqual(plain.doc.getMap('map').toJSON(), { one: 1, other: 2 })
    assert.equal(socket.line.dials.length, 1)
  })
}
