// Clients that misbehave on the socket, and the others who must not notice.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import * as Y from 'yjs'
import { KINDS, clientPool, freshName } from './lib/client.js'
import { untilConverged } from './lib/edits.js'
import { startNode } from './lib/node.js'
import { RawClient, emptyStep1, maskedFrame, updateFrame, upgradedSocket } from './lib/raw.js'
import { turns, until } from './lib/wait.js'

let node
before(async () => {
  node = await startNode()
})
after(() => node.stop())

/** A client of each kind on `name`, synced; `check()` asserts that none of them was disturbed and edits still flow. */
async function bystanders(t, name) {
  const clients = clientPool(t, node)
  const members = KINDS.map(kind => clients.open(kind, name))
  await Promise.all(members.map(member => member.untilSynced()))
  return {
    members,
    async check() {
      for (const member of members) member.doc.getMap('check').set(member.kind, true)
      await untilConverged(members)
      for (const member of members) assert.equal(member.dials, 1, `${member} was disturbed`)
    },
  }
}

test('a client that stops reading does not hold up the others', async t => {
  const name = freshName('stalled')
  const { members, check } = await bystanders(t, name)
  const stalled = new RawClient(`${node.url}/${name}?token=${node.token}`)
  t.after(() => stalled.destroy())
  await stalled.untilOpen()
  stalled.send(emptyStep1)
  await until([stalled], () => stalled.frames.length > 0, 'the stalled client to have joined')
  stalled.socket.pause()

  // Far more than the socket buffers of both ends hold.
  const chunk = 'x'.repeat(2 ** 16)
  for (let at = 0; at < 256; at++) {
    members[at % members.length].doc.getArray('array').push([chunk])
    await turns(1)
  }
  await check()
})

test('a stalled client that reads again has not lost an update', async t => {
  const name = freshName('resumed')
  const { members, check } = await bystanders(t, name)
  const clients = clientPool(t, node)
  for (const kind of KINDS) {
    const sleepy = clients.open(kind, name)
    await sleepy.untilSynced()
    const { socket } = sleepy.line
    socket.pause()
    const chunk = 'y'.repeat(2 ** 15)
    for (let at = 0; at < 64; at++) members[0].doc.getArray('array').push([chunk])
    await untilConverged(members)
    socket.resume()
    await untilConverged([members[0], sleepy])
    assert.equal(sleepy.dials, 1)
    sleepy.destroy()
  }
  await check()
})

test('a client killed in the middle of a frame leaves nothing behind', async t => {
  const name = freshName('torn')
  const { members, check } = await bystanders(t, name)
  const doc = new Y.Doc()
  doc.getText('torn').insert(0, 'z'.repeat(5000))
  const frame = maskedFrame(Buffer.from(updateFrame(Y.encodeStateAsUpdate(doc))))

  for (const cut of [1, 2, 3, 7, 8, 9, 100, frame.length - 1]) {
    const socket = await upgradedSocket(`${node.url}/${name}?token=${node.token}`)
    socket.on('error', () => {})
    await new Promise(resolve => socket.write(maskedFrame(Buffer.from(emptyStep1)), resolve))
    await new Promise(resolve => socket.write(frame.subarray(0, cut), resolve))
    socket.resetAndDestroy()
  }
  await check()
  assert.ok(members.every(member => member.doc.getText('torn').length === 0))

  // The same frame, whole, does count: the halves were refused because they were halves.
  const socket = await upgradedSocket(`${node.url}/${name}?token=${node.token}`)
  t.after(() => socket.destroy())
  socket.write(Buffer.concat([maskedFrame(Buffer.from(emptyStep1)), frame]))
  await until(members, () => members.every(member => member.doc.getText('torn').length === 5000), 'the whole frame')
})

test('a frame that arrives byte by byte counts once it is whole', async t => {
  const name = freshName('dribble')
  const { members, check } = await bystanders(t, name)
  const doc = new Y.Doc()
  doc.getText('slow').insert(0, 'one byte at a time')
  const socket = await upgradedSocket(`${node.url}/${name}?token=${node.token}`)
  t.after(() => socket.destroy())
  socket.setNoDelay(true)
  const frames = [emptyStep1, updateFrame(Y.encodeStateAsUpdate(doc))].map(frame => maskedFrame(Buffer.from(frame)))
  for (const byte of Buffer.concat(frames)) {
    await new Promise(resolve => socket.write(Buffer.of(byte), resolve))
    await turns(1)
  }
  await until(members, () => members.every(member => member.doc.getText('slow').length === 18), 'the dribbled edit')
  await check()
})

test('an update that is none ends its sender alone (1007)', async t => {
  const name = freshName('malformed')
  const { check } = await bystanders(t, name)
  const malformed = [
    // One client, one struct, then nothing.
    [1, 1, 7, 0],
    // A count far beyond the bytes that follow.
    [0xff, 0xff, 0xff, 0xff, 0x0f, 1],
    // A struct whose string is cut off.
    [1, 1, 7, 0, 4, 1, 1, 116, 200, 97],
    // No structs, and the delete set is missing.
    [0],
  ]
  for (const update of malformed) {
    const raw = new RawClient(`${node.url}/${name}?token=${node.token}`)
    t.after(() => raw.destroy())
    await raw.untilOpen()
    raw.send(emptyStep1)
    raw.send(updateFrame(Uint8Array.from(update)))
    const { code } = await raw.untilClosed()
    assert.equal(code, 1007, `update ${update}`)
  }
  await check()
})
