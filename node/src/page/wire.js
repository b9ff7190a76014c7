// The y-websocket dialect as far as this page speaks it: lib0 numbers and strings, sync and awareness messages.

const SYNC = 0
const AWARENESS = 1
const QUERY_AWARENESS = 3
const STEP_1 = 0
const STEP_2 = 1

const utf8Encoder = new TextEncoder()
const utf8Decoder = new TextDecoder()

/** Bytes in the making. */
export class Writer {
  #bytes = []

  /** 7 bits a byte, low bits first; the high bit says that more follow. */
  varUint(number) {
    while (number > 0x7f) {
      this.#bytes.push((number % 0x80) | 0x80)
      number = Math.floor(number / 0x80)
    }
    this.#bytes.push(number)
    return this
  }

  varBytes(bytes) {
    this.varUint(bytes.length)
    for (const byte of bytes) this.#bytes.push(byte)
    return this
  }

  varString(text) {
    return this.varBytes(utf8Encoder.encode(text))
  }

  finish() {
    return Uint8Array.from(this.#bytes)
  }
}

/** Bytes being read; throws a RangeError where they end too early or a number is too large. */
export class Reader {
  #bytes
  #at = 0

  constructor(bytes) {
    this.#bytes = bytes
  }

  varUint() {
    let number = 0
    let factor = 1
    for (;;) {
      if (this.#at >= this.#bytes.length) throw new RangeError('the message ends inside a number')
      const byte = this.#bytes[this.#at++]
      number += (byte & 0x7f) * factor
      if (number > Number.MAX_SAFE_INTEGER) throw new RangeError('a number is too large')
      if (byte < 0x80) return number
      factor *= 0x80
    }
  }

  varBytes() {
    const length = this.varUint()
    const end = this.#at + length
    if (end > this.#bytes.length) throw new RangeError('the message ends inside bytes')
    const bytes = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return bytes
  }

  varString() {
    return utf8Decoder.decode(this.varBytes())
  }
}

/** The state vector of somebody who has nothing. */
export const NOTHING = Uint8Array.of(0)

/** "This is what I have"; the node answers with what is missing. */
export const step1 = stateVector => new Writer().varUint(SYNC).varUint(STEP_1).varBytes(stateVector).finish()

export const awarenessMessage = body => new Writer().varUint(AWARENESS).varBytes(body).finish()

/** What a message of the node says, or `null` where it is none of this page's business. */
export function readMessage(bytes) {
  const reader = new Reader(bytes)
  switch (reader.varUint()) {
    case SYNC:
      switch (reader.varUint()) {
        case STEP_1:
          return { type: 'step1', stateVector: reader.varBytes().slice() }
        case STEP_2:
          return { type: 'step2' }
        default:
          return { type: 'edit' }
      }
    case AWARENESS:
      return { type: 'awareness', body: reader.varBytes() }
    case QUERY_AWARENESS:
      return { type: 'queryAwareness' }
    default:
      return null
  }
}
