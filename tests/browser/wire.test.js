// The page's own encoding and awareness, beside the libraries that every other client uses.

import test from 'node:test'
import assert from 'node:assert/strict'
import * as encoding from 'lib0/encoding'
import * as Y from 'yjs'
import * as protocol from 'y-protocols/awareness'
import { Awareness, EXPIRE_MS, RENEW_MS } from '../../node/src/page/awareness.js'
import { Reader, Writer, readMessage } from '../../node/src/page/wire.js'

const stock = () => new protocol.Awareness(new Y.Doc())
const stateOf = (awareness, id) => awareness.getStates().get(id)

test('numbers and strings are encoded as lib0 does', () => {
  for (const number of [0, 1, 127, 128, 300, 2 ** 31, 2 ** 32, 2 ** 40 + 5, Number.MAX_SAFE_INTEGER]) {
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, number)
    const bytes = encoding.toUint8Array(encoder)
    assert.deepEqual(new Writer().varUint(number).finish(), bytes)
    assert.equal(new Reader(bytes).varUint(), number)
  }
  for (const text of ['', 'plain', 'née Ω 編集 🙂', 'x'.repeat(300)]) {
    const encoder = encoding.createEncoder()
    encoding.writeVarString(encoder, text)
    const bytes = encoding.toUint8Array(encoder)
    assert.deepEqual(new Writer().varString(text).finish(), bytes)
    assert.equal(new Reader(bytes).varString(), text)
  }
})

test('messages that end too early or hold too large a number throw, and nothing else', () => {
  for (const bytes of [[], [0], [0, 0], [0, 0, 5, 1], [1, 9], [0x80], Array(9).fill(0xff)]) {
    assert.throws(() => readMessage(Uint8Array.from(bytes)), RangeError)
  }
  assert.equal(readMessage(Uint8Array.of(77)), null)
})

test('what the page says of itself is what a stock client hears, and the other way round', () => {
  const ours = new Awareness()
  const theirs = stock()
  ours.local = { user: { name: 'Ann' } }
  protocol.applyAwarenessUpdate(theirs, ours.say(0), 'test')
  assert.deepEqual(stateOf(theirs, ours.id), { user: { name: 'Ann' } })
  ours.local = { user: { name: 'Anna' } }
  protocol.applyAwarenessUpdate(theirs, ours.say(1), 'test')
  assert.deepEqual(stateOf(theirs, ours.id), { user: { name: 'Anna' } })

  theirs.setLocalState({ user: { name: 'Ben' } })
  const update = protocol.encodeAwarenessUpdate(theirs, [theirs.clientID])
  assert.equal(ours.hear(update, 2).changed, true)
  assert.deepEqual(ours.others(), [[theirs.clientID, { user: { name: 'Ben' } }]])
  assert.equal(ours.hear(update, 3).changed, false, 'a clock that was not raised says nothing new')
  protocol.removeAwarenessStates(theirs, [theirs.clientID], 'test')
  assert.equal(ours.hear(protocol.encodeAwarenessUpdate(theirs, [theirs.clientID]), 4).changed, true)
  assert.deepEqual(ours.others(), [])
  theirs.destroy()
})

test('a client that others believe gone says its state at a higher clock', () => {
  const ours = new Awareness(7)
  ours.say(0)
  const removal = new Writer().varUint(1).varUint(7).varUint(1).varString('null').finish()
  const theirs = stock()
  protocol.applyAwarenessUpdate(theirs, removal, 'test')
  assert.equal(ours.hear(removal, 1).contradict, true)
  protocol.applyAwarenessUpdate(theirs, ours.say(2), 'test')
  assert.deepEqual(stateOf(theirs, 7), {})
  theirs.destroy()
})

test('a removal at the same clock counts, an older state does not bring anybody back', () => {
  const ours = new Awareness()
  const say = (clock, state) => new Writer().varUint(1).varUint(9).varUint(clock).varString(JSON.stringify(state)).finish()
  ours.hear(say(5, {}), 0)
  assert.equal(ours.hear(say(5, null), 1).changed, true)
  assert.equal(ours.hear(say(5, {}), 2).changed, false)
  assert.equal(ours.hear(say(6, {}), 3).changed, true)
})

test('states are renewed in time, and those that are not are let go', () => {
  const ours = new Awareness()
  const other = new Awareness()
  assert.equal(ours.needsRenewal(0), true)
  ours.say(0)
  assert.equal(ours.needsRenewal(RENEW_MS - 1), false)
  assert.equal(ours.needsRenewal(RENEW_MS), true)
  ours.hear(other.say(0), 0)
  assert.equal(ours.expire(EXPIRE_MS - 1), false)
  assert.equal(ours.others().length, 1)
  assert.equal(ours.expire(EXPIRE_MS), true)
  assert.equal(ours.others().length, 0)
})
