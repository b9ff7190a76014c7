// What goes wrong with servers and networks while stock clients of all kinds write, the same for clients that are carried to the region
// of their document and for those that follow redirects: servers that are slow or begin again with nothing, a region that is cut off.

import test, { after, before } from 'node:test'
import assert from 'node:assert/strict'
import * as Y from 'yjs'
import { HOCUSPOCUS_KINDS, KINDS, clientPool, freshName, isHocuspocus } from './client.js'
import { startCluster } from './cluster.js'
import { acknowledged, introduce, oneOfEach, writeAll } from './company.js'
import { discover } from './documented.js'
import { contentOf, runSeed, untilConverged, writing } from './edits.js'
import { until, untilAnswer } from './wait.js'

const LATE_MS = 500
const SLOW_ROUNDS = 4
// A client notices after 30 s and a few looks that nothing comes; and then it may be refused until a grace is over.
const HOME_PATIENCE_MS = 90_000
const SETTINGS = ['cluster.lease=4s', 'cluster.renew=1s', 'deadlines.grace=3s']

/**
 * Registers the tests, for clients that are carried with `isRelay`, else for such as follow redirects. Gives what other tests of the file
 * may use: `company(t, label)`, and `cluster()`.
 */
export function faults({ isRelay }) {
  let cluster
  let here
  let there
  before(async () => {
    const set = SETTINGS.flatMap(setting => ['--set', setting])
    cluster = await startCluster('--lanes', ...(isRelay ? ['--relay'] : []), ...set)
    ;[here, there] = cluster.regions
  })
  after(() => cluster.stop())

  const poolOf = t => clientPool(t, { url: here.nodes[0].nearUrl, token: cluster.token })
  const isAt = ({ nodes }, { line }) =>
    nodes.some(({ url, nearUrl }) => line.socket?.url.startsWith(url) || line.socket?.url.startsWith(nearUrl))

  /** One client of each kind that dials a region's nodes by turns, from near, and finds its document wherever that is. */
  const from = (clients, region, name) =>
    oneOfEach((kind, at) => clients.open(kind, name, { url: region.nodes[at % 2].nearUrl, follows: !isRelay }))

  /** A document of `here` with one client of each kind on a node there, in the other region, and where that may be by discovery. */
  async function company(t, label) {
    const clients = poolOf(t)
    const name = freshName(label)
    const near = await oneOfEach(kind => clients.open(kind, name, { follows: !isRelay }))
    const far = await from(clients, there, name)
    if (!isRelay) {
      for (const member of far) assert.ok(isAt(here, member), `${member} has followed`)
      const url = await discover(there.nodes[1].nearHttpUrl, name, cluster.token)
      far.push(...(await oneOfEach(kind => clients.open(kind, name, { url, follows: true }))))
    } else {
      for (const member of far) assert.ok(isAt(there, member), `${member} is carried`)
    }
    const all = [...near, ...far]
    await introduce(all)
    return { clients, name, near, far, all }
  }

  /** Everybody has everything, and knows it to be safe. */
  async function untilSafe(members, what) {
    await untilConverged(members, what)
    await acknowledged(members)
  }

  /** Edits are under way, and some of everybody's are acknowledged. */
  async function untilSafeToLose(members) {
    const clocks = () => members.map(({ doc }) => Y.getState(doc.store, doc.clientID))
    const before = clocks()
    await until(members, () => clocks().every((clock, at) => clock > before[at]), 'everybody to have written')
    await acknowledged(members)
  }

  function seeded(t) {
    const seed = runSeed()
    t.diagnostic(`PINWIRE_SEED=${seed}`)
    return seed
  }

  const nodes = () => cluster.regions.flatMap(({ nodes }) => nodes)
  async function leaseLapses() {
    const of = async ({ nearHttpUrl }) => {
      const text = await (await fetch(`${nearHttpUrl}/metrics`)).text()
      return [...text.matchAll(/^pinwire_lease_lapses_total\S* (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0)
    }
    return (await Promise.all(nodes().map(of))).reduce((sum, count) => sum + count, 0)
  }

  const untilNobodyHas = name =>
    untilAnswer(
      async () => (await cluster.ask(nodes(), `/v1/documents/dev/dev/${name}`)).every(({ status }) => status === 404),
      `nobody to have ${name}`,
    )

  /** The region that has a document, as the registry says. */
  async function ownerOf(name) {
    const { pins } = await cluster.admin(here.nodes[0], '/v1/pins?limit=500')
    return pins.find(pin => pin.name === name)?.region
  }

  test('servers that answer half a second late: edits are acknowledged late, none is lost, and no node loses its lease', async t => {
    const { clients, all } = await company(t, 'slow')
    const before = await leaseLapses()
    const servers = ['registry', ...cluster.regions.map(({ name }) => name)]
    const delay = async ms => {
      for (const server of servers) await cluster.order(`delay ${server} ${ms}`)
    }
    t.after(() => delay(0))
    await delay(LATE_MS)
    for (let round = 0; round < SLOW_ROUNDS; round++) {
      const asked = performance.now()
      writeAll(all, `slow-${round}`)
      await acknowledged(all)
      // Or nothing was slow.
      if (HOCUSPOCUS_KINDS.length > 0) assert.ok(performance.now() - asked >= LATE_MS)
    }
    const late = await from(clients, there, freshName('opened-late'))
    writeAll(late, 'late')
    await untilSafe(late)
    await delay(0)
    await untilSafe(all)
    for (const { doc } of all) assert.equal(doc.getMap('map').size, SLOW_ROUNDS * all.length)
    assert.equal((await leaseLapses()) - before, 0)
  })

  test('the Redis of a region begins again with nothing: what is lost is what nobody has open', async t => {
    const seed = seeded(t)
    const { clients, name, all } = await company(t, 'emptied')
    const idle = freshName('idle')
    const leaver = clients.open(KINDS.at(-1), idle, { follows: !isRelay })
    await leaver.untilSynced()
    writeAll([leaver], 'idle')
    await untilSafe([leaver])
    await leaver.disconnect()
    await untilNobodyHas(idle)

    const stop = writing(all, seed)
    t.after(stop)
    await untilSafeToLose(all)
    const { keys } = await cluster.order(`restart ${here.name}`)
    assert.ok(keys > 0, 'it had something to lose')
    writeAll(all, 'meanwhile')
    await acknowledged(all)
    stop()
    await untilSafe(all, `convergence with PINWIRE_SEED=${seed}`)
    const written = contentOf(all[0].doc)
    for (let at = 0; at < all.length; at++) assert.ok(`meanwhile-${at}` in written.map)

    // The new server has all of it: whoever comes when they are gone has nothing from anybody else.
    await Promise.all(all.map(member => member.disconnect()))
    await untilNobodyHas(name)
    const heirs = await from(clients, here, name)
    for (const heir of heirs) assert.deepEqual(contentOf(heir.doc), written)
    // What nobody had open is gone until a client that has it comes back.
    const late = await from(clients, here, idle)
    for (const { doc } of late) assert.equal(doc.getMap('map').size, 0)
    leaver.connect()
    await untilSafe([leaver, ...late])
    for (const { doc } of late) assert.equal(doc.getMap('map').get('idle-0'), leaver.doc.clientID)
  })

  test('the registry begins again with nothing: documents stay where they are, and new ones are opened', async t => {
    const seed = seeded(t)
    const { clients, name, all } = await company(t, 'forgotten')
    const stop = writing(all, seed)
    t.after(stop)
    await untilSafeToLose(all)
    const { keys } = await cluster.order('restart registry')
    assert.ok(keys > 0, 'it had something to lose')
    writeAll(all, 'meanwhile')
    const next = await company(t, 'claimed-anew')
    writeAll(next.all, 'anew')
    await untilSafe(next.all)
    const late = await from(clients, there, name)
    stop()
    await untilSafe([...all, ...late], `convergence with PINWIRE_SEED=${seed}`)
    assert.equal(await ownerOf(name), here.name)
    assert.equal(await ownerOf(next.name), here.name)
  })

  return { company, untilSafe, cluster: () => cluster, cutOff }

  /** The region is cut off from everything but who is near, and comes back; the last test, for it takes the documents away from it. */
  function cutOff() {
    test('a region is cut off: whoever is not near takes the document elsewhere, whoever is brings it along later', async t => {
      const { clients, name, near, far, all } = await company(t, 'cut-off')
      // Clients in that region whose document is in the other one.
      const theirs = freshName('out-of-reach')
      const owners = await from(clients, there, theirs)
      const cut = await from(clients, here, theirs)
      const others = [...owners, ...cut]
      for (const members of [all, others]) {
        writeAll(members, 'before')
        await untilSafe(members)
      }
      // What was found by discovery has no other home: it is found anew below.
      const found = far.splice(KINDS.length)
      for (const client of found) client.destroy()

      await cluster.order(`cut ${here.name}`)
      const heal = () => cluster.order(`heal ${here.name}`)
      t.after(heal)
      const reports = () => [...near, ...far, ...others].join('\n  ')
      writeAll(near, 'near')
      writeAll(far, 'far')
      writeAll(owners, 'owners')
      writeAll(cut, 'cut')
      await until(far, () => far.every(member => isAt(there, member) && member.synced), reports, HOME_PATIENCE_MS)
      if (!isRelay) {
        const url = await discover(there.nodes[0].nearHttpUrl, name, cluster.token)
        assert.ok(there.nodes.some(node => node.url === url), `${url} is of ${there.name}`)
        far.push(...(await oneOfEach(kind => clients.open(kind, name, { url, follows: true }))))
      }
      await untilSafe(far)
      await untilSafe(owners)
      assert.equal(await cluster.ask(there.nodes, '/v1/pins?limit=500').then(regionIn(name)), there.name)

      // The others have their lease no more: they see each other's edits, and nothing is safe.
      writeAll(near, 'near-alone')
      await untilConverged(near)
      for (const member of near.filter(({ kind }) => isHocuspocus(kind))) assert.notEqual(member.unsynced, 0, `${member}`)
      const { document } = await cluster.admin(here.nodes[0], `/v1/documents/dev/dev/${name}`)
      assert.ok(document.is_adrift && document.claim !== undefined)

      await heal()
      const members = [...near, ...far]
      await until(members, () => members.every(member => member.synced), reports, HOME_PATIENCE_MS)
      await untilSafe(members)
      await untilSafe(others)
      await introduce(members)
      await introduce(others)
      const expected = ['before', 'near', 'near-alone', 'far'].flatMap(what => near.map((_, at) => `${what}-${at}`))
      for (const key of expected) assert.ok(members[0].doc.getMap('map').has(key), key)
      for (const what of ['owners', 'cut']) assert.ok(others[0].doc.getMap('map').has(`${what}-0`), what)
      if (isRelay) for (const member of [...members, ...others]) assert.deepEqual(member.denials.filter(isRedirect), [])
    })
  }
}

const isRedirect = reason => reason.startsWith('REDIRECT:')

const regionIn = name => answers =>
  answers.flatMap(({ body }) => body?.pins ?? []).find(pin => pin.name === name)?.region
