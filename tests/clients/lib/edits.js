// Seeded random edits, and what it means that documents are the same.

import assert from 'node:assert/strict'
import * as Y from 'yjs'
import { repeatedly, until } from './wait.js'

const WRITE_EVERY_MS = 50

/** A small seeded generator (mulberry32). */
export function prng(seed) {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    below: bound => Math.floor(next() * bound),
    chance: probability => next() < probability,
    pick: list => list[Math.floor(next() * list.length)],
  }
}

/** The seed of this run: PINWIRE_SEED to replay one, else a new one. The test prints it. */
export const runSeed = () => Number(process.env.PINWIRE_SEED ?? Math.floor(Math.random() * 2 ** 32))

const WORDS = ['pin ', 'wire ', 'Ω ', 'née ', '編集 ', '🙂 ', '\n']

/** One random edit of the text, the map, the array or a nested type. */
export function randomEdit(rng, doc) {
  const text = doc.getText('text')
  const map = doc.getMap('map')
  const array = doc.getArray('array')
  const edits = [
    () => text.insert(rng.below(text.length + 1), rng.pick(WORDS).repeat(1 + rng.below(4))),
    () => text.insert(rng.below(text.length + 1), rng.pick(WORDS), { bold: rng.chance(0.5) }),
    () => {
      if (text.length === 0) return
      const at = rng.below(text.length)
      text.delete(at, 1 + rng.below(Math.min(8, text.length - at)))
    },
    () => map.set(`key-${rng.below(12)}`, { by: doc.clientID, at: rng.below(1000) }),
    () => map.delete(`key-${rng.below(12)}`),
    () => array.insert(rng.below(array.length + 1), [rng.below(1000), rng.pick(WORDS)]),
    () => {
      if (array.length > 0) array.delete(rng.below(array.length), 1)
    },
    () => {
      const nested = map.get('nested')
      if (nested instanceof Y.Array) nested.push([rng.below(1000)])
      else map.set('nested', new Y.Array())
    },
    // Several changes in one transaction make one update.
    () =>
      doc.transact(() => {
        array.push([new Y.Map([['of', doc.clientID]])])
        map.set(`pair-${rng.below(4)}`, array.length)
        text.insert(0, '[')
      }),
  ]
  rng.pick(edits)()
}

/** Has all members write at random until the function that it gives is called. */
export function writing(members, seed) {
  const rngs = members.map((_, at) => prng(seed + at))
  return repeatedly(WRITE_EVERY_MS, () => members.forEach(({ doc }, at) => randomEdit(rngs[at], doc)))
}

/** What a user would see. */
export const contentOf = doc => ({
  text: doc.getText('text').toDelta(),
  map: doc.getMap('map').toJSON(),
  array: doc.getArray('array').toJSON(),
})

/** Same structs and same deletions, so the same for ever whatever comes next. */
const sameState = (one, other) => Y.equalSnapshots(Y.snapshot(one), Y.snapshot(other))

/** How the members of `clients` differ from the first: state vectors, deletions, updates that lack what they build on. */
function differences(clients) {
  const describe = ({ doc }) => {
    const { ds, sv } = Y.snapshot(doc)
    const deleted = [...ds.clients.values()].flat().reduce((sum, { len }) => sum + len, 0)
    const known = [...sv].sort(([one], [other]) => one - other).map(([id, clock]) => `${id}:${clock}`)
    return `${known.join(' ')} deleted ${deleted}${doc.store.pendingStructs === null ? '' : ' pending'}`
  }
  return clients.map(client => `\n  ${client}\n    ${describe(client)}`).join('')
}

/** Waits until all clients are synced and their documents are the same, then compares what a user would see. */
export async function untilConverged(clients, what = 'the documents to converge') {
  const [first, ...rest] = clients
  const converged = () => clients.every(client => client.synced) && rest.every(({ doc }) => sameState(first.doc, doc))
  await until(clients, converged, () => `${what}:${differences(clients)}`, 60_000)
  for (const { doc } of rest) assert.deepEqual(contentOf(doc), contentOf(first.doc))
}
