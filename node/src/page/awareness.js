// Who is here, as the awareness protocol of Yjs says it: for each client id a clock and a state. No I/O and no clock of
// its own: times are given, in milliseconds.

import { Reader, Writer } from './wire.js'

/** A client says that it is still here this often. */
export const RENEW_MS = 15_000
/** Who was silent for longer is gone. */
export const EXPIRE_MS = 30_000

const randomId = () => crypto.getRandomValues(new Uint32Array(1))[0]

export class Awareness {
  /** This client's id; a new one for each page that is loaded. */
  id
  /** What this client says of itself; never null. */
  local = {}
  #clock = 0
  #saidAt = -Infinity
  /** Of other clients: id to `{clock, state, heardAt}`. `state` is null for one that is gone. */
  #others = new Map()

  constructor(id = randomId()) {
    this.id = id
  }

  /** Other clients that are here: `[id, state]`, in order of their ids. */
  others() {
    const here = [...this.#others].filter(([, { state }]) => state !== null)
    return here.map(([id, { state }]) => [id, state]).sort(([one], [other]) => one - other)
  }

  /** The body of a message that says this client's state anew, at a higher clock: others take nothing else. */
  say(now) {
    this.#clock += 1
    this.#saidAt = now
    return new Writer().varUint(1).varUint(this.id).varUint(this.#clock).varString(JSON.stringify(this.local)).finish()
  }

  needsRenewal(now) {
    return now - this.#saidAt >= RENEW_MS
  }

  /**
   * Takes in a message's body. Gives whether somebody else came, changed or went, and whether this client has to say its
   * state again because the others believe that it is gone.
   */
  hear(body, now) {
    const reader = new Reader(body)
    let changed = false
    let contradict = false
    for (let left = reader.varUint(); left > 0; left--) {
      const id = reader.varUint()
      const clock = reader.varUint()
      const state = JSON.parse(reader.varString())
      if (id !== this.id) {
        changed = this.#take(id, clock, state, now) || changed
      } else if (state === null && clock >= this.#clock) {
        this.#clock = clock
        contradict = true
      }
    }
    return { changed, contradict }
  }

  #take(id, clock, state, now) {
    const known = this.#others.get(id)
    const isNews = known === undefined || clock > known.clock || (clock === known.clock && state === null && known.state !== null)
    if (!isNews) return false
    this.#others.set(id, { clock, state, heardAt: now })
    return true
  }

  /** Lets go of those who were silent for too long; gives whether there was one. */
  expire(now) {
    let changed = false
    for (const [id, { state, heardAt }] of this.#others) {
      if (now - heardAt < EXPIRE_MS) continue
      this.#others.delete(id)
      changed ||= state !== null
    }
    return changed
  }

  /** The connection is gone, and with it what is known of others. */
  forgetOthers() {
    this.#others.clear()
  }
}
