// Tokens: where they may stand, what they allow, and how each refusal looks to each kind of client.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import * as Y from 'yjs'
import { HOCUSPOCUS_KINDS, KINDS, Y_WEBSOCKET_KINDS, clientPool, freshName, isHocuspocus } from './lib/client.js'
import { RawClient, emptyStep1 } from './lib/raw.js'
import { startNode } from './lib/node.js'
import { seconds } from './lib/token.js'
import { until } from './lib/wait.js'

const CLOSE_REASON_BYTES_MAX = 123

let node
before(async () => {
  node = await startNode()
})
after(() => node.stop())

/** Waits for the refusal as this kind of client is told it, and gives `{code, reason}`; Hocuspocus has no code. */
async function refusal(client) {
  if (isHocuspocus(client.kind)) {
    await client.until(() => client.denials.length > 0, 'authenticationFailed')
    assert.equal(client.connected, true, 'a Hocuspocus socket is not closed in order to refuse')
    return { reason: client.denials[0] }
  }
  await client.until(() => client.closes.length > 0, 'a close')
  const { code, reason } = client.closes[0]
  assert.ok(Buffer.byteLength(reason) <= CLOSE_REASON_BYTES_MAX)
  return { code, reason }
}

const REFUSALS = {
  'no token': { code: 4001, options: () => ({ token: undefined }) },
  'an expired token': { code: 4002, options: () => ({ token: node.tokens.sign({ exp: seconds() - 3600 }) }) },
  'a token that is not valid yet': { code: 4002, options: () => ({ token: node.tokens.sign({ nbf: seconds() + 3600 }) }) },
  'a bad signature': { code: 4002, options: () => ({ token: node.tokens.sign({}, 'another secret entirely') }) },
  'alg none': { code: 4002, options: () => ({ token: node.tokens.unsigned() }) },
  'no JWT at all': { code: 4002, options: () => ({ token: 'not.a.token' }) },
  'another audience': { code: 4002, options: () => ({ token: node.tokens.sign({ aud: 'somebody-else' }) }) },
  'another scope': { code: 4002, options: () => ({ token: node.tokens.sign({ scope: 'offline_access' }) }) },
  'a document outside its patterns': { code: 4003, options: () => ({ token: node.tokens.sign({ documents: ['notes-*'] }) }) },
  'a region outside its regions': { code: 4003, options: () => ({ token: node.tokens.sign({ regions: ['nowhere-9'] }) }) },
  'an unknown dbCode': { code: 4003, options: () => ({ token: node.tokens.sign({ dbCode: 'aws-nowhere-9' }) }) },
  'a foreign Origin': {
    code: 4003,
    options: () => ({
      token: node.tokens.sign({ allowed_domain_1: 'example.com' }),
      origin: 'https://example.com.evil.example',
    }),
  },
}

for (const kind of KINDS) {
  for (const [what, { code, options }] of Object.entries(REFUSALS)) {
    test(`${kind} with ${what} is refused (${code})`, async t => {
      const client = clientPool(t, node).open(kind, freshName('refused'), options())
      const told = await refusal(client)
      assert.ok(told.reason.length > 0, 'a refusal has a reason')
      if (!isHocuspocus(kind)) assert.equal(told.code, code)
      assert.equal(client.synced, false)
    })
  }

  test(`${kind} with an invalid document name is refused (4007)`, async t => {
    const clients = clientPool(t, node)
    for (const name of ['spaced%20name', 'x'.repeat(256), 'a*b']) {
      const client = clients.open(kind, name)
      const told = await refusal(client)
      assert.ok(told.reason.length > 0)
      if (!isHocuspocus(kind)) assert.equal(told.code, 4007, name)
    }
  })

  test(`${kind} is let in with its Origin among the allowed ones, with a matching pattern and region`, async t => {
    const clients = clientPool(t, node)
    const claims = {
      allowed_domain_1: 'other.example',
      allowed_domain_2: 'localhost:3000',
      documents: ['notes-*'],
      regions: [node.region],
    }
    const token = node.tokens.sign(claims)
    const client = clients.open(kind, freshName('notes'), { token, origin: 'http://localhost:3000' })
    await client.untilSynced()
  })

  test(`${kind} may carry its token in the query or in a subprotocol`, async t => {
    const clients = clientPool(t, node)
    for (const [tokenVia, protocol] of [['query', ''], ['subprotocol', 'access_token'], ['bearer', 'Bearer']]) {
      const client = clients.open(kind, freshName(), { tokenVia })
      await client.untilSynced()
      assert.equal(client.line.socket.protocol, protocol)
    }
  })

  test(`a readonly ${kind} reads, and its edits reach nobody`, async t => {
    const clients = clientPool(t, node)
    const name = freshName('readonly')
    const writer = clients.open(KINDS[0], name)
    const reader = clients.open(kind, name, { token: node.tokens.sign({ access: 'readonly' }) })
    await Promise.all([writer.untilSynced(), reader.untilSynced()])
    writer.doc.getMap('map').set('written', 1)
    await reader.until(() => reader.doc.getMap('map').get('written') === 1, 'what others write')

    if (isHocuspocus(kind)) {
      assert.equal(reader.scopes.at(-1), 'readonly')
      // It brought nothing new, so there is nothing that is not safe.
      await reader.untilAcknowledged()
    }
    reader.doc.getMap('map').set('forbidden', 1)
    // What follows on the same connection was handled after the edit.
    reader.awareness.setLocalState({ after: 'the edit' })
    await writer.until(() => writer.sees(reader)?.after === 'the edit', 'the awareness sent after the edit')
    const late = clients.open(KINDS.at(-1), name)
    await late.untilSynced()
    assert.deepEqual([writer, late].map(({ doc }) => doc.getMap('map').toJSON()), [{ written: 1 }, { written: 1 }])

    if (isHocuspocus(kind)) assert.equal(reader.unsynced, 1, 'a change that was refused is never acknowledged')
    assert.equal(reader.dials, 1)
  })

  test(`a readonly ${kind} cannot bring what it wrote offline`, async t => {
    const clients = clientPool(t, node)
    const name = freshName('readonly')
    const doc = new Y.Doc()
    doc.getMap('map').set('forbidden', 1)
    const reader = clients.open(kind, name, { doc, token: node.tokens.sign({ access: 'readonly' }) })
    const witness = clients.open(KINDS[0], name)
    await Promise.all([reader.untilSynced(), witness.untilSynced()])
    reader.awareness.setLocalState({ after: 'the sync' })
    await witness.until(() => witness.sees(reader)?.after === 'the sync', 'the awareness sent after the sync')
    assert.equal(witness.doc.getMap('map').has('forbidden'), false)
    if (isHocuspocus(kind)) assert.ok(reader.unsynced > 0)
  })
}

for (const kind of HOCUSPOCUS_KINDS) {
  test(`${kind} is told its scope, and an in-band token decides over the handshake's`, async t => {
    const clients = clientPool(t, node)
    const both = clients.socket(kind, { urlToken: node.tokens.sign({ access: 'readonly' }) })
    const writer = both.open(freshName(), { token: node.token })
    await writer.untilAcknowledged()
    assert.equal(writer.scopes.at(-1), 'read-write')

    // An empty or missing one falls back to the handshake's.
    const fallback = both.open(freshName(), { token: null })
    await fallback.untilSynced()
    fallback.doc.getMap('map').set('forbidden', 1)
    const witness = clients.open(KINDS[0], fallback.name)
    fallback.awareness.setLocalState({ after: 'the edit' })
    await witness.until(() => witness.sees(fallback)?.after === 'the edit', 'the awareness sent after the edit')
    assert.equal(witness.doc.getMap('map').has('forbidden'), false)

    const refused = both.open(freshName(), { token: node.tokens.sign({}, 'another secret entirely') })
    assert.ok((await refusal(refused)).reason.length > 0)
  })

  test(`${kind} may use tokens of one app only on a socket`, async t => {
    const clients = clientPool(t, node)
    const socket = clients.socket(kind)
    const first = socket.open(freshName())
    await first.untilSynced()
    const foreign = socket.open(freshName(), { token: node.tokens.limited({}) })
    assert.ok((await refusal(foreign)).reason.length > 0)
    assert.equal(first.synced, true)
  })
}

for (const kind of Y_WEBSOCKET_KINDS) {
  test(`a refused ${kind} handshake that offers subprotocols is answered with one`, async t => {
    const clients = clientPool(t, node)
    for (const [tokenVia, protocol] of [['subprotocol', 'access_token'], ['bearer', 'Bearer']]) {
      const client = clients.open(kind, freshName(), { tokenVia, token: node.tokens.sign({ exp: seconds() - 3600 }) })
      await client.until(() => client.closes.length > 0, 'a close')
      assert.deepEqual({ code: client.closes[0].code, protocol: client.closes[0].protocol }, { code: 4002, protocol })
    }
  })
}

test('a token in the Authorization header lets in', async t => {
  const raw = new RawClient(`${node.url}/${freshName()}`, { headers: { Authorization: `Bearer ${node.token}` } })
  t.after(() => raw.destroy())
  await raw.untilOpen()
  raw.send(emptyStep1)
  await raw.until(() => raw.frames.some(frame => frame[0] === 0 && frame[1] === 1), 'step 2')
})

test('other subprotocols are answered with the first, also without a token (4001)', async t => {
  const raw = new RawClient(`${node.url}/${freshName()}`, { protocols: ['yjs', 'other'] })
  t.after(() => raw.destroy())
  await raw.untilOpen()
  assert.equal(raw.socket.protocol, 'yjs')
  raw.send(emptyStep1)
  assert.equal((await raw.untilClosed()).code, 4001)
})

test('a socket that sends nothing and has no token is refused at a deadline (4001)', async t => {
  const raw = new RawClient(`${node.url}/${freshName()}`)
  t.after(() => raw.destroy())
  assert.equal((await raw.untilClosed()).code, 4001)
})

test('text on a document is refused (1003), first or later', async t => {
  const name = freshName()
  const url = `${node.url}/${name}?token=${node.token}`
  const [first, later] = [new RawClient(url), new RawClient(url)]
  t.after(() => [first, later].forEach(raw => raw.destroy()))
  await Promise.all([first.untilOpen(), later.untilOpen()])
  first.send('hello')
  assert.equal((await first.untilClosed()).code, 1003)
  later.send(emptyStep1)
  await until([later], () => later.frames.length > 0, 'an answer')
  later.send('hello')
  assert.equal((await later.untilClosed()).code, 1003)
})

test('y-websocket frames without a document in the path are refused (4007)', async t => {
  const raw = new RawClient(`${node.url}/?token=${node.token}`)
  t.after(() => raw.destroy())
  await raw.untilOpen()
  raw.send(emptyStep1)
  assert.equal((await raw.untilClosed()).code, 4007)
})
