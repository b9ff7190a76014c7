// Two nodes of one region, and what befalls them: a pause beyond the lease, the loss of Redis masters, death. Stock clients of all
// kinds are in one document throughout, those that came to another region by the documented lines among them.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import { KINDS, clientPool, freshName, isHocuspocus } from './lib/client.js'
import { startCluster } from './lib/cluster.js'
import { acknowledged, introduce, oneOfEach, untilGone, writeAll } from './lib/company.js'
import { contentOf, runSeed, untilConverged, writing } from './lib/edits.js'
import { observe, until } from './lib/wait.js'

const LEASE_MS = 4_000

let cluster
let region
let elsewhere
before(async () => {
  const leases = ['--set', `cluster.lease=${LEASE_MS}ms`, '--set', 'cluster.renew=1s', '--silence', '500']
  cluster = await startCluster(...leases)
  ;[region, elsewhere] = cluster.regions
})
after(() => cluster.stop())

const poolOf = t => clientPool(t, { url: region.url, token: cluster.token })

/** One client of each kind that comes to the other region, and follows its document. */
const followersOf = (clients, name) =>
  oneOfEach((kind, at) => clients.open(kind, name, { url: elsewhere.nodes[at % 2].url, follows: true }))

/** One client of each kind on each of a region's nodes. */
async function onBoth(clients, name, { nodes } = region) {
  const of = ({ url }) => oneOfEach(kind => clients.open(kind, name, { url }))
  const [first, second] = [await of(nodes[0]), await of(nodes[1])]
  return { first, second, all: [...first, ...second] }
}

test('clients on two nodes of a region see the edits and the awareness of each other', async t => {
  const clients = poolOf(t)
  const { first, second, all } = await onBoth(clients, freshName('region'))
  await introduce(all)
  const seed = runSeed()
  t.diagnostic(`PINWIRE_SEED=${seed}`)
  const stop = writing(all, seed)
  await observe(1_000)
  stop()
  await untilConverged(all)
  await acknowledged(all)
  const [leaver, ...others] = all
  await leaver.disconnect()
  await untilGone(others, [leaver])
  leaver.connect()
  await untilConverged(all)
  await until(second, () => second.every(member => member.sees(leaver) !== undefined), 'the leaver to be back')
  for (const member of [...first, ...second].filter(member => member !== leaver)) assert.equal(member.dials, 1, `${member}`)
})

test('a node that was stopped for longer than its lease, while all kinds write, loses no edit of anybody', async t => {
  const clients = poolOf(t)
  const name = freshName('stopped')
  const { second, all: local } = await onBoth(clients, name)
  const node = region.nodes[1]
  const followers = await followersOf(clients, name)
  const isThere = ({ line }) => line.socket.url.startsWith(node.url)
  const all = [...local, ...followers]
  await introduce(all)
  const seed = runSeed()
  t.diagnostic(`PINWIRE_SEED=${seed}`)
  const stop = writing(all, seed)
  t.after(stop)
  node.signal('SIGSTOP')
  t.after(() => node.signal('SIGCONT'))
  // The users of a node whose lease has run out are gone for the others, who go on.
  const gone = [...second, ...followers.filter(isThere)]
  const others = all.filter(member => !gone.includes(member))
  await untilGone(others, gone)
  await observe(LEASE_MS / 2)
  node.signal('SIGCONT')
  await observe(1_000)
  stop()
  await untilConverged(all, `convergence with PINWIRE_SEED=${seed}`)
  await acknowledged(all)
  await introduce(all)
})

test('the masters of Redis are killed while all kinds write: nobody loses an edit', async t => {
  const clients = poolOf(t)
  const name = freshName('failed-over')
  const { all: local } = await onBoth(clients, name)
  const all = [...local, ...(await followersOf(clients, name))]
  await introduce(all)
  const seed = runSeed()
  t.diagnostic(`PINWIRE_SEED=${seed}`)
  const stop = writing(all, seed)
  t.after(stop)
  region.redis.signal('SIGKILL')
  cluster.registry.signal('SIGKILL')
  await observe(LEASE_MS)
  stop()
  await untilConverged(all, `convergence with PINWIRE_SEED=${seed}`)
  await acknowledged(all)
  // What the new master has is all of it: whoever comes when they are gone has nothing from anybody else.
  const written = contentOf(all[0].doc)
  await Promise.all(all.map(client => client.disconnect()))
  const heir = clients.open(KINDS[0], name)
  await heir.untilSynced()
  assert.deepEqual(contentOf(heir.doc), written)
})

test('a region dies: clients that followed their document there come home by the documented lines, with every edit', async t => {
  const clients = poolOf(t)
  const name = freshName('orphaned')
  const holder = clients.open(KINDS[0], name)
  await holder.untilSynced()
  const followers = await oneOfEach(kind => clients.open(kind, name, { url: elsewhere.url, follows: true }))
  const isHome = ({ line }) => elsewhere.nodes.some(({ url }) => line.socket?.url.startsWith(url))
  assert.ok(!followers.some(isHome))
  writeAll(followers, 'before')
  await untilConverged([holder, ...followers])
  holder.halt()
  for (const node of region.nodes) node.signal('SIGKILL')
  await until(followers, () => !followers.some(({ synced }) => synced), 'everyone to have lost the region')
  writeAll(followers, 'after')
  // They are refused until the lease of the dead and the grace of the document are over, and paced meanwhile.
  const areHome = () => followers.every(follower => isHome(follower) && follower.synced)
  await until(followers, areHome, () => `all kinds to be home: ${followers.join('; ')}`, 60_000)
  await acknowledged(followers)
  const witness = clients.open(KINDS[0], name, { url: elsewhere.nodes[1].url })
  await untilConverged([...followers, witness])
  assert.equal(witness.doc.getMap('map').size, 2 * followers.length)
})

// The last, for it takes one of the last two nodes away.
test('a node is killed: its users disappear, and what it acknowledged is there', async t => {
  const clients = poolOf(t)
  const name = freshName('killed')
  const { first, second, all } = await onBoth(clients, name, elsewhere)
  await introduce(all)
  writeAll(second, 'last')
  await acknowledged(second)
  const keys = second.map((_, at) => `last-${at}`).filter((_, at) => isHocuspocus(second[at].kind))
  for (const member of second) member.halt()
  elsewhere.nodes[1].signal('SIGKILL')
  await untilGone(first, second)
  const heir = clients.open(KINDS[0], name, { url: elsewhere.url })
  await heir.untilSynced()
  for (const key of keys) assert.ok(heir.doc.getMap('map').has(key), `${key} was acknowledged`)
  await untilConverged([...first, heir])
  for (const member of first) assert.equal(member.dials, 1, `${member}`)
})
