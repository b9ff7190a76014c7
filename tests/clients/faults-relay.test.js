// Servers and networks fail while bare stock clients are carried to the region of their document.

import test from 'node:test'
import assert from 'node:assert/strict'
import { isHocuspocus } from './lib/client.js'
import { acknowledged, writeAll } from './lib/company.js'
import { runSeed, writing } from './lib/edits.js'
import { faults } from './lib/faults.js'
import { until } from './lib/wait.js'

const { company, untilSafe, cluster, cutOff } = faults({ isRelay: true })

test('the links between regions break, and come back: clients are let go, and carried again', async t => {
  const seed = runSeed()
  t.diagnostic(`PINWIRE_SEED=${seed}`)
  const { near, far, all } = await company(t, 'unlinked')
  const [here] = cluster().regions
  const stop = writing(all, seed)
  t.after(stop)
  await cluster().order(`cut ${here.name}/links`)
  const heal = () => cluster().order(`heal ${here.name}/links`)
  t.after(heal)
  writeAll(all, 'apart')
  await acknowledged(near)
  stop()
  // Nobody is told: the link is silent for as long as it may be.
  const areLost = () => far.every(({ closes }) => closes.length > 0)
  await until(far, areLost, () => `a close: ${far.join('; ')}`)
  for (const member of far) assert.equal(member.closes[0].code, 1012, `${member}`)
  // Hocuspocus 2.15 miscounts what is written while it dials; once it has, its socket stays open.
  const wait = far.filter(({ kind }) => isHocuspocus(kind))
  await until(wait, () => wait.every(({ connected }) => connected), () => `open sockets: ${wait.join('; ')}`)
  writeAll(all, 'later')
  await heal()
  await untilSafe(all, `convergence with PINWIRE_SEED=${seed}`)
  const map = near[0].doc.getMap('map')
  for (const what of ['apart', 'later']) {
    for (let at = 0; at < all.length; at++) assert.ok(map.has(`${what}-${at}`), `${what}-${at}`)
  }
  for (const member of near) assert.equal(member.dials, 1, `${member}`)
})

cutOff()
