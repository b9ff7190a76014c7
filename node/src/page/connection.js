// One document's connection: it dials, measures, waits and dials again, as docs/close-codes.md says.

import { NOTHING, readMessage, step1 } from './wire.js'

const FIRST_WAIT_MS = 500
const LONGEST_WAIT_MS = 10_000
/** However long the node asks for. */
const LONGEST_ASKED_WAIT_MS = 60_000
const PROBE_EVERY_MS = 2_000
/** A probe without an answer for this long means that the connection is dead. */
const PROBE_PATIENCE_MS = 10_000
const ACCESS_PATIENCE_MS = 5_000
const CLOSED_BY_US = 1000
/** Times that a token may be refused before a person has to look at it: a node may have restarted between giving and taking it. */
const TOKENS_REFUSED_MAX = 2

/**
 * Emits `state` whenever `state` is another one, `message` with what the node said, and `roundTrip` in milliseconds.
 *
 * | phase | meaning |
 * | --- | --- |
 * | `connecting` | dialling, or waiting for the node's first answer |
 * | `open` | the node answered |
 * | `waiting` | dials again at `until` (of `performance.now()`); `why` |
 * | `refused` | stays away until `retry()`; `why` |
 * | `left` | closed by this page |
 */
export class Connection extends EventTarget {
  state = { phase: 'left' }
  #document
  #getAccess
  #socket = null
  #attempt = 0
  #tokensRefused = 0
  #timer = null
  #probeTimer = null
  #probedAt = null
  #stateVector = NOTHING
  /** Counts dials, so that what comes late of an earlier one is known. */
  #dial = 0

  /** `getAccess(signal)` asks the node for `{url, token, closes}`. */
  constructor(document, getAccess) {
    super()
    this.#document = document
    this.#getAccess = getAccess
  }

  /** Dials now, whatever was waited for. */
  retry() {
    this.#end()
    this.#tokensRefused = 0
    this.#open()
  }

  leave() {
    this.#end()
    this.#become({ phase: 'left' })
  }

  send(bytes) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(bytes)
  }

  async #open() {
    const dial = ++this.#dial
    this.#become({ phase: 'connecting' })
    let access
    try {
      access = await this.#getAccess(AbortSignal.timeout(ACCESS_PATIENCE_MS))
    } catch {
      if (dial === this.#dial) this.#wait('The node does not answer.')
      return
    }
    if (dial !== this.#dial) return
    // `refuse=close` makes a refusal for lack of room a close code: code in a browser can read nothing else.
    const url = `${access.url}/${encodeURIComponent(this.#document)}?refuse=close`
    const socket = new WebSocket(url, ['access_token', access.token])
    socket.binaryType = 'arraybuffer'
    socket.onopen = () => this.#probe()
    socket.onmessage = ({ data }) => this.#heard(new Uint8Array(data))
    socket.onclose = ({ code, reason }) => this.#closed(code, reason, access.closes)
    this.#socket = socket
  }

  #heard(bytes) {
    let message
    try {
      message = readMessage(bytes)
    } catch {
      return
    }
    if (this.state.phase !== 'open') {
      this.#attempt = 0
      this.#tokensRefused = 0
      this.#become({ phase: 'open' })
    }
    if (message?.type === 'step1') this.#stateVector = message.stateVector
    if (message?.type === 'step2') this.#answered()
    if (message !== null) this.dispatchEvent(new CustomEvent('message', { detail: message }))
  }

  /**
   * Step 1: the answer is the way through the document and back. The first brings the document whole, each later one, with
   * the state vector that the node sent, only what is new.
   */
  #probe() {
    this.#probedAt = performance.now()
    this.send(step1(this.#stateVector))
    this.#probeTimer = setTimeout(() => this.#lost('The node did not answer for 10 s.'), PROBE_PATIENCE_MS)
  }

  #answered() {
    if (this.#probedAt === null) return
    const roundTrip = performance.now() - this.#probedAt
    this.#probedAt = null
    clearTimeout(this.#probeTimer)
    this.#probeTimer = setTimeout(() => this.#probe(), PROBE_EVERY_MS)
    this.dispatchEvent(new CustomEvent('roundTrip', { detail: roundTrip }))
  }

  #closed(code, reason, closes) {
    const known = closes[code]
    const why = reason || known?.name || 'The connection was lost.'
    const asked = /^retry_ms=(\d+)$/.exec(reason)
    this.#end()
    if (asked !== null) {
      this.#wait('The node has no room now.', Math.min(Number(asked[1]), LONGEST_ASKED_WAIT_MS))
    } else if (known?.comeback === 'no' || known?.comeback === 'elsewhere') {
      this.#become({ phase: 'refused', code, why })
    } else if (known?.comeback === 'token' && ++this.#tokensRefused >= TOKENS_REFUSED_MAX) {
      this.#become({ phase: 'refused', code, why })
    } else {
      this.#wait(why)
    }
  }

  #lost(why) {
    this.#end()
    this.#wait(why)
  }

  /** Half of the pause is jitter, so that tabs that lost a node together do not come back together. */
  #wait(why, pause) {
    const longest = Math.min(FIRST_WAIT_MS * 2 ** this.#attempt, LONGEST_WAIT_MS)
    this.#attempt += 1
    pause ??= (longest * (1 + Math.random())) / 2
    this.#timer = setTimeout(() => this.#open(), pause)
    this.#become({ phase: 'waiting', why, until: performance.now() + pause })
  }

  /** Whatever runs ends; a socket that is still there is closed without waiting for its peer. */
  #end() {
    this.#dial += 1
    clearTimeout(this.#timer)
    clearTimeout(this.#probeTimer)
    this.#probedAt = null
    this.#stateVector = NOTHING
    if (this.#socket === null) return
    const socket = this.#socket
    this.#socket = null
    socket.onopen = socket.onmessage = socket.onclose = null
    socket.close(CLOSED_BY_US)
  }

  #become(state) {
    this.state = state
    this.dispatchEvent(new Event('state'))
  }
}
